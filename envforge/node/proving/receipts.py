"""Reading the receipt of an environment."""

from __future__ import annotations

import shlex
from pathlib import Path

from envforge.errors import InputError
from envforge.formats import receipt_json
from envforge.model.receipt import Receipt
from envforge.node.proving.scan import RECEIPT
from envforge.node.sources.documents import read_document

__all__ = ["parse_receipt", "read_receipt", "receipt_text"]


def read_receipt(path: Path) -> tuple[Path, Receipt]:
    """The generation that ``path`` is or points to, and its receipt.

    :raises InputError: if there is no environment of envforge's, or its receipt cannot be used.
    :raises CouldNotError: if it cannot be read.
    """
    tree, text = receipt_text(path)
    return tree, parse_receipt(tree, text)


def receipt_text(path: Path) -> tuple[Path, str]:
    """The generation that ``path`` is or points to, and the text of its receipt.

    :raises InputError: if there is no environment of envforge's, or its receipt is no text.
    :raises CouldNotError: if it cannot be read.
    """
    if not path.is_dir():
        if path.is_symlink():
            raise InputError(
                f"the prefix points to a generation that is not there: {path.readlink()}",
                at=str(path),
                do="install again: envforge install SOURCE --prefix P",
            )
        raise InputError(
            "no such directory", at=str(path), do="envforge install DIR --prefix P   # makes one"
        )
    tree = path.resolve()
    file = tree / RECEIPT
    try:
        return tree, read_document(
            file, "the receipt", do="install again: envforge install SOURCE --prefix P"
        )
    except FileNotFoundError as error:
        raise InputError(
            "not an environment that envforge installed: it has no receipt",
            at=str(file),
            do=_right_path(path, tree),
        ) from error


def parse_receipt(tree: Path, text: str) -> Receipt:
    """The receipt in ``text``, which was read from the generation at ``tree``.

    :raises InputError: if it cannot be used.
    """
    try:
        return receipt_json.read(text)
    except InputError as error:
        raise error.inside(str(tree / RECEIPT)) from None


def _right_path(path: Path, tree: Path) -> str:
    """What to name instead: the prefix that ``tree`` lies in or beside."""
    within = next((above for above in tree.parents if (above / RECEIPT).is_file()), None)
    if within is not None:
        return f"name the whole environment: {shlex.quote(str(within))}"
    beside = path.absolute().with_name(path.absolute().name.removesuffix(".generations"))
    if beside.name != path.absolute().name and beside.is_symlink():
        return f"name the prefix: {shlex.quote(str(beside))}"
    return "name the --prefix that envforge install was given"
