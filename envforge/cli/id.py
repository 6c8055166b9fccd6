"""``envforge id``"""

from __future__ import annotations

from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result

__all__ = ["command"]


@click.command("id")
@click.argument("prefix", type=click.Path(path_type=Path))
@output_options
def command(prefix: Path, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Say in one line what PREFIX is, for a job's log or a paper: name, platform, lock and receipt.

    The digest of the lock is what is installed, wherever that is; activation exports it as ENVFORGE_ID.  The
    digest of the receipt is this very generation, file by file: `verify --expect` takes it.
    """
    from envforge.edges.hashing import file_sha256
    from envforge.formats import lock_json
    from envforge.node.proving.receipts import read_receipt
    from envforge.node.proving.scan import RECEIPT
    from envforge.node.sources.documents import read_document

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    tree, receipt = read_receipt(prefix)
    lock = read_document(tree / ".envforge" / "lock.json", "the lock", do="install again")
    name = lock_json.read(lock)[0].name
    digest = file_sha256(tree / RECEIPT)
    groups = "+".join(receipt.groups)
    line = f"{name} {receipt.platform} {groups} lock=sha256:{receipt.lock} receipt=sha256:{digest}"
    document = {
        "name": name,
        "platform": receipt.platform,
        "groups": list(receipt.groups),
        "packages": len(receipt.packages),
        "lock": f"sha256:{receipt.lock}",
        "receipt": f"sha256:{digest}",
        "generation": str(tree),
        "tools": dict(receipt.tools),
    }
    print_result(console, [line], document)
    return 0
