"""``render``: recipes, text that another tool builds an image from.

A recipe is a function of its arguments: no clock, no path of this machine but those that were typed.
Everything is decided here; the template only prints, and the text is checked before anyone sees it.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import envforge
from envforge.errors import EnvforgeError, InputError
from envforge.formats.singularity import check, files_word, header_value, printable
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.urls import redacted
from envforge.node.scan import RECEIPT
from envforge.node.sources import MirrorSource, lock_packages

__all__ = [
    "BASES",
    "DISTRIBUTION",
    "BaseImage",
    "RecipeSource",
    "check_prefix",
    "from_lockfile",
    "from_mirror",
    "singularity",
]

DISTRIBUTION = "envforge-hpc"
"""What pip calls this tool.  The name ``envforge`` belongs to another project on the public index."""

BASES = "--base docker:NAME@sha256:HEX | --base localimage:PATH | --base oci-archive:PATH"
"""The forms of a base, for errors and help."""

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"((?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(\w[\w.-]{{0,127}}))?(?:@(.*))?", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_+@=][A-Za-z0-9._+@=-]*)+")
# Mounted over when an image runs, made by the kernel, or used by the build itself.
_TAKEN = ("dev", "envforge", "home", "proc", "root", "run", "sys", "tmp", "var/tmp")


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """What an image starts from: a bootstrap agent and what it takes.

    ``tag`` is only remembered: of two names for one image the digest is the one that stays.
    """

    agent: str
    reference: str
    tag: str = ""

    @classmethod
    def parse(cls, text: str | None) -> BaseImage:
        """Read ``docker:NAME@sha256:…``, ``localimage:PATH`` or ``oci-archive:PATH``.

        :raises InputError: for another form, for a docker image without digest, and for a path that a
            definition file cannot name.
        """
        if not text:
            raise InputError("no base image was named", at="--base", do=BASES)
        agent, _, rest = text.partition(":")
        if agent == "docker":
            return cls._docker(rest.removeprefix("//"))
        if agent not in ("localimage", "oci-archive") or not rest:
            raise InputError(f"{text!r} is no base image", at="--base", do=BASES)
        header_value(rest, what="the path of the base", at="--base")
        if agent == "oci-archive" and ":" in rest:
            raise InputError(
                "an archive is named by its path alone, without a tag and without a colon in it",
                at=f"--base {text}",
                do="--base oci-archive:PATH   # rename the file where its name has a colon",
            )
        return cls(agent=agent, reference=rest)

    @classmethod
    def _docker(cls, image: str) -> BaseImage:
        match = _IMAGE.fullmatch(image)
        if match is None:
            raise InputError(f"{image!r} is no name of a docker image", at="--base", do=BASES)
        name, tag, digest = match.groups()
        if digest is None:
            named = f"{name}:{tag or 'latest'}"
            raise InputError(
                f"{named} may be another image tomorrow: a base is named by its digest",
                at=f"--base docker:{image}",
                do=f"skopeo inspect --format '{{{{.Digest}}}}' docker://{named}   "
                f"# then --base docker:{name}@sha256:…",
            )
        if not _DIGEST.fullmatch(digest):
            raise InputError(
                f"{digest!r} is no digest",
                at=f"--base docker:{image}",
                do=f"--base docker:{name}@sha256:HEX   # 64 hex digits in lower case",
            )
        return cls(agent="docker", reference=f"{name}@{digest}", tag=tag or "")

    def __str__(self) -> str:
        return f"{self.agent}:{self.reference}"


@dataclass(frozen=True, kw_only=True)
class RecipeSource:
    """What a recipe installs: a ``mirror`` or a ``lockfile``, at the path that was typed.

    ``platforms`` says for each Linux platform that can be installed what was assumed of it;
    ``has_python`` is whether each of them has a conda python.
    """

    kind: str
    path: str
    name: str
    sha256: str
    platforms: tuple[str, ...]
    has_python: bool


def from_mirror(path: Path, lock: str | None) -> RecipeSource:
    """The mirror at ``path`` and one of its locks.

    :param lock: its name; may be left out where there is one.
    :raises InputError: if there is no mirror, the lock must be named, or no Linux platform of it can be
        installed.
    :raises CouldNotError: if artifacts are missing.
    """
    source = MirrorSource(path, lock)
    name = lock if lock is not None else source.manifest.locks[0]
    return _source("mirror", path, name, source.lockfile, source.lockfile_sha256, source.artifact)


def from_lockfile(path: Path, lockfile: Lockfile, sha256: str) -> RecipeSource:
    """The lockfile at ``path``; its artifacts are downloaded when the image is built.

    :param sha256: that of the file.
    :raises InputError: if no Linux platform of it can be installed from inside a build.
    """
    return _source("lockfile", path, lockfile.name, lockfile, sha256, _check_reachable)


def _check_reachable(row: LockedPackage) -> None:
    """Refuse what a build cannot download: it has neither this machine's files nor its secrets."""
    if row.url.startswith(("https://", "http://")) and "$" not in row.url:
        return
    raise InputError(
        f"{row.filename} cannot be downloaded inside a build: its URL needs this machine's files or secrets",
        at=redacted(row.url),
        do="envforge mirror LOCKFILE DIR, then: envforge render singularity DIR",
    )


