"""Using an environment that is in an image: one small program starts it, by whatever the machine has.

The program is the same for ``run``, ``shell``, ``wrap`` and ``kernel``, and decides where it runs: a wrapper
that was made on a login node finds out on the compute node whether there is a GPU, and what starts images.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from envforge.edges.images import image_kind
from envforge.edges.scratch import replacing
from envforge.errors import InputError
from envforge.model.image import ImageFacts
from envforge.node.proving.images import image_facts

__all__ = ["SHELL", "UsableImage", "find_image", "is_image", "write_programs"]

SHELL = ("sh", "-c", "command -v bash >/dev/null && exec bash -i; exec sh -i")
"""The shell in an image: whichever it has."""

_BIND = re.compile(r"/[^:,\n]*(:/[^:,\n]*(:r[ow])?)?")
_REMEDIES = {
    "environment": "name an image to start it in: --base BASE.sif   # or install apptainer or squashfuse",
    "root": "install apptainer or Charliecloud, or load the module that has one",
    "sif": "install apptainer, or load the module that has it",
}


@dataclass(frozen=True, kw_only=True)
class UsableImage:
    """An image with an environment of envforge's in it, and how it is started.

    ``kind`` is ``sif``, ``oci-archive``, ``oci``, or for a SquashFS ``root`` and ``environment``.  ``base``
    is the image that an environment alone is started in; ``binds`` are more directories, as
    ``SRC[:DST[:ro]]``.
    """

    path: Path
    kind: str
    facts: ImageFacts
    base: Path | None = None
    binds: tuple[str, ...] = ()
    gpu: bool = True

    def program(self, words: Sequence[str]) -> str:
        """A POSIX sh program that is ``words`` in the environment, followed by the words it is given.

        Signals and exit status are the command's.
        """
        values = {
            "COMMAND": " ".join(_comment(word) for word in words[:1]) or "a command",
            "IMAGE": shlex.quote(str(self.path)),
            "KIND": self.kind,
            "PREFIX": shlex.quote(self.facts.prefix),
            "LOCK": self.facts.lock,
            "BASE": shlex.quote(str(self.base) if self.base else ""),
            "BIND": shlex.quote(",".join(self.binds)),
            "GPU": "auto" if self.gpu else "no",
            "WORDS": shlex.join(words),
            "REMEDY": shlex.quote(
                _REMEDIES.get(self.kind, f"make a SIF of it: apptainer build X.sif {self.kind}:{self.path}")
            ),
        }
        text = (files("envforge") / "node" / "using" / "activation" / "container").read_text(encoding="utf-8")
        return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)


def is_image(path: Path) -> bool:
    """Whether ``path`` is an image of some kind, and not a prefix."""
    return not (path / ".envforge").is_dir() and image_kind(path) is not None


def find_image(
    path: Path, *, base: Path | None = None, binds: Sequence[str] = (), gpu: bool = True
) -> UsableImage:
    """The image at ``path``.

    :raises InputError: if envforge did not make it, or it cannot be used in that way.
    :raises CouldNotError: if it cannot be read.
    """
    facts = image_facts(path)
    kind = image_kind(path) or ""
    kind = facts.kind if kind == "squashfs" else kind
    if base is not None and kind != "environment":
        raise InputError(
            "the image has a root file system of its own", at=f"--base {base}", do="leave --base out"
        )
    if base is not None and not base.exists():
        raise InputError("no such image", at=f"--base {base}", do="name a SIF, or a directory")
    for bind in binds:
        if not _BIND.fullmatch(bind):
            raise InputError(
                f"{bind!r} is no directory to bind", at="--bind", do="--bind /data | --bind /data:/inside:ro"
            )
    return UsableImage(
        path=Path(os.path.abspath(path)),  # noqa: PTH100 - a symlink is the user's choice
        kind=kind,
        facts=facts,
        base=base and base.absolute(),
        binds=tuple(binds),
        gpu=gpu,
    )


def write_programs(programs: Mapping[Path, str], *, mode: int = 0o755, dry_run: bool) -> None:
    """Write programs, each beside its place first; what lies there and is none of ours stays.

    :raises InputError: if there is something else at one of the places; nothing is written then.
    :raises CouldNotError: if one cannot be written.
    """
    for path in programs:
        if os.path.lexists(path) and not _is_ours(path):
            raise InputError(
                "there is something of this name, and it is no wrapper",
                at=str(path),
                do=f"rm {shlex.quote(str(path))}   # or name another --bin",
            )
    for path, text in () if dry_run else programs.items():
        with replacing(path, mode) as beside:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(text, encoding="utf-8", errors="surrogateescape")


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"# Made by envforge" in file.read(400)
    except OSError:
        return False


def _comment(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "_", word)
