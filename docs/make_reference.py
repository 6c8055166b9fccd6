"""Print ``docs/reference/commands.md`` from the command line's own declarations.

Run it after every change of a subcommand or an option, from the repository's root:

    python docs/make_reference.py > docs/reference/commands.md
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator

import click

from envforge.cli.app import COMMANDS

HEAD = """\
# Commands

This page is printed by `docs/make_reference.py` from the code, and a test holds it to that.  Do not edit it.

Results go to stdout, messages and progress to stderr.  How a command ends is in [exit codes](exit-codes.md).
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that call it, those inside a group included."""
    for name in COMMANDS:
        yield from _below(
            f"envforge {name}", importlib.import_module(f"envforge.cli.{name.replace('-', '_')}").command
        )


def _below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _below(f"{words} {name}", command.commands[name])


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    parts += ["\n".join(f"- [`{words}`](#{words.replace(' ', '-')})" for words, _ in commands()) + "\n"]
    parts += [_section(words, command) for words, command in commands()]
    return "\n".join(parts)


def _section(words: str, command: click.Command) -> str:
    lines = [f"## {words}", "", f"    {_usage(words, command)}", ""]
    for paragraph in (command.help or "").strip().split("\n\n"):
        lines += [" ".join(paragraph.split()), ""]
    options = [option for option in command.params if isinstance(option, click.Option)]
    if options:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| {_spelling(option)} | {_meaning(option)} |" for option in options]
        lines += ["| `-h`, `--help` | Show this message and exit. |", ""]
    return "\n".join(lines)


def _usage(words: str, command: click.Command) -> str:
    if isinstance(command, click.Group):
        return f"{words} COMMAND …"
    arguments = [_argument(one) for one in command.params if isinstance(one, click.Argument)]
    required = [f"{one.opts[-1]} {_value(one)}" for one in command.params if _is_needed(one)]
    return " ".join([words, "[OPTIONS]", *required, *arguments])


def _is_needed(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.required


def _argument(argument: click.Argument) -> str:
    return argument.metavar or str(argument.name).upper()


def _spelling(option: click.Option) -> str:
    value = "" if option.is_flag else f" {_value(option)}"
    names = [f"`{name}{value if name == option.opts[-1] else ''}`" for name in option.opts]
    return ", ".join(names).replace("|", "\\|")


def _value(option: click.Parameter) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.IntRange):
        return "N"
    return {"text": str(option.name).upper().removesuffix("S"), "path": "PATH"}.get(option.type.name, "VALUE")


def _meaning(option: click.Option) -> str:
    parts = [" ".join((option.help or "").split())]
    if option.multiple and "repeatable" not in parts[0]:
        parts.append("May be given several times.")
    if option.required:
        parts.append("Required.")
    if option.show_default is True and isinstance(option.default, (int, str)):
        parts.append(f"Default: `{option.default}`.")
    # What a help text shows in brackets is a sentence here.
    text = re.sub(r"\s*\[default: ([^\]]+)\]", r" Default: \1.", " ".join(parts))
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.buffer.write(reference().encode())
