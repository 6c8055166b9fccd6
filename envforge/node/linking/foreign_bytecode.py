"""Bytecode for a platform whose programs do not run here, by a Python of this machine.

Bytecode is the same for every machine; what it depends on is the minor version of Python, and in small ways
the release.  So it is written down which one made it.
"""

from __future__ import annotations

import shutil
import sys
from functools import lru_cache
from pathlib import Path

from envforge.errors import EnvforgeError
from envforge.node.linking.bytecode import Compiler
from envforge.node.linking.interpreter import ask_interpreter

__all__ = ["foreign_compiler"]


@lru_cache(maxsize=8)
def foreign_compiler(version: str) -> Compiler | None:
    """A Python of this machine that compiles for one of ``version``; ``None`` if there is none.

    The one that runs envforge, if it has the same minor version, else ``pythonX.Y`` on PATH.
    """
    wanted = ".".join(version.split(".")[:2])
    own = "{}.{}".format(*sys.version_info)
    path = sys.executable if own == wanted else shutil.which(f"python{wanted}")
    if not path:
        return None
    try:
        found = ask_interpreter(path)
    except EnvforgeError:
        return None
    if not found.version.startswith(f"{wanted}."):
        return None
    return Compiler(python=Path(path), version=found.version, identity=found.identity)
