"""``envforge render``"""

from __future__ import annotations

import hashlib
import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

import envforge
from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.errors import InputError
from envforge.model.image import BaseImage
from envforge.render import DISTRIBUTION, RecipeSource, from_lockfile, from_mirror, recipe_base, singularity
from envforge.settings import load_settings

__all__ = ["command"]

_WHEELS = "envforge-wheels"
_ROOM = "where /tmp is small, set APPTAINER_TMPDIR to a local directory with room for the image"


@click.group("render")
def command() -> None:
    """Print a recipe that installs a mirror or lockfile into an image."""


@command.command("singularity", short_help="An Apptainer/Singularity definition file.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--base",
    metavar="BASE",
    help="What to start from: docker:NAME@sha256:HEX, localimage:PATH or oci-archive:PATH.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write FILE.  [default: stdout]")
@click.option(
    "--prefix", default="/opt/env", show_default=True, help="Where the environment is in the image."
)
@click.option("--lock", metavar="NAME", help="Which lock of the mirror, where it holds several.")
@click.option(
    "--tool",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help=f"Wheels of envforge and what it needs.  [default: {_WHEELS} beside FILE]",
)
@click.option("--dry-run", is_flag=True, help="Check everything that can be checked, and write nothing.")
@output_options
def render_singularity(
    source: Path,
    *,
    base: str | None,
    output: Path | None,
    prefix: str,
    lock: str | None,
    tool: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Print an Apptainer/Singularity definition file that installs SOURCE at --prefix.

    SOURCE is a mirror (the image is built without network) or a lockfile (with network).  Paths go into the
    recipe as they are typed: start the build in the same directory.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    image = recipe_base(base or load_settings().text("base-image"))
    opened = _open(source, lock)
    tool = tool or (output.parent if output is not None else Path()) / _WHEELS
    recipe = singularity(opened, image, prefix=prefix, tool=tool)
    if output is not None and not dry_run:
        write_atomically(output, recipe)
    following = _following(output or Path("env.def"), tool)
    document = {
        "recipe": recipe,
        "base": str(image),
        "lock": f"sha256:{opened.sha256}",
        "lock_name": opened.name,
        "prefix": prefix,
        "output": str(output) if output is not None and not dry_run else None,
        "next": following,
    }
    if output is None:
        print_result(console, recipe.splitlines(), document)
        return 0
    state = "would be written" if dry_run else "written"
    lines = [f"{output} {state}: lock {opened.name} at {prefix}, from {image}"]
    print_result(console, lines, document)
    _tell(console, image, following)
    return 0


def _open(path: Path, lock: str | None) -> RecipeSource:
    if path.is_dir():
        return from_mirror(path, lock)
    if not path.exists():
        raise InputError(
            "no such mirror or lockfile", at=str(path), do="name a mirror directory or a conda-lock.yml"
        )
    if lock is not None:
        raise InputError("--lock chooses among the locks of a mirror", at=str(path), do="leave --lock out")
    from envforge.formats import conda_lock

    text = read_text(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return from_lockfile(path, conda_lock.read(text, source=str(path)), digest)


def _following(recipe: Path, tool: Path) -> list[str]:
    """The commands that make the image, the first only where the wheels are not there."""
    commands = []
    if not any(tool.glob(f"{DISTRIBUTION.replace('-', '_')}-{envforge.__version__}-*.whl")):
        commands.append(f"python -m pip wheel --wheel-dir {shlex.quote(str(tool))} {_own_source()}")
    image = recipe.with_suffix(".sif")
    commands.append(f"apptainer build {shlex.quote(str(image))} {shlex.quote(str(recipe))}")
    return commands


def _own_source() -> str:
    """Where this envforge was installed from, if that is a directory which is still there."""
    try:
        record = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        record = {}
    url = urlsplit(str(record.get("url", "")))
    path = Path(unquote(url.path))
    if url.scheme == "file" and (path / "pyproject.toml").is_file():
        return shlex.quote(str(path))
    return "PATH-OF-ENVFORGE-SOURCE"


def _tell(console: Console, image: BaseImage, following: list[str]) -> None:
    if image.agent != "docker" and not Path(image.reference).exists():
        console.note(f"{image.reference} is not here yet; the build needs it")
    if len(following) > 1:
        console.note("the wheels must fit the base: make them on Linux with the Python version of the base")
    for number, line in enumerate(following):
        console.note(f"{'then' if number else 'next'}: {line}")
    console.note(_ROOM)
