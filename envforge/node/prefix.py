"""A prefix on disk: a symlink, the generations beside it, and the one rename that switches between them.

::

    P                               -> NAME.generations/3f2a9c…     exchanged by one rename
    P.generations/3f2a9c…/          an environment, linked for this path, never changed again
    P.generations/3f2a9c….json      when, by whom and from what it was made
    P.generations/.work-…/          what is being made; removed by the next run if its maker is gone
    .P.switch-…                     the symlink on its way to P; the same
    P.generations/store/            the store, where no other was named
    P.generations/log.txt           the story of the last failure
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envforge.edges.scratch import abandoned, make_directory, owner_mark, scratch, sweep
from envforge.errors import CouldNotError, InputError
from envforge.settings import use_log_file

__all__ = ["Prefix"]

_UNUSABLE = frozenset("\"'\\$`:")
"""What no environment can have in its path: packages write it into quotes, and PATH is split at colons."""

_LONGEST_NAME = 200  # of a file name's 255 bytes; the rest is for names beside it


class Prefix:
    """The path ``P`` and what lies beside it.

    :param path: the prefix as the user names it; made absolute, its own symlink is not followed.
    """

    def __init__(self, path: Path) -> None:
        if ".." in path.parts:  # the parent of where a symlink leads, not of where it lies
            path = path.resolve() if path.name == ".." else path.parent.resolve() / path.name
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the symlink
        self.generations = self.path.parent / f"{self.path.name}.generations"

    def check(self) -> None:
        """Refuse what cannot become, or is no, prefix of ours, before a byte is written.

        :raises InputError: for a real directory, a file, a mount point or a foreign symlink at ``P``.
        :raises CouldNotError: if the parent does not exist or cannot be written to.
        """
        if self.path == Path(self.path.anchor):
            raise InputError(f"{str(self.path)!r} cannot be a prefix", do="name a path below a directory")
        self._check_name()
        if self.path.is_symlink():
            if not self._is_ours():
                raise InputError(
                    f"the prefix is a symlink that envforge did not make, to {self.path.readlink()}",
                    at=str(self.path),
                    do=f"rm {shlex.quote(str(self.path))}   # or name another --prefix",
                )
        elif os.path.ismount(self.path):
            raise InputError(
                "the prefix is a mount point, which cannot be exchanged by a rename",
                at=str(self.path),
                do=f"name a path below it: --prefix {shlex.quote(str(self.path / 'env'))}",
            )
        elif os.path.lexists(self.path):
            quoted = shlex.quote(str(self.path))
            raise InputError(
                "the prefix is a real directory or file, and envforge replaces nothing that it did not make",
                at=str(self.path),
                do=f"mv {quoted} {quoted}.old   # or name another --prefix",
            )
        self._check_parent()

    def _check_name(self) -> None:
        text = str(self.path)
        wrong = next((c for c in text if c in _UNUSABLE or not c.isprintable()), None)
        if wrong is not None:
            raise InputError(
                f"an environment cannot have {wrong!r} in its path",
                at=repr(text),
                do="name another --prefix",
            )
        if len(os.fsencode(self.generations.name)) > _LONGEST_NAME:
            raise InputError(
                f"the last part of the prefix is too long: at most {_LONGEST_NAME - 12} bytes fit",
                at=text,
                do="name a shorter --prefix",
            )

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
        """Point ``P`` to ``generation``, by one rename: at no instant is there no ``P``.

        :raises InputError: if something that is not ours lies at ``P`` by now.
        """
        self.check()
        target = os.path.join(self.generations.name, generation.name)  # noqa: PTH118 - a link's text
        beside = self.path.with_name(f"{self._switching}{owner_mark()}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        try:
            beside.replace(self.path)
        except OSError:
            beside.unlink(missing_ok=True)
            self.check()  # which says what lies there
            raise

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A directory beside the generations to make one in; gone afterwards, whatever happened."""
        make_directory(self.path.parent)
        make_directory(self.generations)
        use_log_file(self.generations / "log.txt")
        with scratch(self.generations) as directory:
            yield directory

    def clean(self) -> None:
        """Remove what killed runs have left: work and links of processes that are gone."""
        sweep(self.generations)
        left: list[os.DirEntry[str]] = []
        with suppress(OSError), os.scandir(self.path.parent) as found:
            left = [entry for entry in found if entry.name.startswith(self._switching)]
        for entry in left:
            with suppress(OSError):
                if abandoned(entry.name, entry.stat(follow_symlinks=False).st_mtime):
                    os.unlink(entry.path)  # noqa: PTH108 - an entry, not a Path

    @property
    def _switching(self) -> str:
        return f".{self.path.name}.switch-"

    def _is_ours(self) -> bool:
        return self.path.readlink().parent == Path(self.generations.name)
