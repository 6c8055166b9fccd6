"""The ``envforge`` command: finds the subcommand, and turns what goes wrong into three lines and a status."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

import envforge
from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.settings import FROM_BUNDLE

__all__ = ["COMMANDS", "cli", "run"]

COMMANDS = {
    "lock": "Resolve a specification into conda-lock.yml, for the cluster's platform.",
    "mirror": "Download exactly what lockfiles name, as a channel and an index.",
    "bundle": "Write one file that carries an environment and installs it.",
    "install": "Make the environment of a bundle, mirror or lockfile at a prefix.",
    "verify": "Prove that a prefix, mirror or bundle is what was locked.",
    "stage": "Put a bundle's environment, or an image, on a compute node's own disk.",
    "run": "Run one command in the environment of a prefix.",
    "shell": "Start your shell in the environment of a prefix.",
    "wrap": "Write small programs that start commands of a prefix in its environment.",
    "kernel": "Make the Python of a prefix a Jupyter kernel.",
    "history": "List the generations of a prefix.",
    "rollback": "Point a prefix to an earlier generation.",
    "uninstall": "Remove a prefix and all of its generations.",
    "id": "Say in one line what a prefix is, for a log or a paper.",
    "store": "Look after the store that environments are made of.",
    "probe": "Print this node's profile, for lock to assume.",
    "keygen": "Make a key to sign bundles with.",
    "sbom": "List what is inside, with licences: CycloneDX.",
    "list": "List the packages of a lockfile, mirror, bundle or prefix, or the prefixes below a directory.",
    "export": "Write the lockfile as another tool's file: pylock.toml, pixi.lock, …",
    "import": "Make a lockfile of another tool's, or of an environment that is there.",
    "share": "Write a folder for collaborators, whatever tool they have.",
    "diff": "Say in what two lockfiles, prefixes or git revisions differ.",
    "tree": "Draw what needs what, across conda and PyPI.",
    "why": "Say why a package is there.",
    "git-setup": "Have git show and merge lockfiles by what they mean.",
    "git-driver": "What git calls, once git-setup told it to.",
    "completion": "Print what makes bash, zsh or fish complete envforge's words.",
    "extract": "Write what a bundle carries into a directory: a mirror.",
    "image": "Write an image: an OCI archive, a SquashFS or a SIF.",
    "render": "Print a recipe that installs a mirror or lockfile into an image.",
    "config": "Say what is set, and where it was said.",
    "demo": "Run the whole path here, on a small channel made on the spot.",
}
"""Subcommands, with the line that ``--help`` shows; each module is imported only when it is called."""

_ITSELF = "The bundle itself is what is asked for first: leave it out."
_UNNAMED = "It is about the bundle itself where nothing else is named."
_OF_THE_BUNDLE = dict.fromkeys(("install", "extract", "stage"), _ITSELF) | dict.fromkeys(
    ("verify", "list", "sbom"), _UNNAMED
)
"""What a bundle's program puts in front of the words that it is given."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for name in COMMANDS if _is_here(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(_module(cmd_name)).command
        assert isinstance(command, click.Command)  # noqa: S101
        if os.environ.get(FROM_BUNDLE) and cmd_name in _OF_THE_BUNDLE:
            command.epilog = _OF_THE_BUNDLE[cmd_name]
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Subcommands by the table: importing each for its help would take too long at the press of a key."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, text in COMMANDS.items() if _is_here(name)])
        elsewhere = ", ".join(name for name in COMMANDS if not _is_here(name))
        if elsewhere:
            formatter.write_paragraph()
            formatter.write_text(f"On the laptop, where all of envforge is: {elsewhere}.")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        name = args[0] if args else ""
        if name not in COMMANDS:
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            raise InputError(
                f"no subcommand {name!r}",
                at="the command line",
                do=f"envforge {close[0]}" if close else "envforge --help",
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every subcommand takes --json, --quiet and --verbose; 'envforge COMMAND --help' says the rest.",
)
@click.version_option(envforge.__version__, prog_name="envforge", message="%(prog)s %(version)s")
def cli() -> None:
    """Carry a software environment from a laptop with internet to a cluster without it.

    lock, bundle, carry one file over, sh FILE --prefix P, verify.
    """


def _module(command: str) -> str:
    return f"envforge.cli.{command.replace('-', '_')}"


