"""What uv says when it fails, as errors of ours.

uv explains well, in prose that changes with its releases.  Only names are taken from it, for the first line;
the whole of it is the error's story.  What can be known without it (a requirement that conda's choice does
not meet) is worked out here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from envforge.errors import CouldNotError, EnvforgeError, InputError, UnsatisfiableError
from envforge.model.lockfile import canonical_name
from envforge.model.urls import redacted
from envforge.resolvers.pypi.clash import DEPENDS, NAME, clash_in, in_one_line, names
from envforge.resolvers.pypi.missing import NoWheelError, UnknownProjectError
from envforge.resolvers.pypi.request import PINS, PypiRequest, Wanted
from envforge.resolvers.pypi.stubs import Stub

__all__ = ["is_refusal", "translated"]

_NEEDS = re.compile(rf"({NAME})(?:\[[^\]]*\])?(?:[=<>!~]\S*)? depends? on ({NAME})")
_MISSING = re.compile(rf"({NAME}) was not found in the (?:package registry|cache|provided package locations)")
_NO_WHEEL = re.compile(
    rf"({NAME})(?:[=<>!~]\S*)? (?:has|have) no (?:usable wheels|wheels with a matching)"
    rf"|Wheels are (?:required|available) for `({NAME})`"
)
_NEWEST = re.compile(rf"(?<!\S)({NAME})(?:\[[^\]]*\])?(?:[>=]=?[^\s,|]+)? depends? on ({NAME})")
"""A dependency of a package's versions without an upper bound."""
_PYTHON = re.compile(rf"({NAME})(?:[=<>!~]\S*)? depends? on Python\s?([<>=!~]\S+)")
_BROKEN = re.compile(
    rf"({NAME})(?:[=<>!~]\S*)? has (an invalid package format|invalid metadata|inconsistent metadata)"
)
_OURS = re.compile(rf"{PINS}(==0)?\s+depends\s+on")
_URL = re.compile(r"(?:https?|file)://[^\s`)]+")
_REFUSED = re.compile(r"\b(401 Unauthorized|403 Forbidden)\b")


def is_refusal(text: str) -> bool:
    """Whether uv says that a host does not know us."""
    return _REFUSED.search(text) is not None


def translated(
    stderr: str,
    request: PypiRequest,
    wanted: Sequence[Wanted],
    limits: Sequence[Wanted],
    stubs: Mapping[str, Stub],
    *,
    offline: bool,
) -> EnvforgeError:
    """The error that uv's ``stderr`` stands for; ``limits`` are the constraints."""
    story = _OURS.sub("you require", redacted(stderr.strip()))
    text = in_one_line(story)
    if "No solution found" not in text:
        return (
            _unreadable(story, wanted)
            or _by_url(text, story, wanted)
            or _not_built(story, wanted)
            or _failed(text, story, request, offline=offline)
        )
    return (
        clash_in(text, story, wanted, limits, stubs)
        or _unknown(text, story, request, wanted, offline=offline)
        or _too_new(text, story, request, wanted)
        or _wrong_python(text, story, request, wanted)
        or _no_sdist(text, story, request, wanted)
        or _no_wheel(text, story, request, wanted)
        or _no_version(text, story, request, wanted)
        or _no_meeting(text, story, (*wanted, *limits))
        or _broken(text, story, request)
        or _no_set(text, story, request, (*wanted, *limits))
    )


def _unknown(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted], *, offline: bool
) -> EnvforgeError | None:
    missing = list(dict.fromkeys(_MISSING.findall(text)))
    if not missing:
        return None
    if offline and "network was disabled" in text:
        return _offline(f"{' and '.join(missing)}: the index is", request, story)
    refused = _REFUSED.search(text)
    if refused:
        return _refused(refused[1], _first_url(text, request), story)
    requirers = [requirer for requirer, name in _NEEDS.findall(text) if name in missing]
    by = f", which {requirers[0]} needs" if requirers else ""
    pinned = request.places.pinned
    own = [pinned[name] for name in map(canonical_name, missing) if name in pinned]
    where = " or ".join(redacted(url) for url in own or request.places.indexes) or request.index
    return UnknownProjectError(
        f"no package {' and no package '.join(missing)} in {where}{by}",
        projects=tuple(map(canonical_name, missing)),
        at=_at(missing + requirers, wanted),
        do="check the spelling; if it is a conda package, write it outside pip:",
        story=story,
    )


