"""What recipes have in common: how text is printed, and what is asked of GPUs and MPI."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files

import envforge
from envforge.errors import InputError
from envforge.model.image import BaseImage, ImageFacts
from envforge.render.sources import RecipeSource

__all__ = ["DISTRIBUTION", "HostMpi", "printed", "recipe_labels"]

DISTRIBUTION = "envforge-hpc"
"""What pip calls this tool.  The name ``envforge`` belongs to another project on the public index."""

_DIRECTORY = re.compile(r"(?:/[A-Za-z0-9_+@=][A-Za-z0-9._+@=-]*)+")


@dataclass(frozen=True, kw_only=True)
class HostMpi:
    """A cluster's own MPI in place of that in the image (the bind model): the directories of its libraries.

    Without any, the MPI in the image is started by the cluster's launcher (the hybrid model).  ``preloaded``
    is the library that has to be loaded before anything else, because conda packages look for theirs in the
    environment (``DT_RPATH``) before they heed ``LD_LIBRARY_PATH``; empty where there is none in it.
    """

    directories: tuple[str, ...] = ()
    preloaded: str = ""

    @classmethod
    def of(cls, text: str | None, source: RecipeSource, found: str | None = None) -> HostMpi | None:
        """Read ``hybrid``, ``bind`` or ``bind:DIR[:DIR…]``, of an environment that has an MPI.

        :param text: ``None`` is ``bind`` if the environment has to take ``found``, else nothing special.
        :param found: the path of the cluster's library, as its profile has it.
        :raises InputError: for anything else, for an environment without MPI, and for one of another family.
        """
        mpi = source.mpi
        if text is None and (mpi is None or mpi.own or found is None):
            return None
        model, _, rest = (text or "bind").partition(":")
        if model == "bind" and not rest and found is not None:
            rest = posixpath.dirname(found)
            if mpi is not None and mpi.family and not found.endswith(f"/{mpi.soname}"):
                raise InputError(
                    f"the environment has an MPI of the family {mpi.family}, and the cluster's is another",
                    at=f"--profile: {found}",
                    do="lock with one of the cluster's family, or --mpi hybrid",
                )
        directories = tuple(rest.split(":")) if model == "bind" else ()
        _check_model(text or model, model, rest, directories)
        if mpi is None:
            raise InputError(
                "the environment has no MPI, which could be replaced by the cluster's",
                at=f"--mpi {text}",
                do="add mpich, for which the MPI of most clusters can stand, or leave --mpi out",
            )
        if not directories and not mpi.own:
            raise InputError(
                "the environment has no MPI of its own: it takes the cluster's",
                at=f"--mpi {text}",
                do="--mpi bind:/DIR/OF/LIBMPI",
            )
        return cls(directories=directories, preloaded=mpi.soname if directories and mpi.own else "")


def _check_model(text: str, model: str, rest: str, directories: Iterable[str]) -> None:
    if model not in ("bind", "hybrid") or (model == "hybrid" and rest):
        raise InputError(
            f"{text!r} is no way to use MPI", at="--mpi", do="--mpi hybrid | --mpi bind:/DIR/OF/LIBMPI"
        )
    for directory in directories:
        if not _DIRECTORY.fullmatch(directory):
            raise InputError(
                f"{directory!r} is not an absolute path in plain letters",
                at=f"--mpi {text}",
                do="--mpi bind:/opt/mpi/lib   # or --profile with a node's, which may say where it is",
            )


def check_cuda(source: RecipeSource, offered: str | None, profile: str) -> None:
    """Whether nodes whose driver runs CUDA ``offered`` can run what was locked for a GPU.

    :param profile: which profile says so, as it was typed.
    :raises InputError: if the driver is older, or there is none.
    """
    if source.cuda is None or (offered is not None and _numbers(offered) >= _numbers(source.cuda)):
        return
    has = f"the driver there runs {offered}" if offered else "there is no driver there"
    raise InputError(
        f"the environment was locked for CUDA {source.cuda}, and {has}",
        at=f"--profile {profile}",
        do=f"lock for it: envforge lock --profile {shlex.quote(profile)}",
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def recipe_labels(source: RecipeSource, base: BaseImage, prefix: str) -> dict[str, str]:
    """What an image that is built from a recipe says of itself, as one that envforge writes does."""
    facts = ImageFacts(
        kind="root",
        prefix=prefix,
        platform=source.platforms[0].partition(":")[0] if len(source.platforms) == 1 else "",
        name=source.name,
        lock=source.digest,
        receipt="",
        version=envforge.__version__,
    )
    labels = facts.labels() | {
        "org.envforge.lock.name": source.name,
        "org.envforge.lock.sha256": source.sha256,
        "org.envforge.base": str(base),
        "org.envforge.cuda": source.cuda or "",
        "org.envforge.mpi": source.mpi.family if source.mpi else "",
    }
    return {key: value for key, value in labels.items() if value}


def printed(template: str, values: Mapping[str, object]) -> str:
    """The text of one of ``envforge/templates`` with ``values`` in it.

    Plain text for a shell, not HTML: what goes in has been quoted or checked.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("envforge") / "templates"
    engine = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
    )
    return engine.get_template(template).render(values)
