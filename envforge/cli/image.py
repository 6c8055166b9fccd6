"""``envforge image``"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.errors import InputError

if TYPE_CHECKING:
    from envforge.edges.store import Store
    from envforge.image.base import Base
    from envforge.model.lockfile import LockedPackage
    from envforge.node.image_tree import ImageTree
    from envforge.node.sources import ArtifactSource

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group("image")
def command() -> None:
    """Write an image of a bundle, mirror, lockfile or prefix: one file, and no container tool is needed."""


def image_options(function: F) -> F:
    """The options of every kind of image."""
    for option in reversed(
        (
            click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path)),
            click.option(
                "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write."
            ),
            click.option(
                "--prefix", default="/opt/env", show_default=True, help="Where the environment is in it."
            ),
            click.option(
                "-p", "--platform", help="For which platform.  [default: the source's only Linux platform]"
            ),
            click.option("--group", "groups", multiple=True, help="This group, too; repeatable."),
            click.option("--lock", metavar="NAME", help="Which lock of a mirror."),
            click.option("--no-runtime", is_flag=True, help="Leave out the envforge that a bundle brings."),
            click.option(
                "--store",
                "stores",
                multiple=True,
                type=click.Path(path_type=Path),
                help="Unpack and link here.  [default: the cache; on a node, beside the output]",
            ),
            click.option(
                "-j", "--jobs", type=click.IntRange(1, 256), help="Threads.  [default: what is allowed]"
            ),
            click.option(
                "--dry-run", is_flag=True, help="Check everything that can be checked, and write nothing."
            ),
            output_options,
        )
    ):
        function = option(function)
    return function


@command.command("oci", short_help="An OCI archive, which docker load reads, too.")
@image_options
@click.option(
    "--base",
    metavar="BASE",
    help="What to start from: an OCI archive or layout, or docker:NAME@sha256:HEX.  [default: nothing]",
)
def image_oci(
    *, as_json: bool, quiet: bool, verbose: bool, base: str | None, output: Path, **words: Any
) -> int:
    """Write an OCI archive with the environment at --prefix, on top of --base.

    Podman, skopeo, buildah, umoci and Apptainer read it, and so does docker load.  It may be for another
    platform than this machine's.  The same lock, base and release give the same bytes.
    """
    from envforge.image.oci import write_oci

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    job = _Job.of(console, output, **words)
    with job.ready(base) as (tree, opened):
        if tree is None:
            return job.would(base)
        result = write_oci(tree, opened, output, jobs=job.jobs, reporter=console)
    if opened is None:
        console.note("there is no base in it: nothing runs in it until it lies on top of one")
    document = {
        **job.document(tree),
        "digest": result.digest,
        "size": result.size,
        "base": result.base,
        "layers": [{"name": n, "digest": digest, "size": size} for n, digest, size in result.layers],
    }
    lines = [
        f"{output}   {human_size(result.size)}, {len(result.layers)} layers"
        + (f" on {result.base}" if result.base else ""),
        f"manifest {result.digest}, lock sha256:{tree.facts.lock}",
    ]
    print_result(console, lines, document)
    _tell_next(console, output, result.name)
    return 0


def _tell_next(console: Console, output: Path, name: str) -> None:
    file = shlex.quote(str(output))
    image = shlex.quote(str(output.with_suffix("").with_suffix(".sif")))
    console.note(f"next: apptainer build {image} oci-archive:{file}")
    console.note("where /tmp is small, set APPTAINER_TMPDIR to a local directory with room for the image")
    console.note(f"or: podman load -i {file}   # or docker load; it is localhost/{name}:latest then")
    console.note(f"or: skopeo copy oci-archive:{file} docker://REGISTRY/{name}:TAG")


@dataclass(frozen=True, kw_only=True)
class _Job:
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
        no_runtime: bool,
        stores: tuple[Path, ...],
        jobs: int | None,
        dry_run: bool,
    ) -> _Job:
        from envforge.edges.machine import jobs_available
        from envforge.edges.store import Store
        from envforge.model.image import check_image_prefix
        from envforge.settings import store_layers

        check_image_prefix(prefix)
        parent = _check_output(output)
        root, lower = store_layers(stores, _default_store(parent))
        store = Store(root, lower)
        opened, known, made_for = _open(source, lock, store, console)
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
        )

    @contextmanager
    def ready(self, base: str | None) -> Iterator[tuple[ImageTree | None, Base | None]]:
        """The tree and the base, for as long as the block lasts; neither of them in a dry run."""
        from envforge.image.base import open_base, parse_base
        from envforge.node.image_tree import TreeOptions, make_image_tree

        named = parse_base(base) if base is not None else None
        if self.dry_run:
            yield None, None
            return
        opened = None
        if named is not None:
            from envforge.edges.fetch import Fetcher
            from envforge.settings import cache_directory

            opened = open_base(
                named,
                self.platform,
                self.prefix,
                cache=cache_directory(),
                fetcher=Fetcher(),
                reporter=self.console,
            )
        options = TreeOptions(
            prefix=self.prefix,
            platform=self.platform,
            groups=self.groups,
            runtime=self.runtime,
            jobs=self.jobs,
        )
        self.store.clean()
        with self.store.scratch() as work:
            yield (
                make_image_tree(self.source, options, work=work, store=self.store, reporter=self.console),
                opened,
            )

    def would(self, base: str | None) -> int:
        """Say what a dry run has found out."""
        rows = self.source.lockfile.rows(self.platform, self.groups)
        document = {"output": None, "platform": self.platform, "prefix": self.prefix, "packages": len(rows)}
        lines = [
            f"would write {self.output}: {len(rows)} packages for {self.platform} at {self.prefix}"
            + (f", on {base}" if base else "")
        ]
        print_result(self.console, lines, document)
        return 0

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


def _default_store(parent: Path) -> Path:
    """The cache of a laptop; on a node nothing is written but where the user said."""
    from envforge.settings import cache_directory

    on_node = Path(sys.prefix).name == "runtime"
    return parent / f".envforge-{os.getpid()}" if on_node else cache_directory() / "store"


def _open(
    path: Path, lock: str | None, store: Store, console: Console
) -> tuple[ArtifactSource, str | None, tuple[str, ...]]:
    """The source, the platform that it is for if it is for one, and the groups that it was made of."""
    from envforge.cli.sources import open_source
    from envforge.node.bundles import BundleSource

    if (path / ".envforge").is_dir():
        return _open_prefix(path, store)
    opened = open_source(path, lock=lock, store=store, reporter=console)
    if isinstance(opened, BundleSource):
        return opened, opened.bundle.contents.platform, opened.groups
    return opened, None, ()


def _open_prefix(path: Path, store: Store) -> tuple[ArtifactSource, str | None, tuple[str, ...]]:
    """An installed environment: its lock, and its artifacts from the store beside it."""
    from envforge.edges.store import Store
    from envforge.node.receipts import read_receipt
    from envforge.node.sources import StoreSource, read_lock_json

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
