"""``envforge bundle``"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envforge.cli.console import Console, human_size, output_options, print_result, read_text
from envforge.cli.defaults import check_lockfile, network
from envforge.cli.options import platform_option
from envforge.errors import InputError

if TYPE_CHECKING:
    from envforge.bundle import BundleOptions, BundleResult, CarriedRuntime
    from envforge.layout.plan import LockfileInput
    from envforge.model.lockfile import LockedPackage, Lockfile

__all__ = ["command"]


@click.command("bundle")
@click.argument(
    "source", metavar="[LOCKFILE|MIRROR]", default="conda-lock.yml", type=click.Path(path_type=Path)
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file.  [default: NAME-PLATFORM-DIGEST8.sh]"
)
@platform_option("For which platform.  [default: the lock's only Linux platform]")
@click.option("--group", "groups", multiple=True, help="Carry this group, too; repeatable.")
@click.option("--lock", metavar="NAME", help="Which lock of a mirror.")
@click.option(
    "--since",
    metavar="OLD",
    help="Leave out what OLD has: a bundle, manifest, mirror or lockfile, or REVISION:PATH of one in git.",
)
@click.option("--no-runtime", is_flag=True, help="Carry no Python and no envforge: the node has them.")
@click.option(
    "--runtime-only", is_flag=True, help="Carry nothing else: installs envforge itself, for a site."
)
@click.option(
    "--runtime-lock", type=click.Path(path_type=Path), metavar="FILE", help="A lockfile of one's own for it."
)
@click.option(
    "--sign",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Sign it: with envforge's key, or an ssh key.",
)
@click.option(
    "--squashfs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the environment itself instead, as one SquashFS that is mounted at /opt/env.",
)
@click.option("-j", "--jobs", default=4, show_default=True, type=click.IntRange(1, 64), help="Files at once.")
@output_options
def command(
    source: Path,
    *,
    output: Path | None,
    platform: str | None,
    groups: tuple[str, ...],
    lock: str | None,
    since: str | None,
    no_runtime: bool,
    runtime_only: bool,
    runtime_lock: Path | None,
    sign: Path | None,
    squashfs: Path | None,
    jobs: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Write one file that installs the environment of a LOCKFILE or MIRROR where there is nothing else.

    On the node: sh FILE --prefix P.  It needs a shell, tar and gzip there, and no Python, network or root.
    BUNDLE.sha256 beside it is what the other side can be sure by.
    """
    from envforge.bundle import BundleOptions, bundle
    from envforge.cli.since import what_is_there
    from envforge.edges.scratch import scratch

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if squashfs is not None:
        if output or since or runtime_only or runtime_lock or sign:
            raise _at_odds("--squashfs", "a SquashFS is no bundle: only -p, --group and --lock go with it")
        return _squashfs(console, squashfs, source=source, platform=platform, groups=groups, lock=lock)
    if no_runtime and (runtime_only or runtime_lock is not None):
        raise _at_odds("--no-runtime", "without a runtime there is none to choose")
    if runtime_only and (groups or since):
        raise _at_odds("--runtime-only", "the runtime alone has no packages to choose")
    _check_before(output, sign)
    parent = _parent(output)
    opened = _Opened.of(source, lock, platform, console)
    carried = () if runtime_only else tuple(dict.fromkeys(("main", *groups)))
    nothing = (frozenset[str](), None, None)
    omitted, digest, runtime_there = what_is_there(since, opened.platform, carried) if since else nothing
    options = BundleOptions(
        platform=opened.platform, groups=carried, omitted=omitted, since=digest, jobs=jobs
    )
    with scratch(parent) as work:
        runtime = None if no_runtime else _runtime(opened, runtime_lock, work, console, runtime_there)
        result = bundle(
            opened.given,
            opened.locate,
            lambda name: parent / (name if output is None or output.is_dir() else output.name),
            runtime=runtime,
            options=options,
            reporter=console,
        )
    _finish(console, result, sign, options)
    return 0


def _squashfs(console: Console, output: Path, **words: Any) -> int:
    from envforge.cli.image import write_squashfs_of

    rest = {"prefix": "/opt/env", "base": None, "no_runtime": True, "stores": (), "dry_run": False}
    rest |= {"expect_lock": None}
    return write_squashfs_of(console, output, compression="gzip", jobs=None, **rest, **words)


def _parent(output: Path | None) -> Path:
    """The directory to write in, which is there: what takes long is not begun in vain."""
    from envforge.sign import check_name

    place = (output or Path()).absolute()
    parent = place if output is None or place.is_dir() else place.parent
    if not parent.is_dir():
        raise InputError("no such directory", at=str(parent), do=f"mkdir -p {shlex.quote(str(parent))}")
    if output is not None and not output.is_dir():
        check_name(output)
    return parent


def _at_odds(option: str, what: str) -> InputError:
    return InputError(what, at=option, do="leave it out")


