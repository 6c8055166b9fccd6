"""Until when something counts: a day, a moment, or a span that ends now."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

from envforge.errors import InputError

__all__ = ["cutoff", "moment_text", "settled"]

_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "seconds"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "minutes"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "hours"),
    **dict.fromkeys(("d", "day", "days"), "days"),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks"), "weeks"),
}
_SPAN = re.compile(r"(?:\d{1,9}\s*[a-z]+\s*)+")
_ISO_SPAN = re.compile(
    r"P(?=.)(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9})S)?)?"
)


def cutoff(text: str, *, now: datetime | None = None) -> datetime:
    """The moment after which nothing counts, in UTC.

    :param text: a date, whose whole day (UTC) still counts; RFC 3339, in UTC where it names no zone; or a
        span before ``now``, as ``7d``, ``1 week`` or ISO 8601's ``P7D``.
    :raises InputError: if it is none of these.
    """
    try:
        span = _span(text.strip())
        if span is not None:
            return (now or datetime.now(timezone.utc)) - span
        if len(text) == len("2026-11-23"):
            day = date.fromisoformat(text) + timedelta(days=1)
            return datetime.combine(day, time(), tzinfo=timezone.utc)
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
        if moment.tzinfo is None:
            return moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{text!r} is no date",
            at="--exclude-newer",
            do="write 2026-11-23, 2026-11-23T12:00:00Z or, counted from now, 7d",
        ) from error


def settled(text: str) -> str:
    """``text``, or the moment that it means now where it is a span: the same for all who ask later.

    :raises InputError: as :func:`cutoff`.
    """
    moment = cutoff(text)
    return text if text[:4].isdigit() and "-" in text else moment_text(moment)


def moment_text(moment: datetime) -> str:
    """``moment`` as RFC 3339, to the second, in UTC."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _span(text: str) -> timedelta | None:
    """The span that ``text`` names; ``None`` where it names none.

    :raises ValueError: for an unknown unit.
    """
    iso = _ISO_SPAN.fullmatch(text)
    if iso is not None:
        return timedelta(**{unit: int(number) for unit, number in iso.groupdict().items() if number})
    if not _SPAN.fullmatch(text):
        return None
    parts: dict[str, int] = {}
    for number, unit in re.findall(r"(\d+)\s*([a-z]+)", text):
        if unit not in _UNITS:
            raise ValueError(unit)
        parts[_UNITS[unit]] = parts.get(_UNITS[unit], 0) + int(number)
    return timedelta(**parts)
