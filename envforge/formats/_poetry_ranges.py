"""Versions in Poetry's words (``^1.2``, ``~1.2``, ``1.*``, ``||``) as PEP 440 has them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

__all__ = ["poetry_range", "python_marker"]


def poetry_range(text: str) -> str | None:
    """The specifiers that ``text`` stands for, empty for any version.

    ``None`` for what PEP 440 cannot say: alternatives with a gap that is not one release (``1.8.*``), and
    what is no range at all.
    """
    alternatives = re.split(r"\s*\|\|?\s*", text.strip())
    if len(alternatives) == 1:
        return _range(alternatives[0])
    ends = [_ends(one) for one in map(_range, alternatives)]
    known = sorted((one for one in ends if one is not None), key=lambda one: Version(one[0]))
    if len(known) < len(ends):
        return None
    (lower, upper), *others = known
    left_out = ""
    for start, end in others:
        if upper is not None and Version(start) > Version(upper):
            if Version(start).release != _following(Version(upper).release):
                return None
            left_out += f",!={upper}.*"
        upper = None if upper is None or end is None else max(upper, end, key=Version)
    return f">={lower}{left_out}" + (f",<{upper}" if upper is not None else "")


def python_marker(text: str) -> Iterator[str]:
    """The comparisons that a dependency for some Pythons alone stands for."""
    for one in SpecifierSet(poetry_range(text) or ""):
        name = "python_full_version" if one.version.removesuffix(".*").count(".") > 1 else "python_version"
        yield f"{name} {one.operator} '{one.version}'"


def _range(text: str) -> str | None:
    parts = []
    for part in re.split(r"\s*,\s*|\s+(?=[<>=!~^])", re.sub(r"([<>=!~^])\s+", r"\1", text.strip())):
        if part[:1] == "^" or re.match(r"~\s*\d", part):
            parts += [f">={part[1:]}", f"<{_next(part[0], part[1:])}"]
        elif part not in ("*", ""):
            parts.append(part if part[0] in "<>=!~" else f"=={part}")
    try:
        # A single equals sign is a slip that Poetry takes.
        return str(SpecifierSet(",".join(re.sub(r"^=(?!=)", "==", part) for part in parts)))
    except (InvalidSpecifier, InvalidVersion):
        return None


def _next(sign: str, text: str) -> str:
    """The first version that ``^`` or ``~`` does not allow; ``text`` itself where that is no version."""
    try:
        numbers = Version(text).release
    except InvalidVersion:
        return text
    if sign == "~":
        kept = numbers[: max(1, min(2, len(numbers)))]
    else:
        first = next((i for i, number in enumerate(numbers) if number), len(numbers) - 1)
        kept = numbers[: first + 1]
    return ".".join(map(str, _following(kept)))


def _following(release: tuple[int, ...]) -> tuple[int, ...]:
    return (*release[:-1], release[-1] + 1)


def _ends(specifiers: str | None) -> tuple[str, str | None] | None:
    """Where a range begins and ends, if it is one without holes."""
    parts = {one.operator: one.version for one in SpecifierSet(specifiers or "")}
    if specifiers is None or ">=" not in parts or not parts.keys() <= {">=", "<"}:
        return None
    return parts[">="], parts.get("<")
