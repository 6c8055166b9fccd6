"""``render dockerfile``: one that docker, podman, buildah and Charliecloud's ``ch-image`` build alike."""

from __future__ import annotations

import posixpath

import envforge
from envforge.errors import InputError
from envforge.formats.dockerfile import check, context_path, label_value
from envforge.model.image import GPU_VARIABLES, BaseImage, check_image_prefix
from envforge.node.using.activate import label
from envforge.render.recipe import HostMpi, printed, recipe_labels
from envforge.render.sources import RecipeSource

__all__ = ["dockerfile", "image_tag"]


def image_tag(name: str) -> str:
    """What an image of the lock ``name`` is called where it is built: letters that every builder takes."""
    return label(name).lower().strip("._+-") or "environment"


def dockerfile(
    source: RecipeSource, base: BaseImage, *, prefix: str, file: str, mpi: HostMpi | None = None
) -> str:
    """The Dockerfile that installs a bundle on ``base`` at ``prefix``, without network and without root.

    :param file: what the Dockerfile is called, for the commands in its head.
    :param mpi: how the cluster's MPI is used.
    :returns: the text, held against the grammar.
    :raises InputError: for another source, or a name or path that a Dockerfile cannot express.
    """
    if source.kind != "bundle":
        raise InputError(
            f"a {source.kind} is not one file, and a Dockerfile is rendered for a bundle",
            at=source.path,
            do=f"envforge bundle {source.path if source.kind != 'prefix' else ''}".rstrip()
            + "   # then: envforge render dockerfile BUNDLE",
        )
    if mpi is not None and mpi.preloaded:
        raise InputError(
            f"the {mpi.preloaded} in the environment comes before the cluster's, and a Dockerfile cannot "
            "say otherwise",
            at="--mpi bind",
            do="lock a stub: mpich=*=external_* of conda-forge/label/mpi-external; or: envforge render "
            "singularity BUNDLE",
        )
    check_image_prefix(prefix)
    name = label_value(source.name, what="the lock's name", at="the lock's name")
    values: dict[str, object] = {
        "base": base,
        "version": envforge.__version__,
        "source": source,
        "bundle": context_path(source.path, what="the path of the bundle", at="BUNDLE"),
        "lock_name": name,
        "lock_digest": source.digest,
        "labels": recipe_labels(source, base, prefix),
        "shown": label(name),
        "tag": image_tag(name),
        "file": file,
        "prefix": prefix,
        "parent": posixpath.dirname(prefix),
        "gpu_variables": GPU_VARIABLES,
        "mpi": mpi,
    }
    recipe = printed("dockerfile.j2", values)
    check(recipe)
    return recipe
