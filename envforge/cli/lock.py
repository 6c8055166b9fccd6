"""``envforge lock``"""

from __future__ import annotations

import os
import platform as machine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envforge.cli import completing
from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.cli.defaults import check_allowed, network, with_defaults
from envforge.cli.options import platforms_option
from envforge.cli.profiles import PROFILE_HELP, profile_target
from envforge.cli.specs import base_of, explained, read_specs
from envforge.errors import AnswerNo, InputError
from envforge.formats import conda_lock
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import Target, VirtualPackage, check_platform, overrides_of, platform_of
from envforge.model.profile import intersected
from envforge.model.spec import CHANNEL_PRIORITIES, EnvironmentSpec
from envforge.settings import load_settings

if TYPE_CHECKING:
    from envforge.lock.options import LockOptions
    from envforge.resolvers.conda import LesserVariant


__all__ = ["command", "lock_options"]


@click.command("lock")
@click.argument("specs", metavar="[SPEC]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-f", "files", multiple=True, type=click.Path(path_type=Path), help="A SPEC, as conda users type it."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The lockfile.  [default: conda-lock.yml]"
)
@platforms_option("Lock for this platform; repeatable.")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="P",
    help=f"Lock for this kind of node: {PROFILE_HELP}.",
)
@click.option(
    "--virtual-package", "virtual", multiple=True, metavar="__NAME=VERSION", help="Assume it on the target."
)
@click.option("--cuda", metavar="VERSION", help="Assume an NVIDIA driver for this CUDA: __cuda.")
@click.option("--glibc", metavar="VERSION", help="Assume this glibc: __glibc.")
@click.option("-c", "--channel", "channels", multiple=True, help="Use this channel instead of the SPEC's.")
@click.option("--index-url", "indexes", multiple=True, metavar="URL", help="Use this index instead of PyPI.")
@click.option(
    "--index-of", multiple=True, metavar="PKG=URL", help="Take PKG from this index only; repeatable."
)
@click.option(
    "--find-links", multiple=True, metavar="DIR|URL", help="Look for wheels here, beside the indexes."
)
@click.option("--python", metavar="VERSION", help="The cluster's own Python, where conda brings none: 3.11.")
@click.option(
    "--pre/--no-pre",
    "prerelease",
    default=None,
    help="Take pre-releases from the indexes, too; or no longer.",
)
@click.option("-U", "--upgrade", "upgrade_all", is_flag=True, help="Let every locked version go.")
@click.option(
    "-P",
    "--upgrade-package",
    "upgrade",
    multiple=True,
    metavar="PKG",
    shell_complete=completing.packages,
    help="Let the version of PKG go; PKG may name versions: 'numpy>=2,<3'.",
)
@click.option(
    "--no-binary",
    "no_binary",
    multiple=True,
    metavar="PKG",
    shell_complete=completing.packages,
    help="Build PKG from its sdist; runs its code here.",
)
@click.option("--environment", metavar="NAME", help="Lock this environment of a pixi manifest.")
@click.option(
    "--channel-priority",
    type=click.Choice(CHANNEL_PRIORITIES),
    help="Whether later channels count for what an earlier one has.  [default: strict]",
)
@click.option(
    "--exclude-newer", metavar="DATE", help="Ignore what was published after DATE: 2026-11-23, or 7d."
)
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
    """Resolve SPEC into conda-lock.yml.

    SPEC is an environment.yml, a pixi.toml, a pyproject.toml, a requirements file or a Pipfile; several are
    joined.  Without one it is the environment.yml, pixi.toml, pyproject.toml or requirements.in of the
    working directory.

    Conda and PyPI dependencies are resolved together, for each platform's own virtual packages and never
    for this machine's.  Versions that are locked already are kept where they still fit.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    output = output or Path("conda-lock.yml")
    previous = _previous(output)
    chosen = lock_options(options, previous)
    spec = read_specs(
        console,
        specs + files,
        environment=chosen.environment,
        insist=options["environment"] is not None,
        python=chosen.python,
    )
    spec = with_defaults(spec, load_settings())
    if check:
        return _check(console, spec, previous, output, chosen)
    return _lock(console, spec, previous, output, chosen, dry_run=dry_run)


def _lock(
    console: Console,
    spec: EnvironmentSpec,
    previous: Lockfile | None,
    output: Path,
    options: LockOptions,
    *,
    dry_run: bool,
) -> int:
    from envforge.cli.locked import Locked, print_locked
    from envforge.edges.fetch import Fetcher
    from envforge.lock.channels import asked_channels
    from envforge.lock.options import targets_for
    from envforge.lock.run import lock
    from envforge.lock.upgrades import unmoved
    from envforge.settings import cache_directory

    check_allowed(asked_channels(spec, options, base_of(spec)), load_settings())
    targets = targets_for(spec, options, previous, _host())
    _tell_targets(console, targets, previous, options)
    lesser: dict[str, tuple[LesserVariant, ...]] = {}
    with explained(console, spec, targets, _host()):
        lockfile = lock(
            spec,
            targets,
            options=options,
            previous=previous,
            base=base_of(spec),
            sources=[_seen_from(output, source) for source in spec.sources],
            cache=cache_directory(),
            fetcher=Fetcher(offline=options.offline, access=network()),
            reporter=console,
            place=output.absolute().parent,
            lesser=lesser.__setitem__,
        )
    if not output.name.endswith(("-lock.yml", "-lock.yaml")):
        console.note(f"micromamba takes a lockfile for one only if its name ends in -lock.yml: {output.name}")
    text = conda_lock.write(lockfile)
    if not dry_run:
        write_atomically(output, text)
    if previous is not None:
        for line in unmoved(options.upgrade, previous, lockfile):
            console.note(line)
        _tell_cutoff(console, options, previous, output)
    print_locked(
        console,
        Locked(
            spec=spec,
            before=previous,
            after=lockfile,
            lesser=lesser,
            path=output,
            written=not dry_run,
        ),
    )
    return 0


def _previous(output: Path) -> Lockfile | None:
    if not output.exists():
        return None
    return conda_lock.read(read_text(output), source=str(output))


def _seen_from(output: Path, source: str) -> str:
    """A file of the specification as the lockfile names it."""
    return Path(os.path.relpath(source, output.absolute().parent)).as_posix()


def lock_options(given: dict[str, Any], previous: Lockfile | None) -> LockOptions:
    """What was given on the command line, and what the lockfile that is renewed says beside that."""
    from envforge.lock.options import LockOptions, settings_of
    from envforge.lock.upgrades import Upgrade

    kept = settings_of(previous) if previous is not None else {}
    assumed = [VirtualPackage.parse(text) for text in given["virtual"]]
    for option, name in (("cuda", "__cuda"), ("glibc", "__glibc")):
        if given[option] is not None:
            assumed.append(VirtualPackage(name=name, version=given[option]))
    for package in assumed:
        _check_version(package)
    return LockOptions(
        targets=intersected(profile_target(text) for text in given["profiles"]),
        platforms=tuple(check_platform(name, at="-p") for name in given["platforms"]),
        channels=tuple(map(_channel, given["channels"])) or _texts(kept.get("channels")),
        indexes=given["indexes"] or _texts(kept.get("indexes")),
        index_of=_index_of(given["index_of"]) or _pairs(kept.get("index-of")),
        find_links=tuple(map(_find_links, given["find_links"])) or _texts(kept.get("find-links")),
        prerelease=kept.get("pre") is True if given["prerelease"] is None else given["prerelease"],
        python=_python(given["python"] or kept.get("python")),
        provides=load_settings().table("provides"),
        assumed=tuple(assumed),
        upgrade_all=given["upgrade_all"],
        upgrade=tuple(Upgrade.parse(text) for text in given["upgrade"]),
        no_binary=_no_binary(given["no_binary"]) or _texts(kept.get("no-binary")),
        channel_priority=given["channel_priority"] or _priority(kept.get("channel-priority")),
        overrides=overrides_of(os.environ),
        exclude_newer=given["exclude_newer"]
        or (str(kept["exclude-newer"]) if "exclude-newer" in kept else None),
        environment=given["environment"] or (str(kept["environment"]) if "environment" in kept else None),
        offline=given["offline"],
    )


def _priority(value: object) -> str | None:
    return value if isinstance(value, str) and value in CHANNEL_PRIORITIES else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(text) for text in value) if isinstance(value, list) else ()


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    return tuple((str(k), str(v)) for k, v in sorted(value.items())) if isinstance(value, dict) else ()


def _no_binary(given: tuple[str, ...]) -> tuple[str, ...]:
    if not given:
        return ()
    from envforge.formats._requirement import check_project_name

    return tuple(sorted(check_project_name(name, at="--no-binary") for name in given))


def _index_of(given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    if not given:
        return ()
    from envforge.formats._requirement import check_index, check_project_name

    found = {}
    for text in given:
        name, equals, url = text.partition("=")
        if not equals:
            raise InputError(
                f"{text!r} names no index", at="--index-of", do="write --index-of PKG=https://HOST/simple"
            )
        found[check_project_name(name, at="--index-of")] = check_index(url)
    return tuple(sorted(found.items()))


def _find_links(text: str) -> str:
    """A path on the command line is relative to the working directory, and not to the specification."""
    return text if "://" in text else Path(text).expanduser().resolve().as_uri()


def _channel(text: str) -> str:
    """As for ``--find-links``; a channel may be a name, too."""
    return _find_links(text) if text.startswith((".", "/", "~")) else text


def _python(value: object) -> str | None:
    from envforge.model.python import check_python

    return None if value is None else check_python(str(value), at="--python")


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
    options: LockOptions,
) -> int:
    from envforge.lock.check import first_unmet
    from envforge.lock.options import targets_for

    named = " ".join(spec.sources)
    if previous is None:
        raise AnswerNo("there is no lockfile", at=str(output), do=f"envforge lock {named}")
    targets = targets_for(spec, options, previous, _host())
    base, place = base_of(spec), output.absolute().parent
    unmet = first_unmet(spec, previous, targets, options=options, base=base, place=place)
    if unmet is not None:
        raise AnswerNo(unmet.what, at=unmet.at, do=f"envforge lock {named}")
    document = {"satisfied": True, "lockfile": str(output), "digest": previous.digest()}
    print_result(console, [f"{output} satisfies {named}"], document)
    return 0


def _host() -> str:
    return platform_of(machine.system(), machine.machine())


def _tell_cutoff(console: Console, options: LockOptions, previous: Lockfile, output: Path) -> None:
    """What a person who upgrades may have forgotten."""
    from envforge.lock.options import settings_of

    kept = settings_of(previous).get("exclude-newer")
    if (options.upgrade_all or options.upgrade) and kept is not None and kept == options.exclude_newer:
        console.note(
            f"nothing newer than {kept} counts, as {output} says: --exclude-newer DATE for another date"
        )


def _tell_targets(
    console: Console, targets: tuple[Target, ...], previous: Lockfile | None, options: LockOptions
) -> None:
    profiles = {target.platform for target in options.targets}
    for override in options.overrides:
        meant = override.package or VirtualPackage(name=override.name, version="0")
        free = (t for t in targets if t.platform not in profiles and t.may_offer(meant))
        if any(override.applied(target) == target for target in free):
            console.note(
                f"{override.variable} is set: {override.package or f'no {override.name}'} is assumed"
            )
    for target in targets:
        before = previous.target(target.platform) if previous is not None else None
        if before is not None and before != target:
            console.note(f"{target.platform} was locked for {before}, now for {target}")
    if not any(target.platform.startswith("linux-") for target in targets):
        console.note("no Linux platform is locked; a cluster needs one: envforge lock -p linux-64")