def _check_before(output: Path | None, sign: Path | None) -> None:
    """Refuse a place that cannot be written to, or a key that cannot sign, before minutes were spent."""
    from envforge.node.sources.bundles import is_bundle
    from envforge.sign import check_key, check_name

    if sign is not None:
        check_key(sign)
    if output is None or output.is_dir():
        return
    check_name(output)
    if output.exists() and not is_bundle(output):
        raise InputError(
            "there is a file of this name, and it is no bundle", at=f"-o {output}", do="name another: -o FILE"
        )


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """What is bundled: the lockfile, one platform of it, and where its artifacts are."""

    given: LockfileInput
    platform: str
    locate: Callable[[LockedPackage], Path]

    @classmethod
    def of(cls, source: Path, lock: str | None, platform: str | None, console: Console) -> _Opened:
        from envforge.layout.plan import LockfileInput
        from envforge.node.sources.source import MirrorSource
        from envforge.settings import load_settings

        if source.is_dir():
            mirror = MirrorSource(source, lock)
            name = mirror.name
            content = (source / "locks" / f"{name}.conda-lock.yml").read_bytes()
            check_lockfile(mirror.lockfile, load_settings())
            given = LockfileInput(
                content=content, filename=f"{name}.conda-lock.yml", lockfile=mirror.lockfile
            )
            return cls(given=given, platform=_chosen(mirror.lockfile, platform), locate=mirror.artifact)
        from envforge.formats import conda_lock
        from envforge.node.sources.bundles import is_bundle

        if is_bundle(source):
            raise InputError(
                "this is a bundle already", at=str(source), do=f"envforge extract {source} DIR   # a mirror"
            )
        if lock is not None:
            raise InputError("a lockfile has no other locks in it", at=f"--lock {lock}", do="leave it out")
        text = read_text(source)
        lockfile = conda_lock.read(text, source=str(source))
        check_lockfile(lockfile, load_settings())
        given = LockfileInput(content=text.encode(), filename=source.name, lockfile=lockfile)
        chosen = _chosen(lockfile, platform)
        return cls(given=given, platform=chosen, locate=_fetched(given, source, chosen, console))


def _chosen(lockfile: Lockfile, platform: str | None) -> str:
    """The platform that was asked for, or the only one that a bundle can be for."""
    from envforge.model.bundle import BUNDLE_PLATFORMS

    possible = [name for name in lockfile.platforms if name in BUNDLE_PLATFORMS]
    if platform is not None and platform not in BUNDLE_PLATFORMS:
        raise InputError(
            f"a bundle cannot be for {platform}", at="-p", do=f"name one of: {', '.join(BUNDLE_PLATFORMS)}"
        )
    if platform is not None and platform not in lockfile.platforms:
        raise InputError(
            f"the lockfile has no packages for {platform}",
            at=f"platforms: {', '.join(lockfile.platforms)}",
            do=f"envforge lock -p {platform}   # then bundle again",
        )
    if platform is None and len(possible) != 1:
        raise InputError(
            f"the lockfile has {len(possible)} platforms that a bundle can be for",
            at=f"platforms: {', '.join(lockfile.platforms)}",
            do=f"say which: -p {possible[0]}"
            if possible
            else "envforge lock -p linux-64   # then bundle again",
        )
    return platform or possible[0]


def _fetched(
    given: LockfileInput, source: Path, platform: str, console: Console
) -> Callable[[LockedPackage], Path]:
    """Have the lockfile's artifacts in a mirror of its own among the caches: what was fetched once stays."""
    from envforge.layout.plan import lock_name
    from envforge.mirror import MirrorOptions, mirror
    from envforge.node.sources.source import MirrorSource
    from envforge.resolvers.building.builder import BuildingFetcher
    from envforge.settings import cache_directory

    place = hashlib.sha256(str(source.absolute()).encode()).hexdigest()[:8]
    directory = cache_directory() / "mirrors" / f"{lock_name(given)}-{place}"
    options = MirrorOptions(platforms=(platform,), prune=True)
    fetcher = BuildingFetcher(
        [(given.lockfile, source.absolute().parent)],
        cache=cache_directory(),
        reporter=console,
        access=network(),
    )
    mirror([given], directory, fetcher=fetcher, options=options, reporter=console)
    return MirrorSource(directory).artifact


def _runtime(
    opened: _Opened, runtime_lock: Path | None, work: Path, console: Console, there: str | None
) -> CarriedRuntime:
    from envforge.bundle import CarriedRuntime
    from envforge.edges.fetch import Fetcher
    from envforge.edges.store import Store
    from envforge.formats import conda_lock
    from envforge.runtime import make_runtime
    from envforge.settings import cache_directory

    own = None
    if runtime_lock is not None:
        own = conda_lock.read(read_text(runtime_lock), source=str(runtime_lock))
    store = Store(cache_directory() / "store")
    store.clean()
    made = make_runtime(
        opened.given.lockfile,
        opened.platform,
        None if own is not None else opened.locate,
        work=work,
        store=store,
        fetcher=Fetcher(access=network()),
        reporter=console,
        runtime_lock=own,
    )
    return CarriedRuntime(**asdict(made), there=made.sha256 == there)


def _finish(console: Console, result: BundleResult, sign: Path | None, options: BundleOptions) -> None:
    from envforge.model.signature import BundleFacts
    from envforge.sign import sign_file, write_checksum

    checksum = write_checksum(result.path, result.sha256)
    left_out = f", {result.omitted} left out" if result.omitted else ""
    lines = [
        f"{result.path}   {human_size(result.size)}, {result.packages} packages{left_out}",
        f"sha256 {result.sha256}   (also in {checksum.name})",
    ]
    signed = None
    if sign is not None:
        facts = BundleFacts(name=result.name, platform=result.platform, lock=result.lock)
        signed = sign_file(result.path, sign, facts)
        lines += [f"signed: {signed.path.name}", f"check it: {signed.check}"]
    lines.append(f"on the node: sh {result.path.name} --prefix P")
    document = {
        "path": str(result.path),
        "sha256": result.sha256,
        "size": result.size,
        "packages": result.packages,
        "omitted": result.omitted,
        "platform": result.platform,
        "groups": list(options.groups),
        "lock": result.lock,
        "manifest": result.manifest,
        "runtime": result.runtime,
        "since": options.since,
        "checksum": str(checksum),
        "signature": None if signed is None else str(signed.path),
    }
    print_result(console, lines, document)
