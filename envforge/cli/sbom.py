"""``envforge sbom``"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.cli.options import platform_option
from envforge.errors import InputError
from envforge.model.bill import PackageFacts
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.platforms import check_platform

__all__ = ["command"]


@click.command("sbom")
@click.argument(
    "source",
    metavar="[LOCKFILE|MIRROR|BUNDLE|PREFIX]",
    default="conda-lock.yml",
    type=click.Path(path_type=Path),
)
@platform_option("Which platform of the lock.  [default: the only one, or this machine's]")
@click.option("--group", "groups", multiple=True, help="Also list this group; repeatable.")
@click.option("--lock", metavar="NAME", help="Which lock of the mirror, where it holds several.")
@click.option("--licenses", is_flag=True, help="The licences and their texts instead, as plain text.")
@click.option(
    "--store",
    "stores",
    multiple=True,
    type=click.Path(path_type=Path),
    help="For a lockfile: read the licences from artifacts in this store; repeatable.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write FILE.  [default: stdout]")
@output_options
def command(
    source: Path,
    *,
    platform: str | None,
    groups: tuple[str, ...],
    lock: str | None,
    licenses: bool,
    stores: tuple[Path, ...],
    output: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """List the packages of one platform as a software bill of materials: CycloneDX 1.6 in JSON.

    Each has its purl, hashes, origin, what it depends on, and its licence as far as that is at hand: a mirror
    has everything, a bundle what it was made with, a prefix names the licences without their texts, a
    lockfile says nothing about them.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    chosen = None if platform is None else check_platform(platform, at="-p")
    choice = _Choice(platform=chosen, groups=("main", *groups), lock=lock, stores=stores)
    said = _of_bundle(source, choice, licenses=licenses)
    if said is None:
        said = _made(console, _read(source, choice), licenses=licenses)
    text = str(said["text"])
    if output is not None:
        write_atomically(output, text)
    written = f"{output}: {said['packages']} packages for {said['platform']}"
    print_result(console, [text.rstrip("\n") if output is None else written], said)
    return 0


def _made(console: Console, bill: _Bill, *, licenses: bool) -> dict[str, object]:
    from envforge.sbom import licenses_text, make_sbom

    missing = sum(row.sha256 not in bill.facts for row in bill.rows)
    if missing:
        console.note(f"no licence is known of {missing} packages: their artifacts are not at hand")
    return {
        "packages": len(bill.rows),
        "platform": bill.platform,
        "lock": f"sha256:{bill.lockfile.digest()}",
        "without_license": sum(_unlicensed(row, bill.facts) for row in bill.rows),
        "text": licenses_text(bill.rows, bill.facts)
        if licenses
        else make_sbom(bill.lockfile, bill.platform, bill.rows, bill.facts),
    }


def _of_bundle(source: Path, choice: _Choice, *, licenses: bool) -> dict[str, object] | None:
    """What a bundle says of itself, as it was made; ``None`` for another source."""
    from envforge.node.sources.bundles import BILL, LICENSES, Bundle, is_bundle

    if not is_bundle(source):
        return None
    bundle = Bundle(source)
    _check_choice(choice, "bundle", bundle.contents.platform, bundle.contents.groups)
    bill = bundle.text(BILL)
    components = json.loads(bill)["components"]
    return {
        "packages": len(components),
        "platform": bundle.contents.platform,
        "lock": f"sha256:{bundle.contents.lock}",
        "without_license": sum("licenses" not in component for component in components),
        "text": bundle.text(LICENSES) if licenses else bill,
    }


def _check_choice(choice: _Choice, what: str, platform: str, groups: Sequence[str]) -> None:
    wrong = choice.platform is not None and choice.platform != platform
    if wrong or len(choice.groups) > 1:
        raise InputError(
            f"the {what} is of {platform}, with the groups {', '.join(groups)}",
            at="-p" if wrong else "--group",
            do="leave it out: what is in it is listed, all of it",
        )


def _unlicensed(row: LockedPackage, facts: Mapping[str, PackageFacts]) -> bool:
    return facts.get(row.sha256 or "", PackageFacts()).license is None


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """What part of a source is listed."""

    platform: str | None
    groups: tuple[str, ...]
    lock: str | None
    stores: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class _Bill:
    """The rows of one platform, and what is known of their licences."""

    lockfile: Lockfile
    platform: str
    rows: tuple[LockedPackage, ...]
    facts: Mapping[str, PackageFacts]


def _read(source: Path, choice: _Choice) -> _Bill:
    if (source / ".envforge").is_dir():
        return _of_prefix(source, choice)
    from envforge.sbom import facts_of

    if source.is_dir():
        from envforge.node.sources.source import MirrorSource

        mirror = MirrorSource(source, choice.lock)
        platform, rows = _rows(mirror.lockfile, choice)
        return _Bill(
            lockfile=mirror.lockfile, platform=platform, rows=rows, facts=facts_of(rows, mirror.artifact)
        )
    from envforge.edges.store import Store
    from envforge.formats import conda_lock
    from envforge.settings import store_layers

    lockfile = conda_lock.read(read_text(source), source=str(source))
    platform, rows = _rows(lockfile, choice)
    store = Store(*store_layers(choice.stores, Path("no such store")))
    facts = facts_of(rows, lambda row: store.artifact(row.sha256 or ""))
    return _Bill(lockfile=lockfile, platform=platform, rows=rows, facts=facts)


def _of_prefix(source: Path, choice: _Choice) -> _Bill:
    from envforge.edges.licenses import installed_facts
    from envforge.formats import lock_json
    from envforge.node.proving.receipts import read_receipt
    from envforge.node.sources.documents import read_document

    tree, receipt = read_receipt(source)
    _check_choice(choice, "prefix", receipt.platform, receipt.groups)
    text = read_document(tree / ".envforge" / "lock.json", "the lock", do="install again")
    rows = receipt.packages
    return _Bill(
        lockfile=lock_json.read(text)[0],
        platform=receipt.platform,
        rows=rows,
        facts=installed_facts(tree, rows),
    )


def _rows(lockfile: Lockfile, choice: _Choice) -> tuple[str, tuple[LockedPackage, ...]]:
    platform = choice.platform
    if platform is None:
        import platform as machine

        from envforge.model.platforms import platform_of

        only = lockfile.platforms[0] if len(lockfile.platforms) == 1 else None
        platform = only or platform_of(machine.system(), machine.machine())
    return platform, lockfile.rows(platform, choice.groups)
