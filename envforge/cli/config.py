"""``envforge config``"""

from __future__ import annotations

import difflib
from typing import Any

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.errors import InputError
from envforge.model.access import Access
from envforge.model.urls import redacted
from envforge.settings import KEYS, load_settings, users_file, variable_of

__all__ = ["command"]


@click.command("config")
@click.argument("key", required=False, metavar="[KEY]")
@output_options
def command(key: str | None, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Say what is set, and where it was said; with KEY, only that.

    Later ones win: built in, /etc/envforge/config.toml, your own config.toml, [tool.envforge] in the
    pyproject.toml of the working directory, variables ENVFORGE_…, and the command line.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if key is not None and key not in KEYS:
        close = difflib.get_close_matches(key, KEYS, n=1)
        raise InputError(
            f"unknown setting {key!r}", do=f"envforge config {close[0]}" if close else "envforge config"
        )
    settings = load_settings()
    Access.of(settings)  # refuses what no command could use
    lines, document = [], {}
    for name in KEYS if key is None else (key,):
        found = settings.found.get(name)
        value = _shown(found.value) if found else None
        document[name] = {"value": value, "origin": found.origin if found else None, "help": KEYS[name].help}
        told = f"   {found.origin}" if found else f"   {KEYS[name].help}"
        lines.append(f"{name:<20} {_text(value):<32}{told}")
    if key is None:
        path = users_file()
        lines.append(f"write them into {path}" if path else "set ENVFORGE_CONFIG to write them into a file")
    elif settings.found.get(key):
        lines = [_text(_shown(settings.found[key].value))]
    else:
        lines = []
        by = "" if KEYS[key].kind == "table" else f"{variable_of(key)} or "
        console.note(f"{key} is not set; {by}a settings file would set it")
    print_result(console, lines, document)
    return 0


def _shown(value: Any) -> Any:
    """Without what is secret: a mirror's URL may have a login."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {redacted(name): _shown(one) for name, one in value.items()}
    return [redacted(text) for text in value] if isinstance(value, (list, tuple)) else value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "; ".join(f"{name} -> {', '.join(one)}" for name, one in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)
