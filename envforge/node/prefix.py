"""A prefix on disk: a symlink, the generations beside it, and the one rename that switches between them.

::

    P                               -> NAME.generations/3f2a9c…     exchanged by one rename
    P.generations/3f2a9c…/          an environment, linked for this path, never changed again
    P.generations/3f2a9c….json      when, by whom and from what it was made
    P.generations/.work-…/          what is being made; removed by the next run if its maker is gone
    P.generations/store/            the store, where no other was named
    P.generations/log.txt           the story of the last failure
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envforge.edges.store import make_directory, remove_tree
from envforge.errors import CouldNotError, InputError

__all__ = ["Prefix"]

_STALE = 24 * 3600  # seconds after which work of an unreachable host counts as abandoned


class Prefix:
    """The path ``P`` and what lies beside it.

    :param path: the prefix as the user names it; made absolute, its own symlink is not followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the symlink
        self.generations = self.path.with_name(f"{self.path.name}.generations")

    def check(self) -> None:
        """Refuse what cannot become, or is no, prefix of ours, before a byte is written.

        :raises InputError: for a real directory, a file, a mount point or a foreign symlink at ``P``.
        :raises CouldNotError: if the parent does not exist or cannot be written to.
        """
        if self.path == Path(self.path.anchor) or "\n" in str(self.path):
            raise InputError(f"{str(self.path)!r} cannot be a prefix", do="name a path below a directory")
        if self.path.is_symlink():
            if not self._is_ours():
                raise InputError(
                    f"the prefix is a symlink that envforge did not make, to {self.path.readlink()}",
                    at=str(self.path),
                    do=f"rm '{self.path}'   # or name another --prefix",
                )
        elif os.path.ismount(self.path):
            raise InputError(
                "the prefix is a mount point, which cannot be exchanged by a rename",
                at=str(self.path),
                do=f"name a path below it: --prefix '{self.path / 'env'}'",
            )
        elif self.path.exists():
            raise InputError(
                "the prefix is a real directory or file, and envforge replaces nothing that it did not make",
                at=str(self.path),
                do=f"mv '{self.path}' '{self.path}.old'   # or name another --prefix",
            )
        self._check_parent()

    def _check_parent(self) -> None:
        parent = self.path.parent
        nearest = next(p for p in (parent, *parent.parents) if p.exists())
        if not nearest.is_dir():
            raise InputError("the prefix lies below a file", at=str(nearest), do="name another --prefix")
        place = self.generations if self.generations.is_dir() else nearest
        for directory in {place, nearest}:
            if not os.access(directory, os.W_OK | os.X_OK):
                raise CouldNotError(
                    "the directory of the prefix cannot be written to",
                    at=str(directory),
                    do="name a --prefix in a directory of your own",
                )

    def current(self) -> Path | None:
        """The generation that ``P`` points to, or ``None`` where there is none yet."""
        if not self.path.is_symlink() or not self._is_ours():
            return None
        generation = self.generations / self.path.readlink().name
        return generation if generation.is_dir() else None

    def generation(self, identity: str) -> Path:
        """The directory of the generation called ``identity``."""
        return self.generations / identity

    def switch(self, generation: Path) -> None:
        """Point ``P`` to ``generation``, by one rename: at no instant is there no ``P``."""
        target = os.path.join(self.generations.name, generation.name)  # noqa: PTH118 - a link's text
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(self.path)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A directory beside the generations to make one in; gone afterwards, whatever happened."""
        make_directory(self.path.parent)
        make_directory(self.generations)
        self.clean()
        directory = Path(tempfile.mkdtemp(prefix=".work-", dir=self.generations))
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        (directory / "owner.json").write_text(json.dumps(owner), encoding="utf-8")
        try:
            yield directory
        finally:
            remove_tree(directory)

    def clean(self) -> None:
        """Remove what killed runs have left: work of processes that are gone."""
        for directory in self.generations.glob(".work-*"):
            if _abandoned(directory):
                # Programs that the killed run started may go on for a moment: take the place from them first.
                with suppress(OSError):
                    directory.rename(directory.with_name(directory.name.replace(".work-", ".gone-", 1)))
        for directory in self.generations.glob(".gone-*"):
            with suppress(OSError):
                remove_tree(directory)

    def _is_ours(self) -> bool:
        return self.path.readlink().parent == Path(self.generations.name)


def _abandoned(directory: Path) -> bool:
    try:
        owner = json.loads((directory / "owner.json").read_text(encoding="utf-8"))
        age = time.time() - directory.stat().st_mtime
        if owner["host"] != socket.gethostname():
            return age > _STALE
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return _old(directory)
    return False


def _old(directory: Path) -> bool:
    try:
        return time.time() - directory.stat().st_mtime > _STALE
    except OSError:
        return False
