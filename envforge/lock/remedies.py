"""What to do where the index lacks something: the change that is nearest, looked up and tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from envforge.model.platforms import Target
from envforge.resolvers.pypi.missing import NoWheelError, UnknownProjectError
from envforge.resolvers.pypi.nearest import Nearest

__all__ = ["Circumstances", "remedy", "remedy_unknown"]

_MEANT = {
    "beautifulsoup": "beautifulsoup4",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python",
    "pil": "pillow",
    "py-opencv": "opencv-python",
    "pytables": "tables",
    "pytorch": "torch",
    "python-graphviz": "graphviz",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""What people write, because conda or an import calls it so, and what PyPI calls it."""
_SYSTEMS = {"linux": "linux", "osx": "darwin", "win": "win32"}
"""What ``sys_platform`` is, by the first part of a platform."""
_MOST = 3


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """``python`` is the full version; ``has_conda`` whether conda brings it.

    ``offered`` is the version of a conda package of a name, or ``None``.
    """

    target: Target
    python: str
    has_conda: bool
    offered: Callable[[str], str | None]


def remedy(error: NoWheelError, near: Nearest, there: Circumstances) -> None:
    """Replace what ``error`` says to do by what would help, the smallest change first."""
    found = [*_changes(error, near, there)]
    conda = there.offered(error.project)
    if conda is not None:
        has = f"whose channels have {error.project} {conda}"
        found.append(f"take it from conda, {has}: write it outside pip:")
    if near.sdist:
        found.append(f"build it: envforge lock --no-binary {error.project}")
    if error.project in _MEANT:
        found.insert(0, f"write {_MEANT[error.project]}, as PyPI calls it")
    if found:
        error.do = "; or ".join(found[:_MOST])


def _changes(error: NoWheelError, near: Nearest, there: Circumstances) -> list[str]:
    name, platform = error.project, there.target.platform
    found = []
    if near.glibc is not None:
        found.append(f"if the cluster has it: envforge lock --glibc {near.glibc}")
    if near.macos is not None:
        found.append(f"if the machines have it: envforge lock --virtual-package __osx={near.macos}")
    short = ".".join(there.python.split(".")[:2])
    if near.pythons and short not in near.pythons:
        minor = int(short.split(".")[1])
        best = min(near.pythons, key=lambda one: (abs(int(one.split(".")[1]) - minor), one))
        conda = f"write python={best} among the conda dependencies"
        way = conda if there.has_conda else f"envforge lock --python {best}"
        ends = dict.fromkeys((near.pythons[0], near.pythons[-1]))
        found.append(f"it has wheels for Python {' to '.join(ends)}: {way}")
    elif near.platforms and platform not in near.platforms:
        systems = {_SYSTEMS[one.partition("-")[0]] for one in near.platforms}
        elsewhere = len(systems) == 1 and _SYSTEMS[platform.partition("-")[0]] not in systems
        way = f": write {name} ; sys_platform == '{min(systems)}'" if elsewhere else ""
        found.append(f"it has wheels for {', '.join(near.platforms)} only{way}")
    if near.version is not None:
        found.append(f"{name} {near.version} fits: ask for that")
    return found


def remedy_unknown(error: UnknownProjectError, there: Circumstances) -> None:
    """Say where a project that no index has may be found."""
    found = []
    for name in error.projects:
        conda = None if name in _MEANT else there.offered(name)
        if name in _MEANT:
            found.append(f"write {_MEANT[name]}, as PyPI calls {name}")
        elif conda is not None:
            found.append(f"take {name} from conda, whose channels have {conda}: write it outside pip:")
    if found:
        error.do = "; ".join(found)
