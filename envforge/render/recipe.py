"""What recipes have in common: how text is printed, and what is asked of GPUs and MPI."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    def of(cls, text: str, source: RecipeSource) -> HostMpi:
        """Read ``hybrid`` or ``bind:DIR[:DIR…]``, of an environment that has an MPI.

        :raises InputError: for anything else, and for an environment without MPI.
        """
        model, _, rest = text.partition(":")
        directories = tuple(rest.split(":")) if model == "bind" else ()
        if model not in ("bind", "hybrid") or (model == "hybrid" and rest):
            raise InputError(
                f"{text!r} is no way to use MPI", at="--mpi", do="--mpi hybrid | --mpi bind:/DIR/OF/LIBMPI"
            )
        for directory in directories:
            if not _DIRECTORY.fullmatch(directory):
                raise InputError(
                    f"{directory!r} is not an absolute path in plain letters",
                    at=f"--mpi {text}",
                    do="--mpi bind:/opt/mpi/lib",
                )
        if source.mpi is None:
            raise InputError(
                "the environment has no MPI, which could be replaced by the cluster's",
                at=f"--mpi {text}",
                do="add mpich, for which the MPI of most clusters can stand, or leave --mpi out",
            )
        if not directories and not source.mpi.own:
            raise InputError(
                "the environment has no MPI of its own: it takes the cluster's",
                at=f"--mpi {text}",
                do="--mpi bind:/DIR/OF/LIBMPI",
            )
        return cls(
            directories=directories, preloaded=source.mpi.soname if directories and source.mpi.own else ""
        )


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
