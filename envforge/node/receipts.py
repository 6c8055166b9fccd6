"""Reading the receipt of an environment."""

from __future__ import annotations

from pathlib import Path

from envforge.errors import InputError
from envforge.formats import receipt_json
from envforge.model.receipt import Receipt
from envforge.node.documents import read_document
from envforge.node.scan import RECEIPT

__all__ = ["read_receipt"]


def read_receipt(path: Path) -> tuple[Path, Receipt]:
    """The generation that ``path`` is or points to, and its receipt.

    :raises InputError: if there is no environment of envforge's, or its receipt cannot be used.
    :raises CouldNotError: if it cannot be read.
    """
    if not path.is_dir():
        raise InputError(
            "no such directory", at=str(path), do="envforge install DIR --prefix P   # makes one"
        )
    tree = path.resolve()
    file = tree / RECEIPT
    try:
        text = read_document(file, "the receipt", do="install again: envforge install SOURCE --prefix P")
    except FileNotFoundError as error:
        raise InputError(
            "not an environment that envforge installed: it has no receipt",
            at=str(file),
            do="name the --prefix that envforge install was given",
        ) from error
    try:
        return tree, receipt_json.read(text)
    except InputError as error:
        raise error.inside(str(file)) from None
