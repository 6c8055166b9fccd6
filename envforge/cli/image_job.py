"""What the kinds of ``envforge image`` have in common: their options, and the tree that they are made of."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from envforge.cli.console import Console, print_result
from envforge.cli.options import together
from envforge.errors import InputError

if TYPE_CHECKING:
    from envforge.edges.fetch import Fetcher
    from envforge.edges.store import Store
    from envforge.image.base import Base
    from envforge.model.image import BaseImage
    from envforge.model.lockfile import LockedPackage
    from envforge.node.image_tree import ImageTree
    from envforge.node.sources.source import ArtifactSource

__all__ = ["Job", "Made", "image_options", "registry_place", "site_base"]


image_options = together(
    click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path)),
    click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write."),
    click.option("--prefix", default="/opt/env", show_default=True, help="Where the environment is in it."),
    click.option("-p", "--platform", help="For which platform.  [default: the source's only Linux platform]"),
    click.option("--group", "groups", multiple=True, help="This group, too; repeatable."),
    click.option("--lock", metavar="NAME", help="Which lock of a mirror."),
    click.option(
        "--expect-lock", metavar="sha256:HEX", help="Refuse to make an image of any other lockfile."
    ),
    click.option("--no-runtime", is_flag=True, help="Leave out the envforge that a bundle brings."),
    click.option(
        "--store",
        "stores",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Unpack and link here.  [default: the cache; on a node, beside the output]",
    ),
    click.option("-j", "--jobs", type=click.IntRange(1, 256), help="Threads.  [default: what is allowed]"),
    click.option("--dry-run", is_flag=True, help="Check everything that can be checked, and write nothing."),
)
"""The source and the options of every kind of image."""


def site_base() -> str | None:
    """The base that the settings name, if it is one that an image can be written on without a tool."""
    from envforge.settings import load_settings

    named = load_settings().text("base-image")
    return named if named is not None and not named.startswith("localimage:") else None


def registry_place(named: str | None) -> str | None:
    """The registry that was named, or that the settings name, with the path that images have in it.

    :raises InputError: if it is none.
    """
    from envforge.model.image import check_registry
    from envforge.settings import load_settings

    place = named or load_settings().text("registry")
    return None if place is None else check_registry(place)


@dataclass(frozen=True, kw_only=True)
class Made:
    """The tree, and the base that it goes on top of, in a directory that is gone afterwards."""

    tree: ImageTree
    base: Base | None
    work: Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is asked for, checked; nothing is written yet."""

    console: Console
    output: Path
    prefix: str
    source: ArtifactSource
    store: Store
    platform: str
    groups: tuple[str, ...]
    runtime: bool
    jobs: int
    dry_run: bool
    base: BaseImage | None
    passing: bool

    @classmethod
    def of(
        cls,
        console: Console,
        output: Path,
        *,
        source: Path,
        prefix: str,
        platform: str | None,
        groups: tuple[str, ...],
        lock: str | None,
        expect_lock: str | None,
        no_runtime: bool,
        stores: tuple[Path, ...],
        jobs: int | None,
        dry_run: bool,
        base: str | None,
    ) -> Job:
        """Check what was asked for.

        :raises InputError: if it cannot be made.
        """
        from envforge.edges.machine import jobs_available
        from envforge.edges.store import Store
        from envforge.image.base import parse_base
        from envforge.model.image import check_image_prefix
        from envforge.settings import store_layers

        check_image_prefix(prefix)
        named = parse_base(base) if base is not None else None
        parent = _check_output(output)
        default, passing = _default_store(parent)
        root, lower = store_layers(stores, default)
        store = Store(root, lower)
        opened, known, made_for = _open(source, lock, store, console, expect_lock)
        return cls(
            console=console,
            output=output,
            prefix=prefix,
            source=opened,
            store=store,
            platform=_chosen(opened, platform, known),
            groups=tuple(dict.fromkeys(("main", *(groups or made_for)))),
            runtime=not no_runtime,
            jobs=jobs or jobs_available(parent),
            dry_run=dry_run,
            base=named,
            passing=passing and root == default,
        )

    @contextmanager
    def made(self) -> Iterator[Made]:
        """The tree, and the base if one was named, for as long as the block lasts."""
        from envforge.node.image_tree import TreeOptions, make_image_tree

        base = self._open_base()
        options = TreeOptions(
            prefix=self.prefix,
            platform=self.platform,
            groups=self.groups,
            runtime=self.runtime,
            jobs=self.jobs,
        )
        with self._store_for_now(), self.store.scratch() as work:
            tree = make_image_tree(self.source, options, work=work, store=self.store, reporter=self.console)
            yield Made(tree=tree, base=base, work=work)

    def _open_base(self) -> Base | None:
        from envforge.image.base import check_glibc, open_base
        from envforge.settings import cache_directory

        if self.base is None:
            return None
        base = open_base(
            self.base,
            self.platform,
            self.prefix,
            cache=cache_directory(),
            fetcher=_fetcher,
            reporter=self.console,
        )
        check_glibc(base, self.source.lockfile.rows(self.platform, self.groups), self.console)
        return base

    @contextmanager
    def _store_for_now(self) -> Iterator[None]:
        """A store that nobody named and no cache is, is gone afterwards."""
        from envforge.edges.scratch import remove_tree

        self.store.clean()
        try:
            yield
        finally:
            if self.passing:
                remove_tree(self.store.root)

    def would(self) -> int:
        """Say what a dry run has found out."""
        rows = self.source.lockfile.rows(self.platform, self.groups)
        document = {
            "output": None,
            "platform": self.platform,
            "prefix": self.prefix,
            "packages": len(rows),
            "base": None if self.base is None else str(self.base),
        }
        line = f"would write {self.output}: {len(rows)} packages for {self.platform} at {self.prefix}"
        print_result(self.console, [line + (f", on {self.base}" if self.base else "")], document)
        return 0

    def started(self, verb: str) -> str:
        """How Apptainer is started on a cluster with such an environment."""
        from envforge.cli.containers import started
        from envforge.model.mpi import mpi_of

        lockfile = self.source.lockfile
        target = lockfile.target(self.platform)
        cuda = target.version("__cuda") if target else None
        return started(verb, cuda=cuda, mpi=mpi_of(lockfile.rows(self.platform, self.groups)))

    def document(self, tree: ImageTree) -> dict[str, object]:
        """What every kind of image says of itself as JSON."""
        return {
            "output": str(self.output),
            "platform": tree.facts.platform,
            "prefix": tree.facts.prefix,
            "packages": len(tree.receipt.packages),
            "files": sum(record.kind == "file" for record in tree.receipt.files),
            "lock": f"sha256:{tree.facts.lock}",
            "receipt": f"sha256:{tree.facts.receipt}",
        }


