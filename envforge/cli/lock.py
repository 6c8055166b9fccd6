"""``envforge lock``"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.errors import AnswerNo, InputError
from envforge.formats import conda_lock, environment_yml
from envforge.formats._pip_lines import check_project_name
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import Target, VirtualPackage, check_platform
from envforge.model.profile import intersected, parse_profile
from envforge.model.spec import EnvironmentSpec
from envforge.node.install import host_platform

__all__ = ["command"]

_FOUND = ("environment.yml", "environment.yaml")


@click.command("lock")
@click.argument("specs", metavar="[SPEC]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-f", "files", multiple=True, type=click.Path(path_type=Path), help="A SPEC, as conda users type it."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The lockfile.  [default: conda-lock.yml]"
)
@click.option("-p", "--platform", "platforms", multiple=True, help="Lock for this platform; repeatable.")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="P",
    help="Lock for this kind of node, such as 'linux-64 glibc=2.28 cuda=12.4'.",
)
@click.option(
    "--virtual-package", "virtual", multiple=True, metavar="__NAME=VERSION", help="Assume it on the target."
)
@click.option("--cuda", metavar="VERSION", help="Assume an NVIDIA driver for this CUDA: __cuda.")
@click.option("--glibc", metavar="VERSION", help="Assume this glibc: __glibc.")
@click.option("-c", "--channel", "channels", multiple=True, help="Use this channel instead of the SPEC's.")
@click.option("--index-url", "indexes", multiple=True, metavar="URL", help="Use this index instead of PyPI.")
@click.option("-U", "--upgrade", "upgrade_all", is_flag=True, help="Let every locked version go.")
@click.option(
    "-P", "--upgrade-package", "upgrade", multiple=True, metavar="PKG", help="Let the version of PKG go."
)
@click.option(
    "--no-binary",
    "no_binary",
    multiple=True,
    metavar="PKG",
    help="Build PKG from its sdist; runs its code here.",
)
@click.option("--exclude-newer", metavar="DATE", help="Ignore what was published after DATE.")
@click.option("--check", is_flag=True, help="Only say whether the lockfile still satisfies the SPEC.")
@click.option("--offline", is_flag=True, help="Resolve from the cache only.")
@click.option("--dry-run", is_flag=True, help="Resolve, and write nothing.")
@output_options
def command(
    specs: tuple[Path, ...],
    files: tuple[Path, ...],
    output: Path | None,
    *,
    check: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Resolve SPEC (environment.yml) into conda-lock.yml.

    Conda and PyPI dependencies are resolved together, for each platform's own virtual packages and never
    for this machine's.  Versions that are locked already are kept where they still fit.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    path = _one_spec(specs + files)
    spec = environment_yml.read(read_text(path, limit=10_000_000), source=str(path))
    output = output or Path("conda-lock.yml")
    previous = _previous(output)
    if check:
        return _check(console, spec, previous, output, path, options)
    return _lock(console, spec, previous, output, path, options, dry_run=dry_run)


def _lock(
    console: Console,
    spec: EnvironmentSpec,
    previous: Lockfile | None,
    output: Path,
    path: Path,
    given: dict[str, Any],
    *,
    dry_run: bool,
) -> int:
    from envforge.edges.fetch import Fetcher
    from envforge.lock.options import targets_for
    from envforge.lock.run import lock
    from envforge.settings import cache_directory

    options = _options(given, previous)
    targets = targets_for(spec, options, previous, host_platform())
    _tell_targets(console, targets, previous)
    lockfile = lock(
        spec,
        targets,
        options=options,
        previous=previous,
        base=path.absolute().parent,
        sources=[Path(os.path.relpath(path, output.absolute().parent)).as_posix()],
        cache=cache_directory(),
        fetcher=Fetcher(offline=options.offline),
        reporter=console,
        place=output.absolute().parent,
    )
    if not output.name.endswith(("-lock.yml", "-lock.yaml")):
        console.note(f"micromamba takes a lockfile for one only if its name ends in -lock.yml: {output.name}")
    text = conda_lock.write(lockfile)
    changed = previous is None or lockfile != previous
    if not dry_run:
        write_atomically(output, text)
    _print(console, lockfile, output, changed=changed, dry_run=dry_run)
    return 0


def _one_spec(named: tuple[Path, ...]) -> Path:
    if len(named) > 1:
        raise InputError(
            f"{len(named)} specifications were named, and only one can be locked",
            at=" ".join(map(str, named)),
            do="put the dependencies into one environment.yml",
        )
    if named:
        return named[0]
    found = [Path(name) for name in _FOUND if Path(name).is_file()]
    if not found:
        raise InputError(
            "no specification here",
            at=str(Path.cwd()),
            do="name one: envforge lock path/to/environment.yml",
        )
    return found[0]


def _previous(output: Path) -> Lockfile | None:
    if not output.exists():
        return None
    return conda_lock.read(read_text(output), source=str(output))


def _options(given: dict[str, Any], previous: Lockfile | None) -> Any:
    from envforge.lock.options import LockOptions, settings_of

    kept = settings_of(previous) if previous is not None else {}
    assumed = [VirtualPackage.parse(text) for text in given["virtual"]]
    for option, name in (("cuda", "__cuda"), ("glibc", "__glibc")):
        if given[option]:
            assumed.append(VirtualPackage(name=name, version=given[option]))
    for package in assumed:
        _check_version(package)
    return LockOptions(
        targets=intersected(parse_profile(text) for text in given["profiles"]),
        platforms=tuple(check_platform(name, at="-p") for name in given["platforms"]),
        channels=given["channels"] or _texts(kept.get("channels")),
        indexes=given["indexes"] or _texts(kept.get("indexes")),
        assumed=tuple(assumed),
        upgrade_all=given["upgrade_all"],
        upgrade=given["upgrade"],
        no_binary=tuple(
            sorted(check_project_name(name, at="--no-binary") for name in given["no_binary"])
            or _texts(kept.get("no-binary"))
        ),
        exclude_newer=given["exclude_newer"]
        or (str(kept["exclude-newer"]) if "exclude-newer" in kept else None),
        offline=given["offline"],
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(text) for text in value) if isinstance(value, list) else ()


def _check_version(package: VirtualPackage) -> None:
    import re

    if not re.fullmatch(r"\d+(\.\d+)*", package.version):
        raise InputError(
            f"{package.version!r} is no version of {package.name}",
            at=str(package),
            do="write digits and dots",
        )


def _check(
    console: Console,
    spec: EnvironmentSpec,
    previous: Lockfile | None,
    output: Path,
    path: Path,
    given: dict[str, Any],
) -> int:
    from envforge.lock.check import first_unmet
    from envforge.lock.options import targets_for

    if previous is None:
        raise AnswerNo("there is no lockfile", at=str(output), do=f"envforge lock {path}")
    options = _options(given, previous)
    spec = replace(spec, channels=options.channels or spec.channels)
    targets = targets_for(spec, options, previous, host_platform())
    spec = replace(spec, no_binary=(*spec.no_binary, *options.no_binary))
    base, place = path.absolute().parent, output.absolute().parent
    unmet = first_unmet(spec, previous, targets, base, place)
    if unmet is not None:
        raise AnswerNo(unmet.what, at=unmet.at, do=f"envforge lock {path}")
    document = {"satisfied": True, "lockfile": str(output), "digest": previous.digest()}
    print_result(console, [f"{output} satisfies {path}"], document)
    return 0


def _tell_targets(console: Console, targets: tuple[Target, ...], previous: Lockfile | None) -> None:
    for target in targets:
        before = previous.target(target.platform) if previous is not None else None
        if before is not None and before != target:
            console.note(f"{target.platform} was locked for {before}, now for {target}")
    if not any(target.platform.startswith("linux-") for target in targets):
        console.note("no Linux platform is locked; a cluster needs one: envforge lock -p linux-64")


def _print(console: Console, lockfile: Lockfile, output: Path, *, changed: bool, dry_run: bool) -> None:
    lines = []
    counts = {}
    for platform in lockfile.platforms:
        rows = [row for row in lockfile.packages if row.platform == platform]
        pip = sum(row.manager == "pip" for row in rows)
        counts[platform] = {"conda": len(rows) - pip, "pip": pip, "target": str(lockfile.target(platform))}
        lines.append(
            f"{platform:<14} {len(rows) - pip:>4} conda {pip:>4} pip   assuming {lockfile.target(platform)}"
        )
    state = "would be written" if dry_run else "written" if changed else "unchanged"
    lines.append(f"{output} {state}   ({lockfile.digest()[:12]})")
    document = {
        "lockfile": str(output),
        "digest": lockfile.digest(),
        "changed": changed,
        "written": not dry_run,
        "platforms": counts,
    }
    print_result(console, lines, document)
