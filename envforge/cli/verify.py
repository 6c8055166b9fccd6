"""``envforge verify``"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from envforge.cli.answers import Result, counted, print_answer, shown
from envforge.cli.console import Console, output_options, print_result
from envforge.errors import AnswerNo, CouldNotError, InputError
from envforge.model.receipt import Difference, Receipt

if TYPE_CHECKING:
    from envforge.edges.store import Store
    from envforge.model.image import ImageFacts
    from envforge.node.sources.source import ArtifactSource
    from envforge.node.verify import Verification

__all__ = ["command"]


@click.command("verify")
@click.argument("path", metavar="PREFIX|MIRROR|BUNDLE|IMAGE", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), help="Make every file again from these artifacts."
)
@click.option("--lock", metavar="NAME|FILE", help="Which lock of the --against mirror, or a lockfile.")
@click.option(
    "--store", "stores", multiple=True, type=click.Path(path_type=Path), help="Unpack here for --against."
)
@click.option(
    "--repair",
    type=click.Path(path_type=Path),
    metavar="SOURCE",
    help="If anything differs, make the environment anew from this mirror or lockfile.",
)
@click.option("-j", "--jobs", type=click.IntRange(1, 256), help="Processes.  [default: what is allowed]")
@click.option("--expect", metavar="sha256:HEX", help="Refuse any other receipt than this.")
@click.option(
    "--trusted-keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ask who signed a bundle: the keys that may, one a line.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Count as differences, too: bytecode that programs left; a mirror's strays.",
)
@output_options
def command(
    path: Path,
    *,
    against: Path | None,
    lock: str | None,
    stores: tuple[Path, ...],
    repair: Path | None,
    jobs: int | None,
    expect: str | None,
    trusted_keys: Path | None,
    strict: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Hold every file of a prefix or image against its receipt, of a mirror or bundle against its manifest.

    With --against, a prefix or image is also made again from the artifacts of the lock (a bundle or mirror,
    or a lockfile where there is network) and compared file by file.  Exit status 1 if anything differs.  What
    pip, uv or conda did later is said in a line each; --verbose names every file, and so does --json.

    With --trusted-keys, a bundle is held against its signature: BUNDLE.dsse.json or BUNDLE.sig beside it.

    With --repair, what differs is not mended: another generation is made of the same lock, and the prefix
    pointed to it.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    from envforge.edges.images import image_kind
    from envforge.edges.machine import jobs_available

    if trusted_keys is not None:
        return _verify_signature(console, path, trusted_keys)
    kind = image_kind(path)
    if path.is_file() and kind is None:
        return _verify_bundle(console, path)
    if kind is None and (path / "manifest.json").is_file() and not (path / ".envforge").is_dir():
        return _verify_mirror(console, path, strict=strict)
    proof = Proof(
        against=against,
        lock=lock,
        stores=stores,
        jobs=jobs or jobs_available(path if path.is_dir() else path.absolute().parent),
        expect=expect,
        strict=strict,
        repair=repair,
    )
    if kind is not None:
        return _verify_image(console, path, kind, proof)
    return _verify_prefix(console, path, proof)


def _verify_bundle(console: Console, path: Path) -> int:
    from envforge.node.sources.bundles import Bundle, is_bundle

    if not is_bundle(path):
        raise InputError(
            "a file that is no bundle", at=str(path), do="name a prefix, a mirror's directory, or a bundle"
        )
    opened = Bundle(path)
    total = sum(member.size for member in opened.members.values())
    with console.task("reading", total) as progress:
        differences = opened.check(progress.advance)
    result = Result(
        path=path, entries=len(opened.members), differences=differences, what="its header and manifest"
    )
    facts = opened.contents
    document = {
        "kind": "bundle",
        "platform": facts.platform,
        "lock": facts.lock,
        "groups": list(facts.groups),
    }
    print_answer(console, result, document)
    return 1 if differences else 0


def _verify_signature(console: Console, path: Path, trusted_keys: Path) -> int:
    """Say who signed the file.

    :raises AnswerNo: if nobody did whose key is trusted, or the file is another one.
    """
    from envforge.node.sources.signatures import check_signature, read_trusted, refuse_own_voice

    trusted = read_trusted(trusted_keys)
    if path.is_dir():
        raise InputError("a directory has no signature", at=str(path), do="name a bundle")
    refuse_own_voice(path)
    try:
        signed = check_signature(path, trusted)
    except InputError as error:
        raise AnswerNo(error.what, at=error.at, do=error.do, story=error.story) from error
    document: dict[str, object] = {
        "path": str(path),
        "kind": "signature",
        "signature": signed.kind,
        "who": signed.who,
        "key": signed.key,
        "sha256": signed.sha256,
    }
    lines = [f"{path} is what {signed.who} signed with {signed.key}"]
    if signed.facts is not None:
        facts = signed.facts
        lines.append(f"{facts.name} for {facts.platform}, lock sha256:{facts.lock}")
        document |= {"name": facts.name, "platform": facts.platform, "lock": f"sha256:{facts.lock}"}
    print_result(console, lines, document)
    return 0


def _verify_mirror(console: Console, path: Path, *, strict: bool) -> int:
    from envforge.node.sources.mirrors import check_files, read_manifest

    manifest = read_manifest(path)
    differences = check_files(path, manifest)
    if not strict:
        strays = [difference.path for difference in differences if difference.kind == "added"]
        differences = tuple(difference for difference in differences if difference.kind != "added")
        if strays:
            console.note(
                f"{len(strays)} files are not the mirror's, such as {strays[0]}; --strict counts them"
            )
    result = Result(path=path, entries=len(manifest.files), differences=differences, what="its manifest")
    print_answer(console, result, {"kind": "mirror"})
    return 1 if differences else 0


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a prefix is to be held against, beside its receipt, and how."""

    against: Path | None
    lock: str | None
    stores: tuple[Path, ...]
    jobs: int
    expect: str | None
    strict: bool
    repair: Path | None


