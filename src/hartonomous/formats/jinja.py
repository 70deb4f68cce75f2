"""Chat templates in files of their own: ``chat_template.jinja`` and other ``.jinja`` files.

What they would call is told as ``core.template`` reads it; they are never rendered.
"""

from pathlib import PurePosixPath
from typing import Final

import msgspec

from hartonomous.core.description import Description
from hartonomous.core.template import TEXT_LIMIT, examine_template
from hartonomous.errors import LimitError
from hartonomous.ports.format import Format, RangeReader


class _Jinja:
    """The format's parser; see the module's text."""

    name = "jinja"

    def matches(self, path: str, head: bytes) -> bool:  # noqa: ARG002 — the port's signature
        """Say yes to the ending."""
        return PurePosixPath(path).suffix.lower() in (".jinja", ".jinja2", ".j2")

    def parse(self, reader: RangeReader) -> Description:
        """Return what the template would call; raises LimitError over 4 MiB."""
        if reader.size > 4 * TEXT_LIMIT:
            raise LimitError(
                f"the template has {reader.size:,} bytes, at most {4 * TEXT_LIMIT:,} are read"
            )
        text = reader.read(0, reader.size).decode("utf-8", "backslashreplace")
        told = {"name": "default", **msgspec.to_builtins(examine_template(text))}
        return Description(format=self.name, metadata={"_chat_templates": [told]})


JINJA: Final[Format] = _Jinja()
"""The entry for the table of formats."""