def _too_new(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]
) -> UnsatisfiableError | None:
    match = re.search(rf"`({NAME})` was filtered by `exclude-newer`", text)
    if match is None:
        return None
    if "is missing an upload date" in text:
        reason, do = (
            ": the index gives no upload times",
            "lock without --exclude-newer, or from another index",
        )
    else:
        reason, do = "", "name a later --exclude-newer, or an older version"
    return UnsatisfiableError(
        f"no version of {match[1]} that fits is known to be older than {request.exclude_newer}{reason}",
        at=_at((match[1],), wanted),
        do=do,
        story=story,
    )


def _wrong_python(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]
) -> UnsatisfiableError | None:
    match = _PYTHON.search(text)
    if match is None or "does not satisfy Python" not in text:
        return None
    return NoWheelError(
        f"{match[1]} needs Python {match[2].rstrip(',.')}, and it is {request.python_version}",
        project=canonical_name(match[1]),
        versions=_versions_of(match[1], text, wanted),
        at=_at((match[1], *_requirers(match[1], text)), wanted),
        do="take another Python, or a version of the package that is made for this one",
        story=story,
    )


def _no_sdist(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]
) -> UnsatisfiableError | None:
    match = re.search(rf"source distribution is required for `({NAME})`", text)
    if match is None or canonical_name(match[1]) not in request.no_binary:
        return None
    return UnsatisfiableError(
        f"no version of {match[1]} that fits has an sdist to build",
        at=_at((match[1],), wanted),
        do=f"leave out --no-binary {match[1]}: it has wheels",
        story=story,
    )


def _not_built(story: str, wanted: Sequence[Wanted]) -> CouldNotError | None:
    """An sdist that does not say what it depends on, and whose code fails when it is asked."""
    match = re.search(rf"Failed to build `({NAME})==([^`]+)`", story)
    if match is None:
        return None
    said = [line.strip() for line in story.partition("hint: ")[0].splitlines() if line.strip()]
    return CouldNotError(
        f"the build of {match[1]} {match[2]} failed: {said[-1][:200]}",
        at=_at((match[1],), wanted) or "--no-binary",
        do=f"read the log; or take {match[1]} from conda: write it outside pip:",
        story=story,
    )


def _no_wheel(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]
) -> UnsatisfiableError | None:
    lacking = [one or other for one, other in _NO_WHEEL.findall(text)]
    if not lacking:
        return None
    # The newest version is wanted; for lack of it uv tries older ones, which lack something else.
    name = next((other for _, other in _NEWEST.findall(text) if other in lacking), lacking[0])
    versions = _versions_of(name, text, wanted)
    asked = next((redacted(one.line.text) for one in wanted if one.name == canonical_name(name)), None)
    requirers = [] if asked else _requirers(name, text)
    by = f", which {requirers[0]} needs," if requirers else ""
    return NoWheelError(
        f"no wheel of {asked or name + versions}{by} fits {request.assumed}",
        project=canonical_name(name),
        versions=versions,
        at=_at((name, *requirers), wanted),
        do=f"take {name} from conda: write it outside pip:; or build it: envforge lock --no-binary {name}",
        story=story,
    )


def _broken(text: str, story: str, request: PypiRequest) -> CouldNotError | None:
    match = _BROKEN.search(text)
    if match is None:
        return None
    return CouldNotError(
        f"a file of {match[1]} is broken where it lies: it has {match[2]}",
        at=request.index,
        do=f"ask for another version of {match[1]}, or tell whoever runs the index",
        story=story,
    )