def _opened(
    console: Console, source: Path, proof: Proof, tree: Path, *, heal: bool = False
) -> tuple[ArtifactSource, Store]:
    from envforge.cli.sources import open_source
    from envforge.edges.store import Store
    from envforge.settings import store_layers

    root, lower = store_layers(proof.stores, tree.parent / "store")
    store = Store(root, lower, heal=heal)
    return open_source(source, lock=proof.lock, store=store, reporter=console), store


def _verify_image(console: Console, path: Path, kind: str, proof: Proof) -> int:
    """An image: its labels, the receipt inside, and every file of the environment."""
    from envforge.edges.scratch import scratch
    from envforge.model.image import LAYERED
    from envforge.node.proving.images import image_facts, look_inside, unpack_environment
    from envforge.node.verify import Against, verify_prefix, verify_states

    if proof.repair is not None:
        raise InputError("an image is not repaired", at="--repair", do="make it again: envforge image")
    facts = image_facts(path)
    source = proof.against
    # Where nobody named a store, one in here will do: nothing is left beside an image.
    with scratch(proof.stores[-1] if proof.stores else path.absolute().parent) as work:
        against: Against | None = None
        if source is not None:
            against = partial(_opened_below, console, source, proof, work)
        console.step(f"reading {path}")
        if kind in LAYERED:
            inside = look_inside(path, facts.prefix)
            answer = verify_states(
                path,
                inside.receipt,
                inside.states,
                jobs=proof.jobs,
                reporter=console,
                expect=proof.expect,
                against=against,
            )
        else:
            answer = verify_prefix(
                unpack_environment(path, facts, work),
                jobs=proof.jobs,
                reporter=console,
                expect=proof.expect,
                strict=True,
                against=against,
            )
    differences = _label_differences(facts, answer) + answer.differences
    document: dict[str, object] = {
        "kind": kind,
        "prefix": facts.prefix,
        "platform": facts.platform,
        "receipt": f"sha256:{answer.digest}",
        "lock": answer.receipt.lock,
        "against": answer.against,
    }
    what = "its receipt" if source is None else f"its receipt and the artifacts of {source}"
    print_answer(
        console, Result(path=path, entries=answer.files, differences=differences, what=what), document
    )
    return 1 if differences else 0


