"""What uv says when it fails, as errors of ours.

uv explains well, in prose that changes with its releases.  Only names are taken from it, for the first line;
the whole of it is the error's story.  What can be known without it (a requirement that conda's choice does
not meet) is worked out here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from envforge.errors import CouldNotError, EnvforgeError, InputError, UnsatisfiableError
from envforge.model.lockfile import canonical_name
from envforge.model.urls import redacted
from envforge.resolvers._request import PINS, PypiRequest, Wanted
from envforge.resolvers._stubs import Stub

__all__ = ["clashing_url", "translated"]

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_DEPENDS = re.compile(
    rf"({_NAME})(?:\[[^\]]*\])?(?:[=<>!~]\S*)? depends? on ({_NAME})(?:\[[^\]]*\])?((?:[<>=!~]=?|===)\S+)"
)
_NEEDS = re.compile(rf"({_NAME})(?:\[[^\]]*\])?(?:[=<>!~]\S*)? depends? on ({_NAME})")
_MISSING = re.compile(
    rf"({_NAME}) was not found in the (?:package registry|cache|provided package locations)"
)
_NO_WHEEL = re.compile(
    rf"({_NAME})(?:[=<>!~]\S*)? (?:has|have) no (?:usable wheels|wheels with a matching)"
    rf"|Wheels are (?:required|available) for `({_NAME})`"
)
_PYTHON = re.compile(rf"({_NAME})(?:[=<>!~]\S*)? depends? on Python\s?([<>=!~]\S+)")
_BROKEN = re.compile(
    rf"({_NAME})(?:[=<>!~]\S*)? has (an invalid package format|invalid metadata|inconsistent metadata)"
)
_OURS = re.compile(rf"{PINS}(==0)?\s+depends\s+on")
_URL = re.compile(r"(?:https?|file)://[^\s`)]+")


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
    text = " ".join(story.split())
    if "No solution found" not in text:
        return (
            _unreadable(story, wanted)
            or _not_built(story, wanted)
            or _failed(text, story, request, offline=offline)
        )
    return (
        _clash(text, story, wanted, limits, stubs)
        or _unknown(text, story, request, wanted, offline=offline)
        or _too_new(text, story, request, wanted)
        or _wrong_python(text, story, request, wanted)
        or _no_sdist(text, story, request, wanted)
        or _no_wheel(text, story, request, wanted)
        or _broken(text, story, request)
        or _no_set(text, story, request, (*wanted, *limits))
    )


def clashing_url(wanted: Sequence[Wanted], stubs: Mapping[str, Stub]) -> UnsatisfiableError | None:
    """A wheel by URL of something that conda brings: it would lie on top of conda's files."""
    for one in wanted:
        if one.requirement.url is not None and one.name in stubs:
            brings = _brings(stubs[one.name])
            return UnsatisfiableError(
                f"{one.name} is asked for as the wheel {redacted(one.requirement.url)}, but {brings}",
                at=one.line.at,
                do=f"write plain {one.name}, or leave {stubs[one.name].distribution.conda_name} out of conda",
            )
    return None


def _brings(stub: Stub) -> str:
    one = stub.distribution
    what = "" if canonical_name(one.conda_name) == stub.name else f" {stub.name}"
    return f"conda's package {one.conda_name} brings{what} {one.version}"


def _clash(
    text: str, story: str, wanted: Sequence[Wanted], limits: Sequence[Wanted], stubs: Mapping[str, Stub]
) -> UnsatisfiableError | None:
    for one in wanted:
        stub = stubs.get(one.name)
        if stub is not None and not one.requirement.specifier.contains(stub.version, prereleases=True):
            return _clash_error(f"{redacted(one.line.text)} is required", stub, one.line.at, story)
    for requirer, name, versions in _DEPENDS.findall(text):
        stub = stubs.get(canonical_name(name))
        if stub is not None and not _contains(versions, stub):
            needs = f"{requirer} needs {name}{versions.rstrip(',.')}"
            return _clash_error(needs, stub, _at((requirer,), wanted), story)
    for one in limits:
        stub = stubs.get(one.name)
        fits = stub is None or one.requirement.specifier.contains(stub.version, prereleases=True)
        if stub is not None and not fits and _names(text, one.name):
            return UnsatisfiableError(
                f"the constraint {redacted(one.line.text)} is not met: {_brings(stub)}",
                at=one.line.at,
                do=f"ask conda for a {stub.distribution.conda_name} that fits, or relax the constraint",
                story=story,
            )
    return None


