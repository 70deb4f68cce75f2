"""Whatever msgspec raises for rubbish is among ``UNDECODABLE``; not all of it is its own error."""

import msgspec
import pytest

from hartonomous.core.undecodable import UNDECODABLE


class _Named(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"name": 1}', b'{"name": "\xa3"}', b'{"other": ' + b"[" * 100_000],
)
def test_json(content: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        msgspec.json.decode(content, type=_Named)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x90",
        b"\x81\xa4name\x01",
        b"\x81\xa4name\xa1\xa3",
        b"\x81\xa1o" + b"\x91" * 100_000,
    ],
)
def test_messagepack(content: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        msgspec.msgpack.decode(content, type=_Named)
