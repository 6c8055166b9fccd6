"""The SPEC of a command line: what is meant by it, and what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from envforge.cli.console import Console, read_text
from envforge.errors import InputError, UnsatisfiableError
from envforge.formats import specification
from envforge.model.platforms import Target
from envforge.model.spec import EnvironmentSpec

__all__ = ["base_of", "explained", "read_specs"]

_FOUND = ("environment.yml", "environment.yaml", "pixi.toml", "pyproject.toml", "requirements.in")
_ALSO = ("requirements.txt", "Pipfile")
_LIMIT = 10_000_000
_SHOWN = 5


def read_specs(
    console: Console,
    named: Sequence[Path],
    *,
    environment: str | None = None,
    insist: bool = False,
    python: str | None = None,
) -> EnvironmentSpec:
    """What the named files say together; a directory stands for the file in it, nothing for that of this one.

    :param insist: whether a file must have environments, if one is named.
    :raises InputError: if there is none, or something in one cannot be used.
    """
    paths = [_inside(path) if path.is_dir() else path for path in named] or [_inside(Path())]
    return specification.read_specification(
        [str(path) for path in paths],
        read=_read,
        note=console.note,
        environment=environment,
        insist=insist,
        python=python,
        variables=os.environ,
    )


def base_of(spec: EnvironmentSpec) -> Path:
    """The directory that paths in the specification are relative to."""
    return Path(spec.sources[0]).absolute().parent


def _read(path: str) -> str:
    return read_text(Path(path), limit=_LIMIT)


def _has_dependencies(path: Path) -> bool:
    from envforge.formats.pyproject_toml import has_dependencies  # which loads all that reads TOML

    return has_dependencies(_read(str(path)))


def _inside(directory: Path) -> Path:
    """The specification in a directory: a pyproject.toml that only has the settings of tools is none."""
    for name in _FOUND:
        path = directory / name
        if path.is_file() and (name != "pyproject.toml" or _has_dependencies(path)):
            return path
    other = next((name for name in _ALSO if (directory / name).is_file()), "path/to/environment.yml")
    raise InputError(
        "no specification here", at=str(directory.absolute()), do=f"name one: envforge lock {other}"
    )


@contextmanager
def explained(
    console: Console, spec: EnvironmentSpec, targets: Sequence[Target], host: str
) -> Iterator[None]:
    """Say it where a file that one machine exported is locked for another platform.

    :raises UnsatisfiableError: as what is done inside, with the way out.
    """
    foreign = [target.platform for target in targets if target.platform != host]
    tied = specification.tied_to_a_platform(spec) if foreign else ()
    again = f"conda env export --from-history > {spec.sources[0]}" if spec.sources else ""
    if tied:
        places = ", ".join(line.at for line in tied[:_SHOWN]) + (", …" if len(tied) > _SHOWN else "")
        console.note(
            f"{len(tied)} lines name a build that one platform has, as conda env export writes them "
            f"({places}); for {', '.join(foreign)}: {again}"
        )
    try:
        yield
    except UnsatisfiableError as error:
        if tied:
            error.do = f"{again}   # or: conda env export --no-builds"
        raise
