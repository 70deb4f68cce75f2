"""Times as RFC 3339 writes them, from and to microseconds UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LONGEST = 40
"""Characters of a time that is looked at; what is longer is none."""


def format_time(microseconds: int) -> str:
    """Return ``2026-11-21T08:30:00Z``, with six digits of a second where there are any.

    A time outside the years 1 to 9999, which a file system may well give, becomes the nearest one
    inside: RFC 3339 knows no other.
    """
    moment = _EPOCH + timedelta(microseconds=min(max(microseconds, _FIRST_US), _LAST_US))
    return moment.isoformat().removesuffix("+00:00") + "Z"


def parse_time(text: str) -> int | None:
    """Return microseconds UTC of a date or a time in RFC 3339, None for anything else.

    Where no offset is given it is UTC.
    """
    if len(text) > _LONGEST:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time_of(moment)


def time_of(moment: datetime) -> int:
    """Return microseconds UTC; a time without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
