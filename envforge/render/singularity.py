"""``render singularity``: a definition file of Apptainer and Singularity."""

from __future__ import annotations

import posixpath
import shlex
from pathlib import Path

import envforge
from envforge.errors import InputError
from envforge.formats.singularity import check, files_word, header_value, printable
from envforge.model.image import BaseImage, check_image_prefix
from envforge.node.proving.scan import RECEIPT
from envforge.render.recipe import DISTRIBUTION, HostMpi, printed, recipe_labels
from envforge.render.sources import RecipeSource

__all__ = ["ARCHIVE", "recipe_base", "singularity"]

_AGENTS = ("localimage", "oci-archive")
_INSIDE = {
    "bundle": "/envforge/bundle.sh",
    "mirror": "/envforge/mirror",
    "lockfile": "/envforge/conda-lock.yml",
    "prefix": "/envforge/prefix.tar",
}
ARCHIVE = "{}.tar"
"""What a prefix is packed into before it can be built into an image, from the environment's name."""


def recipe_base(text: str | None) -> BaseImage:
    """Read ``docker:NAME@sha256:…``, ``localimage:PATH`` or ``oci-archive:PATH``.

    :raises InputError: for another form, for a docker image without digest, and for a path that a definition
        file cannot name.
    """
    base = BaseImage.parse(text, _AGENTS)
    if base.agent != "docker":
        header_value(base.reference, what="the path of the base", at="--base")
    return base


def singularity(
    source: RecipeSource, base: BaseImage, *, prefix: str, tool: Path, mpi: HostMpi | None = None
) -> str:
    """The definition file that installs ``source`` on ``base`` at ``prefix``.

    A prefix that is there already stays at its own path.

    :param tool: the directory of wheels to install envforge from, as the build finds it; for a mirror or a
        lockfile, since a bundle brings its own.
    :param mpi: how the cluster's MPI is used.
    :returns: the text, held against the grammar.
    :raises InputError: for a name or path that a definition file cannot express.
    """
    prefix = _checked_prefix(source, prefix)
    name = printable(source.name, what="the lock's name", at="the lock's name")
    brought = ARCHIVE.format(Path(source.path).name) if source.kind == "prefix" else source.path
    values: dict[str, object] = {
        "base": base,
        "version": envforge.__version__,
        "distribution": DISTRIBUTION,
        "source": source,
        "lock_name": name,
        "lock_option": f" --lock {shlex.quote(name)}" if source.kind == "mirror" else "",
        "inside": _INSIDE[source.kind],
        "source_files": files_word(brought, what="the path of the source", at="SOURCE"),
        "tool_files": files_word(tool.as_posix(), what="the path of the wheels", at="--tool"),
        "tool_shell": shlex.quote(tool.as_posix()),
        "prefix": prefix,
        "parent": posixpath.dirname(prefix),
        "name": posixpath.basename(prefix),
        "receipt": RECEIPT,
        "labels": recipe_labels(source, base, source.generation or prefix),
        "mpi": mpi,
    }
    kind = source.kind if source.kind in ("bundle", "prefix") else "tool"
    recipe = printed(f"singularity-{kind}.def.j2", values)
    check(recipe)
    return recipe


def _checked_prefix(source: RecipeSource, asked: str) -> str:
    """The prefix in the image: a prefix that is there is linked for its own path."""
    if source.kind != "prefix":
        return check_image_prefix(asked)
    try:
        check_image_prefix(source.prefix)
        return check_image_prefix(source.generation) and source.prefix
    except InputError as error:
        raise InputError(
            f"an environment stays at the path that it was linked for, and {error.what}",
            at=source.prefix,
            do="render a recipe for its bundle instead: envforge render singularity BUNDLE",
        ) from error
