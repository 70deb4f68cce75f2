"""How numbers in cells of XLSX are shown: dates, times and per cent, by the cells' formats.

A date is stored as a count of days and only its format says what it is. Dates become such as
``2025-03-14 12:30:00``, whatever the format's order of day and month is.
"""

import re
from datetime import datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element

from hartonomous.media.archive import Archive, whole_number

_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_STYLES_READ = 65_536
_CODE_CHARS = 255
_DAY_S = 86_400
# Formats that have a number and no code of their own; 27 to 36 and 50 to 58 are dates of East Asia.
_BUILT_IN = {
    9: "%", 10: "%", **dict.fromkeys((14, 15, 16, 17), "d"), **dict.fromkeys((18, 19, 20, 21), "t"),
    22: "dt", **dict.fromkeys((*range(27, 37), *range(50, 59)), "d"), 45: "t", 46: "e", 47: "t",
}  # fmt: skip
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
# What is shown as it stands or says how: quoted, behind a backslash, filling, colours, places.
_SAID = re.compile(r'"[^"]*"?|\\.|_.|\*.|\[[^\]]*\]?|AM/PM|A/P|General', re.IGNORECASE)
_FRACTION = re.compile(r"(?<=s)[.,]0+", re.IGNORECASE)
_LEAP = 60  # 29 February 1900, which was none and is counted
_MOST_DAYS = 2_958_466  # the year 10000


class SheetFormats:
    """The formats of a workbook: what each style of cells makes of a number."""

    def __init__(self, archive: Archive, workbook: Element) -> None:
        """Read the styles; where they cannot be read numbers stay as they are stored."""
        self._kinds: list[str] = []
        properties = workbook.find(f"{_S}workbookPr")
        counted = "" if properties is None else properties.get("date1904", "")
        self._from_1904 = counted in ("1", "true", "on")  # days, as on old Macs
        root = archive.xml_beside("xl/styles.xml", "how its numbers are shown")
        if root is None:
            return
        codes = dict(_BUILT_IN)
        for one in list(root.iter(f"{_S}numFmt"))[:_STYLES_READ]:
            number = whole_number(one.get("numFmtId"))
            if number is not None:
                codes[number] = _kind(one.get("formatCode", "")[:_CODE_CHARS])
        styles = root.find(f"{_S}cellXfs")
        for one in [] if styles is None else styles[:_STYLES_READ]:
            self._kinds.append(codes.get(whole_number(one.get("numFmtId")) or 0, ""))

    def shown(self, text: str, style: str | None) -> str:
        """Return a stored number as a cell of a style shows it."""
        at = whole_number(style)
        kind = self._kinds[at] if at is not None and 0 <= at < len(self._kinds) else ""
        if not kind:
            return text
        try:
            value = float(text)
        except ValueError:
            return text
        if kind == "%":
            return f"{value * 100:.12g}%"
        if not 0 <= value < _MOST_DAYS:  # what is shown as ####, and what is no number
            return text
        try:
            return _moment(value, kind, from_1904=self._from_1904)
        except OverflowError:  # the last days of 9999, rounded up or counted from 1904
            return text


def _kind(code: str) -> str:
    """Return what a format's code makes: %, d(ate), t(ime), dt, e(lapsed time); empty for others.

    Of its parts for positive and negative numbers and texts the first one counts.
    """
    if _ELAPSED.search(code):
        return "e"
    plain = _FRACTION.sub("", _SAID.sub("", code)).split(";", 1)[0].lower()
    if "%" in plain:
        return "%"
    if any(one in plain for one in "0#?@"):
        return ""
    time = "h" in plain or "s" in plain
    # Beside hours or seconds an m is minutes.
    date = "y" in plain or "d" in plain or ("m" in plain and not time)
    return "d" * date + "t" * time


def _moment(value: float, kind: str, *, from_1904: bool) -> str:
    days, seconds = divmod(round(value * _DAY_S), _DAY_S)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if kind == "e":
        return f"{days * 24 + seconds // 3600}{clock[2:]}"
    if kind == "t":
        return clock
    if from_1904:
        day = datetime(1904, 1, 1) + timedelta(days)  # a cell has no zone
    elif days == _LEAP:
        return "1900-02-29"
    else:
        first = datetime(1899, 12, 30 if days > _LEAP else 31)
        day = first + timedelta(days)
    # A format may hide the time of a day that the cell has.
    return f"{day.date()} {clock}" if "t" in kind or seconds else str(day.date())


TRUTH: Final = {"1": "TRUE", "0": "FALSE"}
"""How cells of truth values are stored, and what they show."""
