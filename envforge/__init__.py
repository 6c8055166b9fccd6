"""envforge carries a software environment from a laptop with internet to a cluster without it.

``import envforge`` gives the nouns, and one function a verb: what the command line itself calls.  Each is
imported when it is first used.  What is not in ``__all__`` may change with any release.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envforge.bundle import BundleOptions, BundleResult, bundle
    from envforge.diff import diff
    from envforge.edges.fetch import Fetcher
    from envforge.edges.store import Store
    from envforge.errors import (
        AnswerNo,
        BusyError,
        CouldNotError,
        EnvforgeError,
        InputError,
        UnsatisfiableError,
    )
    from envforge.export import ExportOptions, export
    from envforge.formats.conda_lock import read as read_lockfile
    from envforge.formats.conda_lock import write as write_lockfile
    from envforge.formats.specification import read_specification
    from envforge.importing.completing import ImportPorts
    from envforge.importing.installed import read_prefix
    from envforge.importing.reading import read_lock as read_foreign
    from envforge.importing.run import Imported, ImportOptions, import_lock
    from envforge.layout.plan import LockfileInput
    from envforge.list import Survey, holding, survey
    from envforge.lock.check import first_unmet as check
    from envforge.lock.options import LockOptions, targets_for
    from envforge.lock.run import lock
    from envforge.lock.unmet import Unmet
    from envforge.mirror import MirrorOptions, MirrorResult, mirror
    from envforge.model.difference import Change, LockDifference, Pair
    from envforge.model.foreign import ForeignLock, Loss, Written
    from envforge.model.graph import Asked, Graph, Need, Node, graph_of
    from envforge.model.holding import Holding
    from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile
    from envforge.model.manifest import Manifest
    from envforge.model.platforms import Target, VirtualPackage
    from envforge.model.profile import ClusterProfile
    from envforge.model.receipt import Difference, FileRecord, Receipt
    from envforge.model.spec import EnvironmentSpec, Line
    from envforge.node.history import Moment, history, rollback, uninstall
    from envforge.node.install import InstallOptions, InstallResult, install
    from envforge.node.prefix import Prefix
    from envforge.node.sources.bundles import BundleSource
    from envforge.node.sources.source import MirrorSource
    from envforge.node.verify import Verification
    from envforge.node.verify import verify_prefix as verify
    from envforge.probe import probe
    from envforge.reporting import Recorder, Reporter
    from envforge.sbom import make_sbom as sbom
    from envforge.share import Shared, share
    from envforge.tree import Branch, tree
    from envforge.why import Presence, Reason, why

__all__ = [
    "AnswerNo",
    "Asked",
    "Branch",
    "BundleOptions",
    "BundleResult",
    "BundleSource",
    "BusyError",
    "Change",
    "ClusterProfile",
    "CouldNotError",
    "Difference",
    "EnvforgeError",
    "EnvironmentSpec",
    "ExportOptions",
    "Fetcher",
    "FileRecord",
    "ForeignLock",
    "Graph",
    "Holding",
    "ImportOptions",
    "ImportPorts",
    "Imported",
    "InputError",
    "InstallOptions",
    "InstallResult",
    "Line",
    "LockDifference",
    "LockOptions",
    "LockedChannel",
    "LockedPackage",
    "Lockfile",
    "LockfileInput",
    "Loss",
    "Manifest",
    "MirrorOptions",
    "MirrorResult",
    "MirrorSource",
    "Moment",
    "Need",
    "Node",
    "Pair",
    "Prefix",
    "Presence",
    "Reason",
    "Receipt",
    "Recorder",
    "Reporter",
    "Shared",
    "Store",
    "Survey",
    "Target",
    "Unmet",
    "UnsatisfiableError",
    "Verification",
    "VirtualPackage",
    "Written",
    "__version__",
    "bundle",
    "check",
    "diff",
    "export",
    "graph_of",
    "history",
    "holding",
    "import_lock",
    "install",
    "lock",
    "mirror",
    "probe",
    "read_foreign",
    "read_lockfile",
    "read_prefix",
    "read_specification",
    "rollback",
    "sbom",
    "share",
    "survey",
    "targets_for",
    "tree",
    "uninstall",
    "verify",
    "why",
    "write_lockfile",
]

__version__ = "0.1.0"

_NOUNS = {
    "edges.fetch": "Fetcher",
    "edges.store": "Store",
    "errors": "AnswerNo BusyError CouldNotError EnvforgeError InputError UnsatisfiableError",
    "bundle": "BundleOptions BundleResult",
    "layout.plan": "LockfileInput",
    "lock.options": "LockOptions",
    "mirror": "MirrorOptions MirrorResult",
    "model.difference": "Change LockDifference Pair",
    "model.graph": "Asked Graph Need Node",
    "model.holding": "Holding",
    "model.lockfile": "LockedChannel LockedPackage Lockfile",
    "model.manifest": "Manifest",
    "model.platforms": "Target VirtualPackage",
    "model.receipt": "Difference FileRecord Receipt",
    "model.spec": "EnvironmentSpec Line",
    "node.sources.bundles": "BundleSource",
    "node.install": "InstallOptions InstallResult",
    "node.prefix": "Prefix",
    "node.sources.source": "MirrorSource",
    "reporting": "Recorder Reporter",
    "tree": "Branch",
    "why": "Presence Reason",
    "export": "ExportOptions",
    "importing.completing": "ImportPorts",
    "importing.run": "Imported ImportOptions",
    "model.foreign": "ForeignLock Loss Written",
    "share": "Shared",
    "list": "Survey",
    "node.history": "Moment",
    "node.verify": "Verification",
    "model.profile": "ClusterProfile",
    "lock.unmet": "Unmet",
}
_VERBS = {
    "bundle": "bundle.bundle",
    "check": "lock.check.first_unmet",
    "diff": "diff.diff",
    "export": "export.export",
    "graph_of": "model.graph.graph_of",
    "history": "node.history.history",
    "holding": "list.holding",
    "import_lock": "importing.run.import_lock",
    "install": "node.install.install",
    "lock": "lock.run.lock",
    "probe": "probe.probe",
    "mirror": "mirror.mirror",
    "read_foreign": "importing.reading.read_lock",
    "read_lockfile": "formats.conda_lock.read",
    "read_prefix": "importing.installed.read_prefix",
    "read_specification": "formats.specification.read_specification",
    "rollback": "node.history.rollback",
    "sbom": "sbom.make_sbom",
    "share": "share.share",
    "survey": "list.survey",
    "targets_for": "lock.options.targets_for",
    "tree": "tree.tree",
    "uninstall": "node.history.uninstall",
    "verify": "node.verify.verify_prefix",
    "why": "why.why",
    "write_lockfile": "formats.conda_lock.write",
}
_PLACES = {name: f"{module}.{name}" for module, names in _NOUNS.items() for name in names.split()} | _VERBS


if not TYPE_CHECKING:  # a type checker is to know the names above, and no others

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module 'envforge' has no attribute {name!r}")
        module, _, attribute = f"envforge.{_PLACES[name]}".rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """A package in which a verb is the function, and not the module of the same name.

    Python sets ``envforge.lock`` to the module once that is imported.  ``from envforge.lock.run import lock``
    finds modules elsewhere, and works as ever.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _VERBS or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