def _contains(versions: str, stub: Stub) -> bool:
    try:
        return SpecifierSet(versions.rstrip(",.")).contains(stub.version, prereleases=True)
    except InvalidSpecifier:
        return True


def _clash_error(needs: str, stub: Stub, at: str | None, story: str) -> UnsatisfiableError:
    conda = stub.distribution.conda_name
    return UnsatisfiableError(
        f"{needs}, but {_brings(stub)}",
        at=at,
        do=f"ask conda for a {conda} that fits, take both from conda, or relax the requirement",
        story=story,
    )


def _unknown(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted], *, offline: bool
) -> EnvforgeError | None:
    names = list(dict.fromkeys(_MISSING.findall(text)))
    if not names:
        return None
    if offline and "network was disabled" in text:
        return _offline(f"{' and '.join(names)}: the index is", request, story)
    refused = re.search(r"\b(401 Unauthorized|403 Forbidden)\b", text)
    if refused:
        return _refused(refused[1], _first_url(text, request), story)
    requirers = [requirer for requirer, name in _NEEDS.findall(text) if name in names]
    by = f", which {requirers[0]} needs" if requirers else ""
    pinned = request.places.pinned
    own = [pinned[name] for name in map(canonical_name, names) if name in pinned]
    where = " or ".join(redacted(url) for url in own or request.places.indexes) or request.index
    return UnsatisfiableError(
        f"no package {' and no package '.join(names)} in {where}{by}",
        at=_at(names + requirers, wanted),
        do="check the spelling; if it is a conda package, write it outside pip:",
        story=story,
    )


def _too_new(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]
) -> UnsatisfiableError | None:
    match = re.search(rf"`({_NAME})` was filtered by `exclude-newer`", text)
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
    return UnsatisfiableError(
        f"{match[1]} needs Python {match[2].rstrip(',.')}; conda chose {request.python_version}",
        at=_at((match[1],), wanted),
        do="ask conda for another python, or for a version of the package that is made for this one",
        story=story,
    )


def _no_sdist(
    text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]
) -> UnsatisfiableError | None:
    match = re.search(rf"source distribution is required for `({_NAME})`", text)
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
    match = re.search(rf"Failed to build `({_NAME})==([^`]+)`", story)
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
    match = _NO_WHEEL.search(text)
    if match is None:
        return None
    name = match[1] or match[2]
    asked = next((redacted(one.line.text) for one in wanted if one.name == canonical_name(name)), name)
    return UnsatisfiableError(
        f"no wheel of {asked} fits {request.assumed}",
        at=_at((name,), wanted),
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


def _no_set(text: str, story: str, request: PypiRequest, wanted: Sequence[Wanted]) -> UnsatisfiableError:
    named = [one for one in wanted if _names(text, one.name)]
    what = " and ".join(redacted(one.line.text) for one in named[:3]) or "the PyPI requirements"
    empty = re.search(rf"there are no versions of ({_NAME})", text)
    if empty is not None:
        return UnsatisfiableError(
            f"{request.index} has no files of {empty[1]}",
            at=_at((empty[1],), wanted),
            do="check that the URL is the one of a simple index (PEP 503), often ending in /simple",
            story=story,
        )
    return UnsatisfiableError(
        f"nothing satisfies {what} for {request.assumed}",
        at=", ".join(one.line.at for one in named) or None,
        do="relax one of them; the log has the whole derivation",
        story=story,
    )


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


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
