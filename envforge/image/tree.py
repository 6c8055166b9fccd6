"""``image tree``: an environment as the directory that it will be in an image, for another tool to take."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from envforge.edges.scratch import disk_error, owner_mark, remove_tree
from envforge.node.image_tree import ImageTree

__all__ = ["write_tree"]


def write_tree(tree: ImageTree, path: Path) -> None:
    """Move ``tree`` to ``path``, which does not exist: beside it first, where that is another file system.

    :raises CouldNotError: if the disk refuses; nothing is left then.
    """
    beside = path.with_name(f".{path.name}.{owner_mark()}")
    try:
        try:
            tree.path.rename(beside)
        except OSError:
            shutil.copytree(tree.path, beside, symlinks=True)
        os.rename(beside, path)  # noqa: PTH104 - onto an empty directory only, if somebody makes one
    except (OSError, shutil.Error) as error:
        remove_tree(beside)
        cause = error if not isinstance(error, shutil.Error) else OSError(str(error))
        raise disk_error(cause, path) from error
