"""``render``: recipes, text that another tool builds an image from.

A recipe is a function of its arguments: no clock, no path of this machine but those that were typed.
Everything is decided here; the template only prints, and the text is checked before anyone sees it.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import envforge
from envforge.errors import EnvforgeError, InputError
from envforge.formats.singularity import check, files_word, header_value, printable
from envforge.model.image import BaseImage, check_image_prefix
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.urls import redacted
from envforge.node.scan import RECEIPT
from envforge.node.sources import MirrorSource, lock_packages

__all__ = [
    "DISTRIBUTION",
    "RecipeSource",
    "from_lockfile",
    "from_mirror",
    "recipe_base",
    "singularity",
]

DISTRIBUTION = "envforge-hpc"
"""What pip calls this tool.  The name ``envforge`` belongs to another project on the public index."""

_AGENTS = ("localimage", "oci-archive")


def recipe_base(text: str | None) -> BaseImage:
    """Read ``docker:NAME@sha256:…``, ``localimage:PATH`` or ``oci-archive:PATH``.

    :raises InputError: for another form, for a docker image without digest, and for a path that a definition
        file cannot name.
    """
    base = BaseImage.parse(text, _AGENTS)
    if base.agent != "docker":
        header_value(base.reference, what="the path of the base", at="--base")
    return base


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


def singularity(source: RecipeSource, base: BaseImage, *, prefix: str, tool: Path) -> str:
    """The definition file that installs ``source`` on ``base`` at ``prefix``.

    :param tool: the directory of wheels to install envforge from, as the build finds it.
    :returns: the text, held against the grammar.
    :raises InputError: for a name or path that a definition file cannot express.
    """
    from jinja2 import Environment, StrictUndefined

    check_image_prefix(prefix)
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
