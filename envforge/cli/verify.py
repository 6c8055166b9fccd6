"""``envforge verify``"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.cli.sources import open_source
from envforge.edges.machine import jobs_available
from envforge.edges.store import Store
from envforge.errors import AnswerNo, InputError
from envforge.model.receipt import Difference
from envforge.settings import store_layers

__all__ = ["command"]


@click.command("verify")
@click.argument("path", metavar="PREFIX|MIRROR", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), help="Make every file again from these artifacts."
)
@click.option("--lock", metavar="NAME|FILE", help="Which lock of the --against mirror, or a lockfile.")
@click.option(
    "--store", "stores", multiple=True, type=click.Path(path_type=Path), help="Unpack here for --against."
)
@click.option("-j", "--jobs", type=click.IntRange(1, 256), help="Threads.  [default: what is allowed]")
@click.option("--expect", metavar="sha256:HEX", help="Refuse any other receipt than this.")
@click.option("--strict", is_flag=True, help="In a mirror, count files that are not its own as differences.")
@output_options
def command(
    path: Path,
    *,
    against: Path | None,
    lock: str | None,
    stores: tuple[Path, ...],
    jobs: int | None,
    expect: str | None,
    strict: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Hold every file of a prefix against its receipt, or of a mirror against its manifest.

    With --against, a prefix is also made again from the artifacts of the lock (a mirror, or a lockfile where
    there is network) and compared file by file.  Exit status 1 if anything differs.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    jobs = jobs or jobs_available(path)
    if path.is_file():
        raise InputError("a file is neither a prefix nor a mirror", at=str(path), do="name the directory")
    if (path / "manifest.json").is_file() and not (path / ".envforge").is_dir():
        return _verify_mirror(console, path, strict=strict)
    proof = _Proof(against=against, lock=lock, stores=stores, jobs=jobs, expect=expect)
    return _verify_prefix(console, path, proof)


def _verify_mirror(console: Console, path: Path, *, strict: bool) -> int:
    from envforge.node.mirrors import check_files, read_manifest

    manifest = read_manifest(path)
    differences = check_files(path, manifest)
    if not strict:
        strays = [difference.path for difference in differences if difference.kind == "added"]
        differences = tuple(difference for difference in differences if difference.kind != "added")
        if strays:
            console.note(
                f"{len(strays)} files are not the mirror's, such as {strays[0]}; --strict counts them"
            )
    return _answer(console, path, len(manifest.files), differences, {"kind": "mirror"}, "its manifest")


@dataclass(frozen=True, kw_only=True)
class _Proof:
    """What a prefix is to be held against, beside its receipt."""

    against: Path | None
    lock: str | None
    stores: tuple[Path, ...]
    jobs: int
    expect: str | None


def _verify_prefix(console: Console, path: Path, proof: _Proof) -> int:
    from envforge.edges.hashing import file_sha256
    from envforge.node.receipts import read_receipt
    from envforge.node.scan import RECEIPT
    from envforge.node.verify import verify_prefix

    tree, receipt = read_receipt(path)
    digest = file_sha256(tree / RECEIPT)
    if proof.expect is not None and proof.expect.removeprefix("sha256:").lower() != digest:
        raise AnswerNo(
            f"the receipt is not the expected one: its sha256 is {digest}",
            at=str(tree / RECEIPT),
            do="check the digest that you were given, or whether this is the prefix that was meant",
        )
    if str(tree) != receipt.generation and not Path(receipt.generation).is_dir():
        console.note(f"it was linked for {receipt.generation} and does not work from {tree}")
    source = store = None
    if proof.against is not None:
        root, lower = store_layers(proof.stores, tree.parent / "store")
        store = Store(root, lower)
        source = open_source(
            proof.against,
            lock=proof.lock,
            store=store,
            platform=receipt.platform,
            groups=receipt.groups,
            reporter=console,
        )
    answer = verify_prefix(path, jobs=proof.jobs, reporter=console, against=source, store=store)
    document = {
        "kind": "prefix",
        "generation": str(answer.tree),
        "receipt": f"sha256:{digest}",
        "lock": answer.receipt.lock,
        "against": answer.against,
    }
    what = "its receipt" if source is None else f"its receipt and the artifacts of {proof.against}"
    return _answer(console, path, answer.files, answer.differences, document, what)


def _answer(
    console: Console,
    path: Path,
    files: int,
    differences: Sequence[Difference],
    document: Mapping[str, object],
    what: str,
) -> int:
    lines = [f"{d.kind:<8} {d.path}" + (f"   ({d.detail})" if d.detail else "") for d in differences]
    if differences:
        counts = ", ".join(
            f"{sum(d.kind == kind for d in differences)} {kind}"
            for kind in ("changed", "missing", "added")
            if any(d.kind == kind for d in differences)
        )
        lines.append(f"{path} is not equal to {what}: {counts}")
    else:
        lines.append(f"{path} is equal to {what}: {files} entries")
    whole = {
        "path": str(path),
        "equal": not differences,
        "entries": files,
        "differences": [asdict(d) for d in differences],
        **document,
    }
    print_result(console, lines, whole)
    return 1 if differences else 0