def _no_version(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]
) -> UnsatisfiableError | None:
    """A line that asks for the very version that no index has."""
    none = {canonical_name(name) for name in re.findall(rf"there is no version of ({NAME})==", text)}
    for one in wanted:
        if one.name in none and str(one.requirement.specifier).startswith("=="):
            return NoWheelError(
                f"no version of {redacted(one.line.text)} is in {request.index}",
                project=one.name,
                versions=str(one.requirement.specifier),
                at=one.line.at,
                do=f"ask for another version of {one.name}",
                story=story,
            )
    return None


def _no_meeting(text: str, story: str, lines: Sequence[Wanted]) -> UnsatisfiableError | None:
    """Lines that no version whatever can meet."""
    match = re.search(rf"you require ({NAME})\S+ and ({NAME})\S+ (?:which|we can conclude)", text)
    if match is None or canonical_name(match[1]) != canonical_name(match[2]):
        return None
    named = [one for one in lines if one.name == canonical_name(match[1]) and one.requirement.specifier]
    return UnsatisfiableError(
        f"no version can be {' and '.join(redacted(one.line.text) for one in named)}",
        at=", ".join(dict.fromkeys(one.line.at for one in named)) or None,
        do="leave all but one out" if len(named) > 1 else "correct it: it contradicts itself",
        story=story,
    )


def _no_set(text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]) -> UnsatisfiableError:
    named = [one for one in wanted if names(text, one.name)]
    what = " and ".join(redacted(one.line.text) for one in named[:3]) or "the PyPI requirements"
    empty = re.search(rf"there are no versions of ({NAME})", text)
    if empty is not None:
        return UnsatisfiableError(
            f"{request.index} has no files of {empty[1]}",
            at=_at((empty[1],), wanted),
            do="check that the URL is the one of a simple index (PEP 503), often ending in /simple",
            story=story,
        )
    only = re.search(rf"only ({NAME})([<>=]\S+) is available", text)
    if only is not None and len(named) == 1 and named[0].name == canonical_name(only[1]):
        bound = only[2].rstrip(",.")
        return UnsatisfiableError(
            f"no version of {what} is in {request.index}",
            at=named[0].line.at,
            do=f"ask for one that is there: {only[1]}{bound}",
            story=story,
        )
    disagree = _disagreement(text, wanted)
    if disagree is not None:
        return UnsatisfiableError(
            disagree[0], at=", ".join(disagree[1]), do="relax one of the two", story=story
        )
    return UnsatisfiableError(
        f"nothing satisfies {what} for {request.assumed}",
        at=", ".join(one.line.at for one in named) or None,
        do=f"relax {'one of them' if len(named) > 1 else 'it'}; the log has the whole derivation",
        story=story,
    )


def _disagreement(text: str, wanted: Sequence[Wanted]) -> tuple[str, list[str]] | None:
    """What one requirement needs and another does not allow, where uv's last words say so."""
    lines = {one.name: one for one in wanted if one.requirement.specifier}
    needs: dict[str, dict[str, str]] = {}
    for requirer, name, versions in reversed(DEPENDS.findall(text)):
        place = _at((requirer,), wanted)
        if place is None:
            continue
        said = f"{requirer} needs {name}{versions.rstrip(',.')}"
        limited = lines.get(canonical_name(name))
        if limited is not None:
            return f"{said}, and {redacted(limited.line.text)} is required", [place, limited.line.at]
        needs.setdefault(canonical_name(name), {}).setdefault(place, said)
    for found in needs.values():
        if len(found) == 2:
            return ", and ".join(found[at] for at in sorted(found)), sorted(found)
    return None


def _requirers(name: str, text: str) -> list[str]:
    """Who needs ``name``, as far as uv's text tells it."""
    needs = _NEEDS.findall(text)
    return list(dict.fromkeys(one for one, other in needs if canonical_name(other) == canonical_name(name)))


