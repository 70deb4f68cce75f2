"""Packs without a sound end: repair writes their table of contents and footer anew.

Both follow from the records' own headers. So a pack of which every record is found comes out as it
was sealed, byte for byte, beside the damaged one, and takes its name in one step. Where a record is
not found nothing is written: what is left of the end may still be needed.
"""

import os
from contextlib import closing

from hartonomous.core.digest import checksum
from hartonomous.core.record import PackFooter, header_start
from hartonomous.errors import HartonomousError, IntegrityError
from hartonomous.objects.durable import storage_error, sync_directory, write_fully
from hartonomous.objects.local import new_temporary
from hartonomous.packs.pack_file import PackReader
from hartonomous.packs.parts import StoreParts, pack_object_key
from hartonomous.ports.objects import ObjectReader

_COPIED_BYTES = 4 * 1024 * 1024
_TELLING_BYTES = 8
"""So much of a table of contents must be left at the end of a pack that was cut short."""


def give_ends_back(parts: StoreParts, *, dry_run: bool = False) -> tuple[list[str], list[str]]:
    """Write packs anew whose end is damaged and whose records are all there.

    Returns what was done, and what could not be: no room, say. With ``dry_run`` nothing is written.
    The caller holds the store alone.
    """
    done, failed = [], []
    for key in [entry.key for entry in parts.objects.list("packs/")]:
        try:
            with closing(parts.objects.open(key)) as source:
                found = _lost_end(source, key)
                if found is None:
                    continue
                if not dry_run:
                    _write(parts, key, source, *found)
                done.append(key)
        except IntegrityError:
            continue  # the survey that follows tells of it
        except HartonomousError as error:
            failed.append(error.message)
    return done, failed


def _lost_end(source: ObjectReader, key: str) -> tuple[int, bytes] | None:
    """Return where the end of a pack begins and what it should be; None if it is sound, or unknown.

    The end is known where what lies there has its length, or begins as it does.
    """
    reader = PackReader(source, key)
    name = reader.header().key
    if pack_object_key(name) != key:
        return None
    try:
        if reader.footer().key == name:
            next(reader.records(), None)
            return None
    except IntegrityError:
        pass
    headers = [header for _, header in reader.salvage()]
    if not headers:
        return None
    toc = b"".join(one.encode() for one in headers)
    last = headers[-1]
    end_of_records = header_start(last.offset + last.stored) + len(last.encode())
    start = header_start(end_of_records)
    footer = PackFooter(
        key=name, toc_offset=start, toc_bytes=len(toc), record_count=len(headers),
        toc_check=checksum(toc),
    )  # fmt: skip
    end = toc + footer.encode()
    there = source.size - start
    if there == len(end):
        return start, end
    common = min(there, len(end))
    if common < _TELLING_BYTES or bytes(source.read(start, common)) != end[:common]:
        return None
    return start, end


def _write(parts: StoreParts, key: str, source: ObjectReader, start: int, end: bytes) -> None:
    """Put a pack with its end in the place of the damaged one; raises HartonomousError."""
    target = parts.directory / key
    temporary, file = new_temporary(parts.directory)
    try:
        with file:
            for at in range(0, start, _COPIED_BYTES):
                count = min(_COPIED_BYTES, start - at)
                write_fully(file.fileno(), source.read(at, count))
            write_fully(file.fileno(), memoryview(end))
            os.fsync(file.fileno())
            temporary.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise storage_error(error, f"write the end of {key}", parts.directory) from error
    finally:
        temporary.unlink(missing_ok=True)
