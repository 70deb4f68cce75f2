"""What can go wrong, grouped by what the caller would do about it.

The lowest floor: everything may import it, it imports nothing. Every error has a stable ``kind``
(append-only), an exit code for the command line and an HTTP status for the server. A message says
what happened and to which thing; ``hint`` says what to do next.
"""

from typing import ClassVar


class HartonomousError(Exception):
    """Base of every error that Hartonomous raises on purpose."""

    kind: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint is not None:
            self.add_note(f"hint: {hint}")  # which a traceback shows


class UsageError(HartonomousError):
    """An argument is wrong; the message names it, its value and the remedy."""

    kind = "usage"
    exit_code = 2
    http_status = 400


class AmbiguousNameError(UsageError):
    """A name or digest prefix fits several things."""

    kind = "ambiguous-name"
    http_status = 409


class NotFoundError(HartonomousError):
    """No artifact, version, tensor, label or file of that name."""

    kind = "not-found"
    http_status = 404


class NoStoreError(HartonomousError):
    """There is no store at the place named or found."""

    kind = "no-store"
    exit_code = 10
    http_status = 503


class UnreachableError(HartonomousError):
    """The server that has the catalog cannot be reached, or went away; the same may do later."""

    kind = "unreachable"
    exit_code = 75  # sysexits.h: a temporary failure
    http_status = 503


class ConflictError(HartonomousError):
    """The change collides with what is there: a taken name, an existing output file."""

    kind = "conflict"
    exit_code = 11
    http_status = 409


class LockedError(ConflictError):
    """Another process holds the store, or the database stayed busy past the limit."""

    kind = "locked"
    http_status = 423


class IntegrityError(HartonomousError):
    """Stored bytes are not what they were: damage, a wrong digest, a missing pack."""

    kind = "integrity"
    exit_code = 4


class DangerError(HartonomousError):
    """A scan found what does harm where it is loaded; the files themselves are whole."""

    kind = "danger"
    exit_code = 4
    http_status = 422


class PartlyDoneError(HartonomousError):
    """Some of the things asked for were done, others failed; the message counts both."""

    kind = "partly-done"
    exit_code = 3


class UnsupportedStoreError(HartonomousError):
    """The store, or a pack in it, needs a feature that this program does not know."""

    kind = "unsupported-store"
    exit_code = 1


class SourceChangedError(HartonomousError):
    """A source file changed while it was being read; nothing of it was kept."""

    kind = "source-changed"
    http_status = 409


class StorageFullError(HartonomousError):
    """The disk, a quota or a size cap leaves no room for what was asked."""

    kind = "storage-full"
    http_status = 507


class ObjectExistsError(ConflictError):
    """An object of that key is already there; objects are never overwritten."""

    kind = "object-exists"


class StructureError(HartonomousError):
    """A file does not hold the structure that its format promises.

    Raised by parsers only. It costs a warning: the bytes are kept as opaque.
    """

    kind = "structure"
    http_status = 422


class LimitError(StructureError):
    """A file asks for more than a parser grants (size, depth, count, time, memory)."""

    kind = "limit"


class DecodeError(IntegrityError):
    """An encoded frame cannot be decoded: it is damaged or was never valid."""

    kind = "decode"


class InterruptedWorkError(HartonomousError):
    """The user or a time limit ended the work; the store is whole."""

    kind = "interrupted"
    exit_code = 130


def all_kinds() -> dict[str, type[HartonomousError]]:
    """Return every error class by its ``kind``; kinds are unique."""
    found: dict[str, type[HartonomousError]] = {}
    waiting: list[type[HartonomousError]] = [HartonomousError]
    while waiting:
        cls = waiting.pop()
        found.setdefault(cls.kind, cls)  # a narrower class may share its parent's kind
        waiting.extend(cls.__subclasses__())
    return found
