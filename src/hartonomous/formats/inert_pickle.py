"""Reads pickles of protocols 0 to 5 without loading them.

Python's unpickler is a machine that imports names and calls them as the file says. This one runs
the same opcodes (CPython, Lib/pickletools.py) and imports, calls and opens nothing: names, calls
and persistent ids become the values of ``formats/pickle_values.py``. All that was named is listed,
so that others can say what loading would do. Work and memory are bounded by the counts below;
lengths are held against the file before anything is read or made.

Refused: opcodes that no protocol has, and out-of-band buffers, which need a second file.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hartonomous.errors import LimitError, StructureError
from hartonomous.formats.pickle_scalars import (
    binary_integer,
    decimal_float,
    decimal_integer,
    decimal_or_bool,
    escaped_text,
    memo_index,
    old_text,
    quoted_text,
    refuse,
    utf8,
)
from hartonomous.formats.pickle_values import Call, Global, Group, Mapping, Persistent, Value
from hartonomous.ports.format import RangeReader

PICKLE_LIMIT_BYTES = 32 << 20
OPCODE_LIMIT = 3_000_000
OBJECT_LIMIT = 600_000
"""Containers, names and calls together."""
MEMO_LIMIT = 600_000
"""Entries of the memo that are there, whatever their numbers."""
STACK_LIMIT = 1_000_000
MARK_LIMIT = 1_000
"""Containers that are open at the same time."""
TEXT_LIMIT_BYTES = 16 << 20
LINE_LIMIT_BYTES = 1_024
GLOBAL_LIMIT = 4_096
"""Different names."""
PROTOCOL_LIMIT = 5

CHANGED = " (changed)"
"""Ends a listed name whose object would itself be changed, for the rest of the process."""
BUILT_NAME = Global("(built while loading)", "(unknown)")
"""Stands for a name that is no text of the file but a result of calls."""

_FIRST_READ = 8 << 10  # what is read beyond a pickle counts in an estimate
_LARGEST_READ = 4 << 20
_CHECK_EVERY = 4096
_STOP = ord(".")

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_F64 = struct.Struct(">d")


class Pickle(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one pickle holds: its value, the names and persistent ids in it, and where it ends."""

    value: Value
    globals: tuple[Global, ...]
    persistent: tuple[Persistent, ...]
    protocol: int
    end: int


def read_pickle(reader: RangeReader, offset: int = 0, *, end: int | None = None) -> Pickle:
    """Return what the pickle at ``offset`` holds; it ends at its STOP, before ``end``.

    Raises StructureError when it is none, LimitError past the limits above.
    """
    machine = _Machine(reader, offset, reader.size if end is None else end)
    return Pickle(
        value=machine.run(),
        globals=tuple(machine.globals.values()),
        persistent=tuple(machine.persistent),
        protocol=machine.protocol,
        end=machine.position,
    )


