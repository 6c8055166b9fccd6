"""``envforge completion``"""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from envforge.cli.console import Console, output_options, print_result

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(("bash", "zsh", "fish")))
@output_options
def command(shell: str, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Print what makes a shell complete envforge's words: subcommands, options, platforms, packages.

    For bash (4.4 or newer), in ~/.bashrc: eval "$(envforge completion bash)".

    For zsh, in ~/.zshrc after compinit: eval "$(envforge completion zsh)".

    For fish, once: envforge completion fish >~/.config/fish/completions/envforge.fish
    """
    from envforge.cli.app import cli

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    # Not kind.source: that starts bash, to see how old the bash of this machine is.
    script = ShellComplete.source(kind(cli, {}, "envforge", "_ENVFORGE_COMPLETE")).strip()
    print_result(console, [script], {"shell": shell, "script": script})
    return 0
