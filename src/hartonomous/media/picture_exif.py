"""What a picture's EXIF says: orientation, camera, time, and apart from these the position.

Tags are those of EXIF 2.32 (CIPA DC-008). What is malformed counts as not said.
"""

import math
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hartonomous.core.picture import Position

if TYPE_CHECKING:
    from PIL import Image

_EXIF, _GPS = 0x8769, 0x8825
_ORIENTATION = 0x0112
_MAIN = {0x010E: "description", 0x010F: "maker", 0x0110: "camera", 0x0131: "software",
         0x013B: "artist", 0x8298: "copyright"}  # fmt: skip
_OWN = {0xA434: "lens"}
_TAKEN, _OFFSET = 0x9003, 0x9011
_VALUE_CHARS = 200
_TIME = re.compile(r"(\d{4}):(\d{2}):(\d{2}) (\d{2}:\d{2}:\d{2})")
_ZONE = re.compile(r"[+-]\d{2}:\d{2}")
_BROKEN = (OSError, ValueError, SyntaxError, struct.error, LookupError, TypeError, AttributeError,
           ArithmeticError, RuntimeError)  # fmt: skip


def exif_of(image: "Image.Image") -> tuple[int, dict[str, str], Position | None]:
    """Return the orientation (1 to 8), what is said in words, and the position."""
    try:
        tags = image.getexif()
        own, gps = tags.get_ifd(_EXIF), tags.get_ifd(_GPS)
    except _BROKEN:
        return 1, {}, None
    orientation = tags.get(_ORIENTATION, 1)
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    found = {}
    for source, names in ((tags, _MAIN), (own, _OWN)):
        for tag, name in names.items():
            text = _text(source.get(tag))
            if text:
                found[name] = text
    taken = _taken(own)
    if taken:
        found["taken"] = taken
    return orientation, found, _position(gps)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    plain = "".join(letter if letter.isprintable() else " " for letter in value.split("\0")[0])
    return " ".join(plain.split())[:_VALUE_CHARS]


def _taken(tags: Mapping[int, Any]) -> str:
    """Return when it was taken, as ISO 8601; with the zone where it is said."""
    found = _TIME.fullmatch(_text(tags.get(_TAKEN)))
    if found is None:
        return ""
    zone = _ZONE.fullmatch(_text(tags.get(_OFFSET)))
    year, month, day, time = found.groups()
    return f"{year}-{month}-{day}T{time}{zone.group() if zone else ''}"


def _position(tags: Mapping[int, Any]) -> Position | None:
    latitude = _degrees(tags.get(2), tags.get(1), "S", 90.0)
    longitude = _degrees(tags.get(4), tags.get(3), "W", 180.0)
    if latitude is None or longitude is None:
        return None
    altitude = _number(tags.get(6))
    if altitude is not None and tags.get(5) in (1, b"\1"):
        altitude = -altitude
    return Position(latitude=latitude, longitude=longitude, altitude=altitude)


def _degrees(value: Any, side: Any, negative: str, limit: float) -> float | None:
    """Return degrees of (degrees, minutes, seconds), None where they are out of range."""
    if not isinstance(value, tuple) or len(value) != 3:
        return None
    numbers = [_number(one) for one in value]
    if any(one is None for one in numbers):
        return None
    found = sum((one or 0.0) / 60.0**at for at, one in enumerate(numbers))
    if not 0 <= found <= limit:
        return None
    return -found if _text(side).upper() == negative else found


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return found if math.isfinite(found) else None