class Names(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The names in one pickle as far as it can be read; ``error`` says why not to its end."""

    globals: tuple[Global, ...]
    protocol: int
    end: int
    error: str | None


AfterBuild = Callable[["_Machine", Call], None]
"""Is told of each object that has been given its state: joblib lays arrays behind some."""


def read_names(
    reader: RangeReader, offset: int = 0, *, after_build: AfterBuild | None = None
) -> Names:
    """Return what the pickle at ``offset`` names, also if it breaks off or goes past a limit."""
    machine = _Machine(reader, offset, reader.size, after_build=after_build)
    error = None
    try:
        machine.run()
    except StructureError as refused:
        error = refused.message
    return Names(
        globals=tuple(machine.globals.values()),
        protocol=machine.protocol,
        end=machine.position,
        error=error,
    )


class _Machine:
    """The state of one reading: the stack, what lies below its marks, the memo."""

    def __init__(
        self,
        reader: RangeReader,
        offset: int,
        end: int,
        *,
        after_build: AfterBuild | None = None,
    ) -> None:
        self._reader = reader
        self._after_build = after_build
        self._base = offset
        self._file_end = end
        self._length = min(end - offset, PICKLE_LIMIT_BYTES)
        self._cut = end - offset > PICKLE_LIMIT_BYTES
        self._content = b""
        self._at = 0
        self._next_read = _FIRST_READ
        self._stack: list[Value] = []
        self._below: list[list[Value]] = []
        self._memo: dict[int, Value] = {}
        self._objects = 0
        self.globals: dict[tuple[str, str], Global] = {}
        self.persistent: list[Persistent] = []
        self.protocol = 0

    @property
    def position(self) -> int:
        """Where the next byte lies in the file."""
        return self._base + self._at

    def run(self) -> Value:
        """Run to STOP and return what it leaves."""
        for count in range(OPCODE_LIMIT):
            if self._at >= len(self._content):
                self._fill(self._at + 1)
            code = self._content[self._at]
            self._at += 1
            if code == _STOP:
                return self._pop()
            action = _ACTIONS.get(code)
            if action is None:
                raise StructureError(f"opcode {code:#04x} at {self.position - 1} is no pickle's")
            action(self)
            if not count % _CHECK_EVERY:
                self._check_sizes()
        raise LimitError(f"the pickle has more than {OPCODE_LIMIT} opcodes")

    def _check_sizes(self) -> None:
        if len(self._stack) > STACK_LIMIT:
            raise LimitError(f"the pickle's stack is deeper than {STACK_LIMIT}")

    def _fill(self, wanted: int) -> None:
        """Have ``wanted`` bytes of the pickle at hand, reading ahead in growing steps."""
        if wanted > self._length:
            if self._cut:
                raise LimitError(f"the pickle is longer than {PICKLE_LIMIT_BYTES} bytes")
            raise StructureError("the pickle ends too early")
        goal = min(self._length, max(wanted, len(self._content) + self._next_read))
        self._next_read = min(4 * self._next_read, _LARGEST_READ)
        parts = [self._content]
        at = len(self._content)
        while at < goal:
            parts.append(self._reader.read(self._base + at, min(goal - at, _LARGEST_READ)))
            at += len(parts[-1])
        self._content = b"".join(parts)

    def skip(self, length: int) -> None:
        """Go on behind ``length`` bytes that are no opcodes; nothing of them is read."""
        if length > self._file_end - self.position:
            raise StructureError("what lies between the opcodes is longer than the file")
        self._base = self.position + length
        self._length = min(self._file_end - self._base, PICKLE_LIMIT_BYTES)
        self._cut = self._file_end - self._base > PICKLE_LIMIT_BYTES
        self._content, self._at, self._next_read = b"", 0, _FIRST_READ

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        at = self._at
        end = at + length
        if end > len(self._content):
            self._fill(end)
        self._at = end
        return self._content[at:end]

    def line(self) -> bytes:
        """Return the bytes before the next line feed, which is passed."""
        while True:
            found = self._content.find(b"\n", self._at, self._at + LINE_LIMIT_BYTES + 1)
            if found >= 0:
                line = self._content[self._at : found]
                self._at = found + 1
                return line
            if len(self._content) > self._at + LINE_LIMIT_BYTES:
                raise LimitError(f"a line of the pickle is over {LINE_LIMIT_BYTES} bytes")
            self._fill(len(self._content) + 1)

    def push(self, value: Value) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def make(self, value: Value) -> None:
        """Put a new container, name or call on the stack."""
        self._objects += 1
        if self._objects > OBJECT_LIMIT:
            raise LimitError(f"the pickle makes more than {OBJECT_LIMIT} objects")
        self._stack.append(value)

    def _pop(self) -> Value:
        if not self._stack:
            refuse("it takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> Value:
        if not self._stack:
            refuse("it looks at an empty stack")
        return self._stack[-1]

    def _pop_mark(self) -> list[Value]:
        """Return what lies above the last mark; what lay below it is the stack again."""
        if not self._below:
            refuse("a mark is missing")
        items = self._stack
        self._stack = self._below.pop()
        return items

    # -- opcodes; the names are those of pickletools

    def mark(self) -> None:
        if len(self._below) >= MARK_LIMIT:
            raise LimitError(f"the pickle is nested deeper than {MARK_LIMIT}")
        self._below.append(self._stack)
        self._stack = []

    def pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def pop_mark(self) -> None:
        self._pop_mark()

    def dup(self) -> None:
        self.push(self._top())

    def proto(self) -> None:
        self.protocol = self.take(1)[0]
        if self.protocol > PROTOCOL_LIMIT:
            raise StructureError(f"pickle protocol {self.protocol} is unknown")

    def frame(self) -> None:
        # Frames say where readers should buffer; what is in them is read as if they were not there.
        if _U64.unpack(self.take(8))[0] > self._length:
            raise StructureError("a frame of the pickle is longer than the file")

    def text(self, length: int) -> bytes:
        """Return the bytes of a text or byte string, once they are known to be there."""
        if length > self._length - self._at and not self._cut:
            raise StructureError(f"the pickle claims {length} bytes, the file ends before")
        if length > TEXT_LIMIT_BYTES:
            raise LimitError(
                f"a text of {length} bytes in the pickle, {TEXT_LIMIT_BYTES} are granted"
            )
        return self.take(length)

    def put(self, index: int) -> None:
        self._memo[index] = self._top()
        if len(self._memo) > MEMO_LIMIT:
            raise LimitError(f"the pickle's memo has more than {MEMO_LIMIT} entries")

    def get(self, index: int) -> None:
        try:
            self._stack.append(self._memo[index])
        except KeyError:
            refuse(f"it takes entry {index} of the memo, which is not there")

    def memoize(self) -> None:
        self.put(len(self._memo))

    def name(self, module: Value, name: Value) -> Global:
        """Return the inert stand-in of an imported name, and list it."""
        found = Global(module, name) if type(module) is type(name) is str else BUILT_NAME
        known = self.globals.setdefault((found.module, found.name), found)
        if len(self.globals) > GLOBAL_LIMIT:
            raise LimitError(f"the pickle has more than {GLOBAL_LIMIT} different names")
        return known

    def global_(self) -> None:
        module, name = utf8(self.line()), utf8(self.line())
        self.make(self.name(module, name))

    def stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self.make(self.name(module, name))

    def extension(self, width: int) -> None:
        # Numbers of copyreg's registry: which names they mean is up to the process that loads.
        code = int.from_bytes(self.take(width), "little")
        self.make(self.name("(copyreg extension)", str(code)))

    def inst(self) -> None:
        module, name = utf8(self.line()), utf8(self.line())
        self.make(Call(self.name(module, name), tuple(self._pop_mark())))

    def obj(self) -> None:
        items = self._pop_mark()
        if not items:
            refuse("an object has no class")
        self.make(Call(items[0], tuple(items[1:])))

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self.make(Call(function, arguments))

    def newobj_ex(self) -> None:
        named, arguments, cls = self._pop(), self._pop(), self._pop()
        self.make(Call(cls, arguments))
        self._top().items = named.items if isinstance(named, Mapping) else None

    def build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Call):
            target.state = state
            if self._after_build is not None:
                self._after_build(self, target)
        elif isinstance(target, Global):
            self.name(target.module, f"{target.name}{CHANGED}")
        else:
            refuse("something that is no object is given a state")

    def refer(self, id_: Value) -> None:
        """Put a reference to something outside of the pickle on the stack, and list it."""
        found = Persistent(id_)
        self.persistent.append(found)
        self.make(found)

    def persid(self) -> None:
        self.refer(utf8(self.line()))

    def binpersid(self) -> None:
        self.refer(self._pop())

    def append_all(self, values: list[Value]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, Call):
            if target.appended is None:
                target.appended = []
            target.appended.extend(values)
        else:
            refuse("it appends to something else than a list")

    def append(self) -> None:
        value = self._pop()
        self.append_all([value])

    def set_all(self, items: list[Value]) -> None:
        target = self._top()
        if len(items) % 2:
            refuse("a key has no value")
        if isinstance(target, Mapping):
            target.items.extend(items)
        elif isinstance(target, Call):
            if target.items is None:
                target.items = []
            target.items.extend(items)
        else:
            refuse("it sets an item of something else than a dict")

    def setitem(self) -> None:
        value, key = self._pop(), self._pop()
        self.set_all([key, value])

    def additems(self) -> None:
        items, target = self._pop_mark(), self._top()
        if isinstance(target, Group):
            target.items.extend(items)
        else:
            self.append_all(items)

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            refuse("it takes from an empty stack")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        self.make(items)

    def dict_(self) -> None:
        items = self._pop_mark()
        if len(items) % 2:
            refuse("a key has no value")
        self.make(Mapping(items))

    def marked(self, kind: Callable[[list[Value]], Value]) -> None:
        """Make a container of what lies above the last mark."""
        items = self._pop_mark()
        self.make(kind(items))

    def no_buffer(self) -> None:
        raise StructureError("the pickle wants a buffer from outside of the file")


def _length(machine: _Machine, form: struct.Struct) -> int:
    length: int = form.unpack(machine.take(form.size))[0]
    if length < 0:
        refuse("a length is negative")
    return length


_U8: Final = struct.Struct("<B")


def _texts(form: struct.Struct, read: Callable[[bytes], Value]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(read(machine.text(_length(machine, form))))


def _number(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(form.unpack(machine.take(form.size))[0])


def _lines(read: Callable[[bytes], Value]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(read(machine.line()))


def _memo_at(form: struct.Struct, act: Callable[[_Machine, int], None]) -> Any:
    return lambda machine: act(machine, form.unpack(machine.take(form.size))[0])


_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    ord(code): action
    for code, action in {
        "(": _Machine.mark, "0": _Machine.pop, "1": _Machine.pop_mark, "2": _Machine.dup,
        "\x80": _Machine.proto, "\x95": _Machine.frame,
        "N": lambda one: one.push(None),
        "\x88": lambda one: one.push(True),
        "\x89": lambda one: one.push(False),
        "I": _lines(decimal_or_bool), "L": _lines(decimal_integer), "F": _lines(decimal_float),
        "S": _lines(quoted_text), "V": _lines(escaped_text),
        "J": _number(_I32), "K": _number(_U8), "M": _number(_U16), "G": _number(_F64),
        "\x8a": _texts(_U8, binary_integer), "\x8b": _texts(_I32, binary_integer),
        "T": _texts(_I32, old_text), "U": _texts(_U8, old_text),
        "B": _texts(_U32, bytes), "C": _texts(_U8, bytes), "\x8e": _texts(_U64, bytes),
        "\x96": _texts(_U64, bytes),
        "X": _texts(_U32, utf8), "\x8c": _texts(_U8, utf8), "\x8d": _texts(_U64, utf8),
        "]": lambda one: one.make([]),
        "}": lambda one: one.make(Mapping([])),
        ")": lambda one: one.make(()),
        "\x8f": lambda one: one.make(Group([])),
        "l": lambda one: one.marked(list),
        "t": lambda one: one.marked(tuple),
        "\x91": lambda one: one.marked(Group),
        "d": _Machine.dict_,
        "\x85": lambda one: one.tuple_of(1),
        "\x86": lambda one: one.tuple_of(2),
        "\x87": lambda one: one.tuple_of(3),
        "a": _Machine.append,
        "e": lambda one: one.append_all(one._pop_mark()),
        "s": _Machine.setitem,
        "u": lambda one: one.set_all(one._pop_mark()),
        "\x90": _Machine.additems,
        "p": lambda one: one.put(memo_index(one.line())),
        "q": _memo_at(_U8, _Machine.put), "r": _memo_at(_U32, _Machine.put),
        "g": lambda one: one.get(memo_index(one.line())),
        "h": _memo_at(_U8, _Machine.get), "j": _memo_at(_U32, _Machine.get),
        "\x94": _Machine.memoize,
        "c": _Machine.global_, "\x93": _Machine.stack_global,
        "\x82": lambda one: one.extension(1),
        "\x83": lambda one: one.extension(2),
        "\x84": lambda one: one.extension(4),
        "i": _Machine.inst, "o": _Machine.obj, "R": _Machine.reduce,
        "\x81": _Machine.reduce, "\x92": _Machine.newobj_ex, "b": _Machine.build,
        "P": _Machine.persid, "Q": _Machine.binpersid,
        "\x97": _Machine.no_buffer, "\x98": _Machine.no_buffer,
    }.items()
}  # fmt: skip
