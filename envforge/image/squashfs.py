"""``image squashfs``: an environment as one file that is mounted at its prefix, or a whole root with it.

Without a base the file holds the content of the prefix, and is mounted there: by Apptainer, squashfuse or the
kernel.  With a base it is a root file system, which ``ch-run`` and enroot start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from envforge.edges.scratch import replacing
from envforge.edges.squashfs import Mksquashfs, append_trailer
from envforge.formats import image_json
from envforge.node.image_tree import ImageTree
from envforge.reporting import Reporter

__all__ = ["SquashfsResult", "write_squashfs"]


@dataclass(frozen=True, kw_only=True)
class SquashfsResult:
    """What was written: a file of ``size`` bytes; ``kind`` as in :class:`envforge.model.image.ImageFacts`."""

    path: Path
    size: int
    kind: str


def write_squashfs(
    tree: ImageTree,
    root: Path | None,
    path: Path,
    *,
    tool: Mksquashfs,
    compression: str,
    jobs: int,
    reporter: Reporter,
) -> SquashfsResult:
    """Write a SquashFS: beside its place first, and renamed to it when all of it is there.

    :param root: a root file system that has the environment at its prefix; ``None`` for the prefix alone.
    :raises CouldNotError: if mksquashfs fails or the disk refuses; nothing is left then.
    """
    facts = replace(tree.facts, kind="environment" if root is None else "root")
    reporter.step("mksquashfs")
    with replacing(path, 0o644) as beside:
        tool.make(root or tree.path, beside, compression=compression, jobs=jobs, reporter=reporter)
        append_trailer(beside, image_json.write(facts))
        size = beside.stat().st_size
    return SquashfsResult(path=path, size=size, kind=facts.kind)