def _source(
    kind: str,
    path: Path,
    name: str,
    lockfile: Lockfile,
    sha256: str,
    available: Callable[[LockedPackage], object],
) -> RecipeSource:
    linux = [platform for platform in lockfile.platforms if platform.startswith("linux-")]
    if not linux:
        raise InputError(
            "the lockfile has no Linux platform, and images run Linux",
            at=f"{path}: platforms: {', '.join(lockfile.platforms)}",
            do="envforge lock -p linux-64",
        )
    usable: dict[str, bool] = {}
    refused: list[EnvforgeError] = []
    for platform in linux:
        try:
            rows = lock_packages(lockfile, platform, ("main",))
            for row in rows:
                available(row)
        except EnvforgeError as error:  # another platform may do: a mirror need not hold them all
            refused.append(error)
            continue
        usable[platform] = any(row.name == "python" and row.manager == "conda" for row in rows)
    if not usable:
        raise refused[0]
    return RecipeSource(
        kind=kind,
        path=path.as_posix(),
        name=name,
        sha256=sha256,
        platforms=tuple(f"{platform}: {lockfile.target(platform) or 'any'}" for platform in usable),
        has_python=all(usable.values()),
    )


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if it is a path at which an environment can stay in an image.

    :raises InputError: if it is not absolute, not plain, or at a place that something else is mounted on.
    """
    if not _PREFIX.fullmatch(prefix) or posixpath.normpath(prefix) != prefix:
        raise InputError(
            f"{prefix!r} cannot be a prefix in an image",
            at="--prefix",
            do="--prefix /opt/env   # absolute; letters, digits and ._+@=- only",
        )
    for taken in _TAKEN:
        if f"{prefix}/".startswith(f"/{taken}/"):
            raise InputError(
                f"/{taken} in an image belongs to the machine that it runs on, or to the build",
                at=f"--prefix {prefix}",
                do="--prefix /opt/env",
            )
    return prefix


def singularity(source: RecipeSource, base: BaseImage, *, prefix: str, tool: Path) -> str:
    """The definition file that installs ``source`` on ``base`` at ``prefix``.

    :param tool: the directory of wheels to install envforge from, as the build finds it.
    :returns: the text, held against the grammar.
    :raises InputError: for a name or path that a definition file cannot express.
    """
    from jinja2 import Environment, StrictUndefined

    check_prefix(prefix)
    name = printable(source.name, what="the lock's name", at="the lock's name")
    mirror = source.kind == "mirror"
    values: dict[str, object] = {
        "base": base,
        "version": envforge.__version__,
        "distribution": DISTRIBUTION,
        "kind": source.kind,
        "lock_name": name,
        "lock_sha256": source.sha256,
        "lock_option": f" --lock {shlex.quote(name)}" if mirror else "",
        "platforms": source.platforms,
        "has_python": source.has_python,
        "inside": "/envforge/mirror" if mirror else "/envforge/conda-lock.yml",
        "source_files": files_word(source.path, what="the path of the source", at="SOURCE"),
        "tool_files": files_word(tool.as_posix(), what="the path of the wheels", at="--tool"),
        "tool_shell": shlex.quote(tool.as_posix()),
        "prefix": prefix,
        "parent": posixpath.dirname(prefix),
        "name": posixpath.basename(prefix),
        "receipt": RECEIPT,
    }
    # Plain text for a shell, not HTML: what goes in was quoted or checked above.
    engine = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    text = (files("envforge") / "templates" / "singularity.def.j2").read_text(encoding="utf-8")
    recipe = engine.from_string(text).render(values)
    check(recipe)
    return recipe
