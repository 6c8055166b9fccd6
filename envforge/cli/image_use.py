"""The options of commands that use an environment in an image."""

from __future__ import annotations

from pathlib import Path

import click

from envforge.cli.options import together

__all__ = ["use_options"]

use_options = together(
    click.option(
        "--base",
        type=click.Path(path_type=Path),
        help="Of an environment alone (SquashFS): the image to start it in.",
    ),
    click.option(
        "--bind",
        "binds",
        multiple=True,
        metavar="SRC[:DST]",
        help="Of an image: a directory of this machine to have in it, too; repeatable.",
    ),
    click.option("--no-gpu", is_flag=True, help="Of an image: leave the GPUs outside."),
)
"""How an image is started; of no account for a prefix."""