def _is_here(command: str) -> bool:
    """Whether this envforge has the command: what a bundle brings to a node has not got the laptop's."""
    return importlib.util.find_spec(_module(command)) is not None


def _is_whole() -> bool:
    return _is_here("lock")


def run(argv: Sequence[str]) -> int:
    """Run one command line and return the exit status; never raises, whatever goes wrong."""
    program = _program()
    command = f"{program} {argv[0]}" if argv and argv[0] in COMMANDS else program
    own = argv[: argv.index("--")] if "--" in argv else argv  # after it come the words of another command
    as_json = "--json" in own
    if "_ENVFORGE_COMPLETE" in os.environ:
        from envforge.cli.shells import register

        register()
    try:
        outcome = cli.main(args=list(argv), prog_name=program, standalone_mode=False)
    except EnvforgeError as error:
        return _fail(error, command, as_json=as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        wrong = _wrong_usage(error, command)
        return _fail(wrong, command, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        click.echo("envforge: interrupted; nothing half-made is left", err=True)
        return 130
    except BrokenPipeError:
        return 3
    except MemoryError:
        return _fail(EnvforgeError("not enough memory"), command, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches a user
        return _fail(_unexpected(error, argv), command, as_json=as_json)
    return outcome if isinstance(outcome, int) else 0


def _program() -> str:
    """What the user has typed to come here: ``envforge``, or the bundle that this was unpacked from."""
    bundle = os.environ.get(FROM_BUNDLE)
    return f"sh {shlex.quote(bundle)}" if bundle else "envforge"


def _wrong_usage(error: click.ClickException, command: str) -> InputError:
    unreadable = re.search(r"(?:File|Path|Directory) '(.*)' is not readable", error.format_message())
    if unreadable is not None:
        path = unreadable[1]
        return InputError("you may not read this", at=path, do=f"ls -ld {shlex.quote(path)}")
    return InputError(error.format_message().rstrip("."), do=f"{command} --help")


def _unexpected(error: Exception, argv: Sequence[str]) -> EnvforgeError:
    story = "".join(traceback.format_exception(error))
    if isinstance(error, OSError):
        return EnvforgeError(
            error.strerror or str(error),
            at=str(error.filename) if error.filename else None,
            do="check that the path exists, may be used, and that the disk has room",
            story=story,
        )
    if isinstance(error, ImportError) and not _is_whole():
        return _laptop_only(argv[0], story)
    return EnvforgeError(
        f"a mistake in envforge: {type(error).__name__}: {error}".splitlines()[0],
        do="report it with the log",
        story=story,
    )


def _laptop_only(name: str, story: str) -> CouldNotError:
    """What a node's half answers to a command of the laptop, or to the part of one that needs more."""
    what = f"{name} is a command of the laptop, and this is what a bundle brings to a node"
    if _is_here(name):
        what = "this needs all of envforge, and this is the half that a bundle brings to a node"
    there = f"envforge {name} …   # on the laptop"
    return CouldNotError(what, at=sys.prefix, do=there, story=story if _is_here(name) else None)


def _fail(error: EnvforgeError, command: str, *, as_json: bool) -> int:
    log = _write_log(error, command) if error.story or error.exit_code == EnvforgeError.exit_code else None
    at = error.at or command
    do = error.do or f"{command} --help"
    if log is not None:
        do += f"   (the whole story: {log})"
    if as_json:
        document = {"what": error.what, "at": at, "do": do, "exit_code": error.exit_code}
        click.echo(json.dumps({"error": document}, indent=2))
    for line in (f"envforge: {_one_line(error.what)}", f"  at: {_one_line(at)}", f"  do: {_one_line(do)}"):
        click.echo(line, err=True)
    return error.exit_code


def _one_line(text: str) -> str:
    return " ".join(text.split("\n")).strip()


def _write_log(error: EnvforgeError, command: str) -> Path | None:
    """Write the long version where the user can find it; ``None`` where that is not possible."""
    from envforge.cli.circumstances import circumstances
    from envforge.cli.console import diary
    from envforge.settings import log_file

    try:
        path = log_file(make=error.story is not None)
        if path is not None:
            parts = [
                f"{command}: {error.what}\nat: {error.at}\ndo: {error.do}",
                circumstances(path.parent),
                "\n".join(diary()),
                error.story or "",
            ]
            path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    except (OSError, RuntimeError):  # no home directory, or none that can be written to
        return None
    return path
