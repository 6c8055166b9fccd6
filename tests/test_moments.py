"""A date after which nothing counts."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from envforge.errors import InputError
from envforge.model.moments import cutoff, moment_text, settled

NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23", "2026-11-24T00:00:00Z"),
        ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z"),
        ("2026-11-23T12:00:00+02:00", "2026-11-23T10:00:00Z"),
        ("2026-11-23T12:00:00", "2026-11-23T12:00:00Z"),
        ("7d", "2026-11-17T12:00:00Z"),
        ("7 days", "2026-11-17T12:00:00Z"),
        ("1h 30m", "2026-11-24T10:30:00Z"),
        ("P1W", "2026-11-17T12:00:00Z"),
        ("P1DT12H", "2026-11-23T00:00:00Z"),
        ("0d", "2026-11-24T12:00:00Z"),
    ],
)
def test_a_cutoff_is_a_moment_in_utc(text: str, moment: str) -> None:
    assert moment_text(cutoff(text, now=NOON)) == moment


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-13-40", "", "7", "7 moons", "P", "PT", "9999-12-31", "999999999w"]
)
def test_a_cutoff_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="is no date"):
        cutoff(text)


def test_only_a_span_is_settled() -> None:
    assert settled("2026-11-23") == "2026-11-23"
    assert cutoff(settled("7d")) == cutoff(settled(settled("7d")))
