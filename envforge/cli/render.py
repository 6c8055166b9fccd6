"""``envforge render``"""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import click

import envforge
from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.cli.containers import ROOM, apptainer_build, started
from envforge.cli.options import together
from envforge.errors import InputError
from envforge.settings import load_settings

if TYPE_CHECKING:
    from envforge.model.image import BaseImage
    from envforge.render.recipe import HostMpi
    from envforge.render.sources import RecipeSource

__all__ = ["command"]

_WHEELS = "envforge-wheels"


@click.group("render")
def command() -> None:
    """Print a recipe, from which another tool builds an image with the environment in it."""


recipe_options = together(
    click.argument("source", type=click.Path(path_type=Path)),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Write FILE.  [default: stdout]"),
    click.option(
        "--prefix",
        default="/opt/env",
        show_default=True,
        help="Where the environment is in the image.",
    ),
    click.option(
        "--mpi",
        metavar="MODEL",
        help="hybrid: the image's own, started by the cluster's launcher; bind[:DIR]: the cluster's.",
    ),
    click.option(
        "--profile",
        metavar="P",
        help="The nodes that it is for: whether their driver will do, and where their MPI is; a file of "
        "'envforge probe'.",
    ),
    click.option("--dry-run", is_flag=True, help="Check everything that can be checked, and write nothing."),
    output_options,
)
"""The source and the options of every recipe."""