def _opened_below(
    console: Console, source: Path, proof: Proof, work: Path, _: Path, __: Receipt
) -> tuple[ArtifactSource, Store]:
    return _opened(console, source, proof, work / "environment")


def _label_differences(facts: ImageFacts, answer: Verification) -> tuple[Difference, ...]:
    """Where the image says something else of itself than the receipt in it; a recipe need not say all."""
    receipt = answer.receipt
    said = {
        "receipt": (facts.receipt, answer.digest),
        "lock": (facts.lock, receipt.lock),
        "prefix": (facts.prefix, receipt.generation),
        "platform": (facts.platform, receipt.platform),
    }
    return tuple(
        Difference(kind="changed", path=f"(label {name})", detail=f"{told} instead of {found}")
        for name, (told, found) in said.items()
        if told not in ("", found)
    )


def _verify_prefix(console: Console, path: Path, proof: Proof) -> int:
    from envforge.node.proving.scan import RECEIPT
    from envforge.node.verify import verify_prefix

    against = proof.against
    try:
        answer = verify_prefix(
            path,
            jobs=proof.jobs,
            reporter=console,
            expect=proof.expect,
            strict=proof.strict,
            against=None if against is None else lambda tree, _: _opened(console, against, proof, tree),
        )
    except InputError as error:
        if proof.repair is None or not (path / ".envforge").is_dir():
            raise
        console.note(f"the receipt cannot be used: {error.what}")
        damage = Difference(kind="changed", path=RECEIPT, detail="cannot be used")
        result = Result(path=path, entries=0, differences=(damage,), what="any receipt")
        repaired = _repair(console, path, proof, None)
        print_answer(console, replace(result, repaired=repaired), {"kind": "prefix"})
        return 0
    made_for = answer.receipt.generation
    if str(answer.tree) != made_for and not Path(made_for).is_dir():
        console.note(f"it was linked for {shown(made_for)} and does not work from {answer.tree}")
    if answer.unread and not answer.differences:
        first = answer.unread[0]
        raise CouldNotError(
            f"there is no answer: {counted(len(answer.unread), 'entry', 'entries')} cannot be read"
            f" ({first.detail})",
            at=f"{answer.tree}/{shown(first.path)}",
            do="ask again as somebody who may read it",
        )
    document: dict[str, object] = {
        "kind": "prefix",
        "generation": str(answer.tree),
        "receipt": f"sha256:{answer.digest}",
        "lock": answer.receipt.lock,
        "against": answer.against,
        "leftovers": answer.leftovers,
    }
    result = Result(
        path=path,
        entries=answer.files,
        differences=answer.differences + answer.unread,
        what="its receipt" if against is None else f"its receipt and the artifacts of {against}",
        leftovers=answer.leftovers,
    )
    if proof.repair is not None and answer.differences:
        result = replace(result, repaired=_repair(console, path, proof, answer.receipt))
    print_answer(console, result, document)
    return 1 if answer.differences and result.repaired is None else 0


def _repair(console: Console, path: Path, proof: Proof, receipt: Receipt | None) -> Path:
    """Make the environment anew; returns its generation."""
    from envforge.node.repair import repair

    assert proof.repair is not None  # noqa: S101
    source, store = _opened(console, proof.repair, proof, path.resolve(), heal=True)
    return repair(path, receipt, source, store=store, jobs=proof.jobs, reporter=console).generation
