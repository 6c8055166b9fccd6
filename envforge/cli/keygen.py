"""``envforge keygen``"""

from __future__ import annotations

from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result

__all__ = ["command"]


@click.command("keygen")
@click.option(
    "-o",
    "--output",
    default="envforge.key",
    show_default=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The private key; the public one is FILE.pub.",
)
@click.option("--name", metavar="WHO", help="Whose key it is.  [default: USER@HOST]")
@output_options
def command(output: Path, *, name: str | None, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Make an Ed25519 key to sign bundles with: `bundle --sign FILE`.

    FILE.pub is a line for the file of trusted keys on the other side; it has to get there another way than
    the bundles.  The private key has no passphrase: for one, an agent or a token, sign with a key of ssh.
    """
    from envforge.sign import make_key

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    made = make_key(output, name or _myself())
    lines = [f"key {made.key}", f"private: {made.private}   (keep it)", f"public:  {made.public}"]
    document = {
        "key": made.key,
        "private": str(made.private),
        "public": str(made.public),
        "line": made.line,
    }
    print_result(console, lines, document)
    return 0


def _myself() -> str:
    import getpass
    import re
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "somebody"
    return re.sub(r"[^A-Za-z0-9._@-]", "-", f"{user}@{socket.gethostname()}")