def _fetcher() -> Fetcher:
    from envforge.edges.fetch import Fetcher
    from envforge.model.access import Access
    from envforge.settings import load_settings

    return Fetcher(access=Access.of(load_settings()))


def _check_output(output: Path) -> Path:
    """The directory to write in; a file there is replaced only if it is an image."""
    from envforge.edges.images import image_kind

    parent = output.absolute().parent
    if not parent.is_dir():
        raise InputError("no such directory", at=str(parent), do=f"mkdir -p {shlex.quote(str(parent))}")
    if output.exists() and (output.is_dir() or image_kind(output) is None):
        raise InputError(
            "there is something of this name, and it is no image",
            at=f"-o {output}",
            do="name another: -o FILE",
        )
    return parent


def _default_store(parent: Path) -> tuple[Path, bool]:
    """The cache of a laptop; on a node, where nothing is left behind, one beside the output for this time."""
    from envforge.settings import cache_directory

    on_node = Path(sys.prefix).name == "runtime"
    if on_node:
        return parent / f".envforge-{os.getpid()}", True
    return cache_directory() / "store", False


def _open(
    path: Path, lock: str | None, store: Store, console: Console, expected: str | None
) -> tuple[ArtifactSource, str | None, tuple[str, ...]]:
    """The source, the platform that it is for if it is for one, and the groups that it was made of."""
    from envforge.cli.sources import open_source
    from envforge.node.sources.bundles import BundleSource

    if (path / ".envforge").is_dir() and expected is None:
        return _open_prefix(path, store)
    opened = open_source(path, lock=lock, store=store, reporter=console, expected=expected)
    if isinstance(opened, BundleSource):
        return opened, opened.bundle.contents.platform, opened.groups
    return opened, None, ()


def _open_prefix(path: Path, store: Store) -> tuple[ArtifactSource, str | None, tuple[str, ...]]:
    """An installed environment: its lock, and its artifacts from the store beside it."""
    from envforge.edges.store import Store
    from envforge.node.proving.receipts import read_receipt
    from envforge.node.sources.source import StoreSource, read_lock_json

    tree, receipt = read_receipt(path)
    lockfile, sha256 = read_lock_json(tree / ".envforge" / "lock.json")
    layered = Store(store.root, (*store.layers[1:], tree.parent / "store"))

    def refuse(rows: Sequence[LockedPackage]) -> None:
        missing = [row.filename for row in rows if layered.artifact(row.sha256 or "") is None]
        if missing:
            raise InputError(
                f"{len(missing)} of the files that it was installed from are not in its store: {missing[0]}",
                at=str(tree.parent / "store"),
                do="name the bundle, mirror or lockfile that it was installed from instead",
            )

    return StoreSource(lockfile, sha256, layered, refuse), receipt.platform, receipt.groups


def _chosen(source: ArtifactSource, asked: str | None, known: str | None) -> str:
    """The platform that was asked for, or the only one that an image can be for."""
    if known is not None and asked not in (None, known):
        raise InputError(f"the source is for {known}", at=f"-p {asked}", do=f"leave it out, or -p {known}")
    linux = [name for name in source.lockfile.platforms if name.startswith("linux-")]
    platform = asked or known or (linux[0] if len(linux) == 1 else None)
    if platform is None:
        raise InputError(
            f"the lock has {len(linux)} platforms that an image can be for",
            at=f"platforms: {', '.join(source.lockfile.platforms)}",
            do=f"say which: -p {linux[0]}" if linux else "envforge lock -p linux-64   # images run Linux",
        )
    return platform