def _versions_of(name: str, text: str, wanted: Sequence[Wanted]) -> str:
    """The versions of ``name`` that are asked for: by a line, else by the one that uv names last."""
    for one in wanted:
        if one.name == canonical_name(name):
            return str(one.requirement.specifier)
    found = [v for _, other, v in DEPENDS.findall(text) if canonical_name(other) == canonical_name(name)]
    return str(found[-1]).rstrip(",.") if found else ""


def _at(names: Sequence[str], wanted: Sequence[Wanted]) -> str | None:
    """Where the first of ``names`` was written that a person wrote."""
    for name in names:
        for one in wanted:
            if one.name == canonical_name(name):
                return one.line.at
    return None


def _unreadable(story: str, wanted: Sequence[Wanted]) -> InputError | None:
    """What packaging takes for a requirement and uv does not: ``name===``."""
    if "Couldn't parse requirement in `requirements.in`" not in story:
        return None
    one = next((one for one in wanted if redacted(str(one)) in story), None)
    return InputError(
        f"{redacted(str(one)) if one else 'a line'!r} is not a requirement",
        at=one.line.at if one else None,
        do="write it as NAME, NAME>=1.2,<2 or NAME[extra]",
        story=story,
    )


def _by_url(text: str, story: str, wanted: Sequence[Wanted]) -> InputError | None:
    """A wheel that wants another from a URL: whoever asks for the wheel may not know."""
    match = re.search(rf"Package `({NAME})` was included as a URL dependency", text)
    if match is None:
        return None
    url = re.search(rf"`({NAME} @ [^`]+)`", text)
    return InputError(
        f"{match[1]} is needed from a URL, and you have not said so",
        at=_at(_requirers(match[1], text), wanted),
        do=f"write it below pip: {redacted(url[1]) if url else match[1] + ' @ URL'}",
        story=story,
    )


def _failed(text: str, story: str, request: PypiRequest, *, offline: bool) -> EnvforgeError:
    at = _first_url(text, request)
    host = urlsplit(at).hostname or "the index"
    status = re.search(r"HTTP status (?:client|server) error \((\d{3})", text)
    if offline and re.search(r"network (?:was|connectivity is) disabled|offline", text, re.IGNORECASE):
        return _offline("what the index has of it is", request, story)
    if status and status[1] in ("401", "403", "407"):
        return _refused(status[1], at, story)
    if status:
        gone = "the index names a file that it does not have: tell whoever runs it"
        return CouldNotError(
            f"{host} answered {status[1]}",
            at=at,
            do=gone if status[1] in ("404", "410") else "try again later",
            story=story,
        )
    if "certificate" in text:
        return CouldNotError(
            f"no trusted connection to {host}",
            at=at,
            do="export SSL_CERT_FILE=/path/to/your-site-ca.pem",
            story=story,
        )
    if re.search(r"error sending request|\(Connect\)|dns error|timed out", text):
        return CouldNotError(
            f"no connection to {host}",
            at=at,
            do="check the network, https_proxy and the URL of the index",
            story=story,
        )
    if re.search(r"unexpected (?:JSON|HTML|content)|Unsupported `Content-Type`", text, re.IGNORECASE):
        return CouldNotError(
            f"{host} answered with something that is no index page",
            at=at,
            do="check that the URL is the one of a simple index (PEP 503), often ending in /simple",
            story=story,
        )
    first = next(
        (line for line in story.splitlines() if line.startswith("error: ")), "error: no reason given"
    )
    return CouldNotError(f"uv failed: {first.removeprefix('error: ')}", at=at, story=story)


def _offline(what: str, request: PypiRequest, story: str) -> CouldNotError:
    return CouldNotError(
        f"{what} not in the cache, and --offline forbids to fetch it",
        at=request.index,
        do="run the same command once without --offline",
        story=story,
    )


def _refused(status: str, at: str, story: str) -> CouldNotError:
    return CouldNotError(
        f"the index answered {status}",
        at=at,
        do="put the credentials for this host into ~/.netrc, or into the URL of the index",
        story=story,
    )


def _first_url(text: str, request: PypiRequest) -> str:
    match = _URL.search(text)
    return request.index if match is None else match[0].rstrip(".,:")