@command.command("singularity", short_help="An Apptainer/Singularity definition file.")
@recipe_options
@click.option(
    "--base",
    metavar="BASE",
    help="What to start from: docker:NAME@sha256:HEX, localimage:PATH or oci-archive:PATH.",
)
@click.option("--lock", metavar="NAME", help="Which lock of a mirror, where it holds several.")
@click.option(
    "--tool",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help=f"For a mirror or lockfile: wheels of envforge.  [default: {_WHEELS} beside FILE]",
)
def render_singularity(
    source: Path,
    *,
    base: str | None,
    output: Path | None,
    prefix: str,
    mpi: str | None,
    profile: str | None,
    lock: str | None,
    tool: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Print an Apptainer/Singularity definition file that installs SOURCE at --prefix.

    SOURCE is a bundle (one file, no network, any base), a mirror (no network), a lockfile (with network), or
    a prefix that is here already, which keeps its path.  Paths go into the recipe as they are typed: start
    the build in the same directory.
    """
    from envforge.render.singularity import recipe_base, singularity

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    image = recipe_base(base or load_settings().text("base-image"))
    opened = _open(source, lock)
    tool = tool or (output.parent if output is not None else Path()) / _WHEELS
    model = _mpi(mpi, opened, profile)
    recipe = singularity(opened, image, prefix=prefix, tool=tool, mpi=model)
    following = _steps(opened, output or Path("env.def"), tool)
    _print(console, recipe, opened, image, output, prefix=prefix, following=following, dry_run=dry_run)
    if output is not None:
        if opened.kind in ("mirror", "lockfile") and len(following) > 1:
            console.note("the wheels must fit the base: make them on Linux with its version of Python")
        _tell(console, image, following)
        console.note(ROOM)
        _tell_use(console, opened, model, str(output.with_suffix(".sif")))
    return 0


@command.command("dockerfile", short_help="A Dockerfile for docker, podman, buildah and ch-image.")
@recipe_options
@click.option("--base", metavar="BASE", help="What to start from: docker:NAME@sha256:HEX.")
def render_dockerfile(
    source: Path,
    *,
    base: str | None,
    output: Path | None,
    prefix: str,
    mpi: str | None,
    profile: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Print a Dockerfile that installs SOURCE, a bundle, at --prefix.

    docker, podman, buildah and Charliecloud's ch-image build it, without root and without network.  The
    bundle has to lie in the directory in which the build is started, or below it.
    """
    from envforge.model.image import BaseImage
    from envforge.render.dockerfile import dockerfile, image_tag

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    image = BaseImage.parse(base or load_settings().text("base-image"), ())
    opened = _open(source, None)
    name = (output or Path("Dockerfile")).name
    recipe = dockerfile(opened, image, prefix=prefix, file=name, mpi=_mpi(mpi, opened, profile))
    following = [
        f"podman build -t {image_tag(opened.name)} -f {shlex.quote(name)} .   # or docker, or buildah"
    ]
    _print(console, recipe, opened, image, output, prefix=prefix, following=following, dry_run=dry_run)
    if output is not None:
        _tell(console, image, following)
        console.note(
            "for Charliecloud, which knows no digests in FROM, the two lines are in the head of the file"
        )
    return 0


def _mpi(text: str | None, source: RecipeSource, profile: str | None) -> HostMpi | None:
    """How MPI is used, and whether the nodes of the profile can run what was locked."""
    from envforge.cli.profiles import profile_mpi, profile_target
    from envforge.render.recipe import HostMpi, check_cuda

    if profile is None:
        return HostMpi.of(text, source)
    check_cuda(source, profile_target(profile).version("__cuda"), profile)
    return HostMpi.of(text, source, profile_mpi(profile))


def _open(path: Path, lock: str | None) -> RecipeSource:
    from envforge.node.sources.bundles import is_bundle
    from envforge.render.sources import from_bundle, from_lockfile, from_mirror, from_prefix

    if (path / ".envforge").is_dir():
        return from_prefix(path)
    if path.is_dir():
        return from_mirror(path, lock)
    if not path.exists():
        raise InputError(
            "no such bundle, mirror, lockfile or prefix",
            at=str(path),
            do="name a bundle, a mirror, a conda-lock.yml or a prefix",
        )
    if lock is not None:
        raise InputError("--lock chooses among the locks of a mirror", at=str(path), do="leave --lock out")
    if is_bundle(path):
        return from_bundle(path)
    from envforge.formats import conda_lock

    text = read_text(path)
    return from_lockfile(path, conda_lock.read(text, source=str(path)), text.encode())


def _print(
    console: Console,
    recipe: str,
    source: RecipeSource,
    image: BaseImage,
    output: Path | None,
    *,
    prefix: str,
    following: list[str],
    dry_run: bool,
) -> None:
    """Write the recipe, or print it."""
    if output is not None and not dry_run:
        write_atomically(output, recipe)
    prefix = source.prefix or prefix
    document = {
        "recipe": recipe,
        "base": str(image),
        "lock": f"sha256:{source.sha256}",
        "lock_name": source.name,
        "prefix": prefix,
        "output": str(output) if output is not None and not dry_run else None,
        "next": following,
    }
    state = "would be written" if dry_run else "written"
    line = f"{output} {state}: lock {source.name} at {prefix}, from {image}"
    print_result(console, recipe.splitlines() if output is None else [line], document)


def _steps(source: RecipeSource, recipe: Path, tool: Path) -> list[str]:
    """The commands that make the image of a definition file."""
    from envforge.render.recipe import DISTRIBUTION
    from envforge.render.singularity import ARCHIVE

    wheel = f"{DISTRIBUTION.replace('-', '_')}-{envforge.__version__}-*.whl"

    commands = []
    if source.kind == "prefix":
        archive = shlex.quote(ARCHIVE.format(Path(source.path).name))
        options = "--sort=name --numeric-owner --owner=0 --group=0"
        commands.append(f"tar -C / {options} -cf {archive} {shlex.quote(source.generation[1:])}")
    elif source.kind != "bundle" and not any(tool.glob(wheel)):
        commands.append(f"python -m pip wheel --wheel-dir {shlex.quote(str(tool))} {_own_source()}")
    commands.append(apptainer_build(recipe.with_suffix(".sif"), shlex.quote(str(recipe))))
    return commands


def _own_source() -> str:
    """Where this envforge was installed from, if that is a directory which is still there."""
    from envforge.render.recipe import DISTRIBUTION

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
    for number, line in enumerate(following):
        console.note(f"{'then' if number else 'next'}: {line}")


def _tell_use(console: Console, source: RecipeSource, mpi: HostMpi | None, image: str) -> None:
    """How it is started on a cluster where it wants a GPU or is a parallel program."""
    if source.mpi is not None and not source.mpi.own and mpi is None:
        console.note("the environment takes the cluster's MPI: name where it is, --mpi bind:/DIR/OF/LIBMPI")
    if source.cuda or source.mpi:
        directories = mpi.directories if mpi else ()
        words = started("apptainer run", cuda=source.cuda, mpi=source.mpi, directories=directories)
        console.note(f"on the cluster: {words} {shlex.quote(image)} COMMAND")
