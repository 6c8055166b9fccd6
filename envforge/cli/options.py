"""Options that several commands have, and how many are made one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from envforge.cli import completing

__all__ = ["lockfile_option", "platform_option", "platforms_option", "together"]

F = TypeVar("F", bound=Callable[..., Any])


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """One decorator that adds ``options``, which ``--help`` names in this order."""

    def decorated(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


def lockfile_option(text: str) -> Callable[[F], F]:
    """``-l``: what a command is about that has a package as its argument."""
    return click.option(
        "-l",
        "--lockfile",
        "source",
        default="conda-lock.yml",
        show_default=True,
        metavar="SOURCE",
        shell_complete=completing.sources,
        help=text,
    )


def platform_option(text: str) -> Callable[[F], F]:
    """``-p``, once."""
    return click.option("-p", "--platform", shell_complete=completing.platforms, help=text)


def platforms_option(text: str) -> Callable[[F], F]:
    """``-p``, as often as there are platforms."""
    return click.option(
        "-p", "--platform", "platforms", multiple=True, shell_complete=completing.platforms, help=text
    )
