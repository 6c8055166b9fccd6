"""``envforge import``"""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import Any

import click

from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.cli.defaults import check_lockfile, network
from envforge.cli.options import platforms_option
from envforge.errors import InputError
from envforge.importing import Imported, ImportOptions
from envforge.model.foreign import ForeignLock
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import check_platform
from envforge.model.profile import intersected, parse_profile
from envforge.node.install import host_platform

__all__ = ["command"]


@click.command("import")
@click.argument("source", metavar="FILE|PREFIX", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("conda-lock.yml"),
    show_default=True,
    help="The lockfile.",
)
@click.option(
    "--spec", type=click.Path(path_type=Path), help="Also write the specification: environment.yml."
)
@platforms_option("Lock for this platform; repeatable.  [default: all]")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="P",
    help="Choose wheels for this kind of node, such as 'linux-64 glibc=2.28'.",
)
@click.option("--python", metavar="VERSION", help="Choose wheels for this Python, where FILE names none.")
@click.option("-c", "--channel", "channels", multiple=True, help="Look here for what names no channel.")
@click.option(
    "--index-url",
    "indexes",
    multiple=True,
    metavar="URL",
    help="Look here for what has no URL.  [default: PyPI]",
)
@click.option("--environment", metavar="NAME", help="Which environment of a pixi.lock.")
@click.option("--offline", is_flag=True, help="Ask no channel and no index.")
@click.option("--force", is_flag=True, help="Write over a lockfile that is there.")
@click.option("--dry-run", is_flag=True, help="Import, and write nothing.")
@output_options
def command(
    source: Path,
    output: Path,
    spec: Path | None,
    environment: str | None,
    *,
    offline: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> int:
    """Make conda-lock.yml of another tool's lockfile, or of an environment that is there.

    FILE is a pylock.toml, requirements.txt, pixi.lock, uv.lock, poetry.lock, Pipfile.lock, an @EXPLICIT list,
    a list of conda list --export, a pinned environment.yml, or what conda-pack made; PREFIX a conda or a
    virtual environment.  What it is, its content says.
    """
    from envforge.edges.fetch import Fetcher
    from envforge.importing import import_lock
    from envforge.importing.completing import ImportPorts
    from envforge.settings import cache_directory, load_settings

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    for path in (output, *([spec] if spec else [])):
        if path.exists() and not (force or dry_run):
            raise InputError(
                "there is a file already",
                at=str(path),
                do=f"name another one, or: rm {shlex.quote(str(path))}   # or --force",
            )
    options = _options(**given)
    lock, digest = _read(source, environment)
    found = import_lock(
        lock,
        source=str(source),
        listed=Path(os.path.relpath(source, output.absolute().parent)).as_posix(),
        digest=digest,
        host=host_platform(),
        options=options,
        ports=ImportPorts(
            fetcher=Fetcher(offline=offline, access=network()),
            cache=cache_directory(),
            reporter=console,
            offline=offline,
            variables=os.environ,
        ),
    )
    check_lockfile(found.lockfile, load_settings())
    for note in found.notes:
        console.note(note)
    _write(found, output, spec, source, dry_run=dry_run)
    _print(console, found, output, spec, dry_run=dry_run)
    return 0


def _options(
    platforms: tuple[str, ...],
    profiles: tuple[str, ...],
    python: str | None,
    channels: tuple[str, ...],
    indexes: tuple[str, ...],
) -> ImportOptions:
    targets = intersected(parse_profile(text) for text in profiles)
    return ImportOptions(
        platforms=tuple(check_platform(name, at="-p") for name in platforms)
        or tuple(target.platform for target in targets),
        targets=targets,
        python=python,
        channels=channels,
        indexes=indexes,
    )


def _read(source: Path, environment: str | None) -> tuple[ForeignLock, str]:
    from envforge.importing import is_installed, read_lock, read_prefix

    if source.exists() and is_installed(source):
        if environment is not None:
            raise InputError("only a pixi.lock has environments", at="--environment", do="leave it out")
        lock = read_prefix(source, host=host_platform())
        return lock, hashlib.sha256(repr(lock).encode()).hexdigest()
    text = read_text(source)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return read_lock(text, source=str(source), environment=environment), digest


def _write(found: Imported, output: Path, spec: Path | None, source: Path, *, dry_run: bool) -> None:
    from envforge.formats import conda_lock, environment_yml

    text = conda_lock.write(found.lockfile)
    comment = (
        f"What was imported from {source.name} ({found.kind}).  Locking it again keeps the locked versions."
    )
    wanted = environment_yml.write(found.spec, comment=comment)
    if dry_run:
        return
    if spec is not None:
        write_atomically(spec, wanted)
    write_atomically(output, text)


def _print(console: Console, found: Imported, output: Path, spec: Path | None, *, dry_run: bool) -> None:
    lockfile = found.lockfile
    counts = {platform: _counts(lockfile, platform) for platform in lockfile.platforms}
    lines = [f"{platform:<14} {n['conda']:>4} conda {n['pip']:>4} pip" for platform, n in counts.items()]
    state = "would be written" if dry_run else "written"
    lines.append(f"{output} {state} from {found.kind}   ({lockfile.digest()[:12]})")
    if spec is not None:
        lines.append(f"{spec} {state}")
    document = {
        "lockfile": str(output),
        "spec": None if spec is None else str(spec),
        "kind": found.kind,
        "digest": lockfile.digest(),
        "platforms": counts,
        "notes": list(found.notes),
        "written": not dry_run,
    }
    print_result(console, lines, document)


def _counts(lockfile: Lockfile, platform: str) -> dict[str, int]:
    rows = [row for row in lockfile.packages if row.platform == platform]
    pip = sum(row.manager == "pip" for row in rows)
    return {"conda": len(rows) - pip, "pip": pip}
