"""A prefix on disk: a symlink, the generations beside it, and the one rename that switches between them.

::

    P                               -> NAME.generations/3f2a9c…     exchanged by one rename
    P.generations/3f2a9c…/          an environment, linked for this path, never changed again
    P.generations/3f2a9c….2/        the same made anew, because the first was damaged
    P.generations/3f2a9c….json      when, by whom and from what it was made
    P.generations/.work-…/          what is being made; removed by the next run if its maker is gone
    P.generations/.turn             a symlink whose text says who is switching or removing
    .P.switch-…                     the symlink on its way to P; removed as work is
    .P.gone-…                       the generations on their way out, after P is uninstalled
    P.generations/store/            the store, where no other was named
    P.generations/log.txt           the story of the last failure
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envforge.edges.scratch import (
    abandoned,
    discard,
    exclusive,
    make_directory,
    owner_mark,
    remove_tree,
    scratch,
    sweep,
    take_away,
)
from envforge.errors import CouldNotError, InputError
from envforge.node.proving.scan import RECEIPT
from envforge.settings import use_log_file

__all__ = ["GENERATION", "Prefix", "is_complete"]

GENERATION = re.compile(r"[0-9a-f]{12}(\.[1-9][0-9]{0,5})?")
"""The name of a generation's directory."""

TURN_SECONDS = 120.0

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

    # -- generations -----------------------------------------------------------------------------------

    def current(self) -> Path | None:
        """The generation that ``P`` points to, or ``None`` where there is none."""
        if not self.path.is_symlink() or not self._is_ours():
            return None
        generation = self.generations / self.path.readlink().name
        return generation if generation.is_dir() else None

    def generation(self, identity: str) -> Path:
        """The directory of the generation called ``identity``: of several, the current or the last.

        A damaged generation is made anew beside itself, because jobs may still run in it.
        """
        made = self._made(identity)
        current = self.current()
        if current in made:
            return current
        return made[-1] if made else self.generations / identity

    def anew(self, identity: str) -> Path:
        """A directory for the generation called ``identity`` that is not there yet."""
        made = self._made(identity)
        number = max((_number(path.name) for path in made), default=0) + 1
        return self.generations / (identity if number == 1 else f"{identity}.{number}")

    def _made(self, identity: str) -> list[Path]:
        found = [path for path in self.finished() if path.name.partition(".")[0] == identity]
        return sorted(found, key=lambda path: _number(path.name))

    def finished(self) -> list[Path]:
        """Every generation that is finished, in no particular order."""
        try:
            with os.scandir(self.generations) as entries:
                names = [entry.name for entry in entries if GENERATION.fullmatch(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CouldNotError(
                f"cannot read the generations: {error.strerror}",
                at=str(self.generations),
                do="check who may read it",
            ) from error
        return [path for name in sorted(names) if is_complete(path := self.generations / name)]

    def named(self, name: str) -> Path:
        """The generation whose name begins with ``name``.

        :raises InputError: if there is none, or more than one.
        """
        found = [path for path in self.finished() if path.name.startswith(name)]
        exact = [path for path in found if path.name == name]
        if len(exact or found) != 1:
            raise InputError(
                f"{len(found)} generations begin with {name!r}",
                at=str(self.generations),
                do=f"envforge history {shlex.quote(str(self.path))}   # lists them",
            )
        return (exact or found)[0]

    # -- changing --------------------------------------------------------------------------------------

    @contextmanager
    def turn(self, *, seconds: float = TURN_SECONDS) -> Iterator[None]:
        """Be the only one who switches or removes generations of this prefix, for a moment.

        :param seconds: how long to wait for somebody else.
        :raises BusyError: if somebody else is at it for longer than that.
        :raises CouldNotError: if nothing can be written there.
        """
        make_directory(self.generations)
        with exclusive(self._turn, seconds=seconds):
            yield

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

    def remove(self, generation: Path) -> None:
        """Remove a generation that ``P`` does not point to, and the note beside it; to be called in turn."""
        discard(generation, self.generations)
        self.note(generation).unlink(missing_ok=True)

    def note(self, generation: Path) -> Path:
        """Where it is written down how a generation came to be."""
        return self.generations / f"{generation.name}.json"

    def uninstall(self) -> None:
        """Remove ``P`` and all that lies beside it; to be called in turn.

        The first step, one unlink, decides: after it there is no environment any more.
        """
        if self.path.is_symlink():
            self.path.unlink()
        gone = self.path.with_name(f"{self._going}{owner_mark()}")
        self.generations.rename(gone)
        with suppress(OSError):
            remove_tree(gone)

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
        take_away(self._turn)
        left: list[os.DirEntry[str]] = []
        starts = (self._switching, self._going)
        with suppress(OSError), os.scandir(self.path.parent) as found:
            left = [entry for entry in found if entry.name.startswith(starts)]
        for entry in left:
            with suppress(OSError):
                if entry.name.startswith(self._going):
                    remove_tree(Path(entry.path))
                elif abandoned(entry.name, entry.stat(follow_symlinks=False).st_mtime):
                    os.unlink(entry.path)  # noqa: PTH108 - an entry, not a Path

    @property
    def _turn(self) -> Path:
        return self.generations / ".turn"

    @property
    def _switching(self) -> str:
        return f".{self.path.name}.switch-"

    @property
    def _going(self) -> str:
        return f".{self.path.name}.gone-"

    def _is_ours(self) -> bool:
        return self.path.readlink().parent == Path(self.generations.name)


def _number(name: str) -> int:
    return int(name.partition(".")[2] or 1)


def is_complete(generation: Path) -> bool:
    """Whether the generation is there; its receipt is the last file that is written into it.

    Files that were changed or removed afterwards are for ``verify`` to find.
    """
    try:
        return (generation / RECEIPT).stat().st_size > 0
    except OSError:
        return False
