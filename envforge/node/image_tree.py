"""The tree that goes into an image: the environment linked for the one path that it will have there.

An image has no generations: prefix and generation are one.  Nothing of the target runs, so it may be another
platform's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from envforge.edges.scratch import write_beside
from envforge.edges.store import Store
from envforge.errors import InputError
from envforge.formats import receipt_json
from envforge.model.image import GPU_VARIABLES, ImageFacts, check_image_prefix
from envforge.model.receipt import Receipt
from envforge.node.install import InstallOptions, host_platform, new_receipt, planned, tell, tool_versions
from envforge.node.linking.build import Workshop, build_tree
from envforge.node.proving.scan import RECEIPT
from envforge.node.sources.source import ArtifactSource, BareSource
from envforge.node.using.activate import activation, label
from envforge.reporting import Reporter

__all__ = ["ImageTree", "TreeOptions", "make_image_tree"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class TreeOptions:
    """What may be chosen: the path in the image, platform and groups, whether the runtime comes along."""

    prefix: str
    platform: str
    groups: tuple[str, ...] = ("main",)
    runtime: bool = True
    jobs: int = 2


@dataclass(frozen=True, kw_only=True)
class ImageTree:
    """A tree that is ready to be put into an image.

    ``variables`` is what activation sets, ``None`` for what it removes; ``facts`` what the image will say of
    itself, with the kind ``environment``; ``gpu`` whether it was locked for machines with one.
    """

    path: Path
    receipt: Receipt
    variables: Mapping[str, str | None]
    facts: ImageFacts
    gpu: bool = False

    def environment(self, below: Mapping[str, str]) -> dict[str, str]:
        """The variables of a process in the image, as activation sets them.

        :param below: those that the base sets.
        """
        found = {name: value for name, value in below.items() if name not in self.variables}
        found |= {name: value for name, value in self.variables.items() if value is not None}
        if self.gpu:
            found = GPU_VARIABLES | found
        path = below.get("PATH") or _PATH
        return {**found, "CONDA_SHLVL": "1", "PATH": f"{self.facts.prefix}/bin:{path}"}


def make_image_tree(
    source: ArtifactSource, options: TreeOptions, *, work: Path, store: Store, reporter: Reporter
) -> ImageTree:
    """Make the environment of ``source`` in ``work``, a directory of its own, for its path in an image.

    :raises InputError: if the lock cannot be installed for that platform, or at that path.
    :raises CouldNotError: if an artifact is not the locked one, or there is no room.
    """
    final = Path(check_image_prefix(options.prefix))
    if not options.runtime:
        source = BareSource(source)
    chosen = InstallOptions(groups=options.groups, jobs=options.jobs)
    _check_has_python(source, options)
    plan = planned(source, options.platform, chosen)
    plan = replace(plan, final=final, foreign=options.platform != host_platform())
    source.prepare(plan.rows)
    built = build_tree(plan, Workshop(work=work, store=store, jobs=options.jobs, reporter=reporter))
    tell(built, reporter)
    if built.foreign == "":
        reporter.note(
            f"there is no Python here that compiles for {options.platform}: the image has no bytecode"
        )
    receipt = new_receipt(plan, built, prefix=final, groups=options.groups)
    text = receipt_json.write(receipt)
    write_beside(built.path / RECEIPT, text)
    lockfile = source.lockfile
    target = lockfile.target(options.platform)
    return ImageTree(
        path=built.path,
        receipt=receipt,
        variables=activation(built.path, final, name=lockfile.name, digest=lockfile.digest()),
        facts=ImageFacts(
            kind="environment",
            prefix=str(final),
            platform=options.platform,
            name=label(lockfile.name),
            lock=receipt.lock,
            receipt=hashlib.sha256(text.encode()).hexdigest(),
            version=tool_versions()["envforge"],
        ),
        gpu=target is not None and target.version("__cuda") is not None,
    )


def _check_has_python(source: ArtifactSource, options: TreeOptions) -> None:
    """Refuse wheels without an interpreter: that of the base cannot be asked."""
    rows = source.lockfile.rows(options.platform, options.groups)
    if rows and all(row.manager == "pip" for row in rows):
        raise InputError(
            "the lockfile has wheels but no conda python, and an image needs a Python of its own",
            at=f"platform {options.platform}",
            do="add python to the dependencies of the specification and lock again",
        )
