"""What a lock is asked for beside dependencies and targets, and what of it a lockfile says of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from envforge.model.groups import MAIN
from envforge.model.lockfile import Lockfile, canonical_name
from envforge.model.platforms import Target
from envforge.model.spec import EnvironmentSpec, Line
from envforge.model.urls import without_secrets

__all__ = ["ASKED", "WORDS", "asked_text", "choices", "extras_of", "locked_choices", "spec_digest"]

ASKED = "envforge.asked"
"""The key of ``custom`` under which a lockfile says its :func:`choices`."""
WORDS = {
    "channel-priority": "--channel-priority",
    "exclude-newer": "--exclude-newer",
    "find-links": "--find-links",
    "index-of": "an index for",
    "indexes": "the index",
    "prerelease": "--pre",
    "python": "the Python",
}
"""What each choice is called in a message."""


def choices(spec: EnvironmentSpec) -> dict[str, object]:
    """Where is looked and which versions count, without secrets; what is usual is left out.

    :param spec: with what the command line says (:func:`~envforge.lock.options.applied`).
    """
    found: dict[str, object] = {
        "channel-priority": "" if spec.channel_priority == "strict" else spec.channel_priority,
        "exclude-newer": spec.exclude_newer,
        "find-links": [without_secrets(url, tokens=False) for url in spec.find_links],
        "index-of": {name: without_secrets(url, tokens=False) for name, url in spec.index_of},
        "indexes": [without_secrets(url, tokens=False) for url in spec.indexes],
        "prerelease": spec.prerelease,
        "python": spec.python,
    }
    return {key: value for key, value in found.items() if value}


def asked_text(spec: EnvironmentSpec) -> str:
    """One canonical line for ``custom``; empty if all is as usual."""
    content = choices(spec)
    extras = {name: sorted(found) for name, found in extras_of(spec.pip).items()}
    if extras:
        content["extras"] = extras
    return json.dumps(content, sort_keys=True, ensure_ascii=False) if content else ""


def locked_choices(lockfile: Lockfile) -> dict[str, object]:
    """What the lockfile says it was asked for; empty if that cannot be read."""
    try:
        found = json.loads(lockfile.custom.get(ASKED, "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def extras_of(lines: Sequence[Line]) -> dict[str, set[str]]:
    """The extras that requirements ask for, by project; a line that is no requirement has none."""
    if not lines:
        return {}
    from packaging.requirements import InvalidRequirement, Requirement

    found: dict[str, set[str]] = {}
    for line in lines:
        try:
            requirement = Requirement(line.text)
        except InvalidRequirement:
            continue
        if requirement.extras:
            known = found.setdefault(canonical_name(requirement.name), set())
            known.update(map(canonical_name, requirement.extras))
    return found


def spec_digest(
    spec: EnvironmentSpec, target: Target, channels: Sequence[str], chosen: Mapping[str, object]
) -> str:
    """sha256 in hex over what decides the lock of one platform: the same whatever the order of the lines.

    :param chosen: :func:`choices`.
    """
    content: dict[str, object] = {
        "channels": [without_secrets(url, tokens=True) for url in channels],
        "conda": sorted(map(_words, spec.conda_for(target.platform))),
        "pip": sorted(map(_words, spec.pip_for(target.platform))),
        "target": str(target),
    }
    optional = {
        "constraints": sorted(map(_words, spec.constraints_for(target.platform))),
        "conda-constraints": sorted(map(_words, spec.conda_constraints_for(target.platform))),
        "choices": chosen,
        "no-binary": sorted(spec.no_binary),
    }
    content |= {key: value for key, value in optional.items() if value}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _words(line: Line) -> list[str]:
    return [line.text, *sorted(line.hashes), *([] if line.group == MAIN else [f"group {line.group}"])]
