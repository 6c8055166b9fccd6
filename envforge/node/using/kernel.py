"""A Jupyter kernel that is the Python of an environment, for a JupyterHub or JupyterLab outside it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from envforge.errors import InputError
from envforge.node.using.activate import RUN

__all__ = ["LAUNCH", "check_kernel_name", "kernel_of_image", "kernel_spec", "kernels_directory"]

LAUNCH = ("python", "-m", "ipykernel_launcher", "-f")
"""What starts ipykernel; the path of the connection file follows."""

_NAME = re.compile(r"[a-z0-9._-]{1,100}")


def kernels_directory() -> Path:
    """Where Jupyter looks for a user's kernels.

    :raises InputError: if there is no home directory.
    """
    data = os.environ.get("JUPYTER_DATA_DIR")
    if data:
        return Path(data).absolute() / "kernels"
    base = os.environ.get("XDG_DATA_HOME")
    try:
        share = Path(base) if base else Path.home() / ".local" / "share"
    except RuntimeError as error:
        raise InputError("there is no home directory", at="$HOME", do="say where: --dir DIR") from error
    return share.absolute() / "jupyter" / "kernels"


def check_kernel_name(name: str) -> str:
    """``name``, if Jupyter takes it for the name of a kernel.

    :raises InputError: if not.
    """
    if not _NAME.fullmatch(name) or name.strip(".") == "":
        raise InputError(
            f"{name!r} cannot be the name of a kernel: a-z, 0-9, dot, dash and underscore can",
            at="--name",
            do="--name analysis",
        )
    return name


def kernel_spec(generation: Path, display_name: str) -> bytes:
    """The text of ``kernel.json``: ipykernel of the environment, activated.

    :raises InputError: if the environment has no Python with ipykernel.
    """
    if not any(generation.glob("lib/python*/site-packages/ipykernel_launcher.py")):
        raise InputError(
            "the environment has no ipykernel, which is what Jupyter talks to",
            at=str(generation),
            do="add ipykernel to environment.yml, then: envforge lock, mirror, install",
        )
    run, python = str(generation / RUN), str(generation / "bin" / "python")
    debugger = any(generation.glob("lib/python*/site-packages/debugpy"))
    document = {
        "argv": [run, python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": display_name,
        "language": "python",
        "metadata": {"debugger": debugger},
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogateescape")


def kernel_of_image(program: str, display_name: str) -> str:
    """The text of ``kernel.json`` for an image; whether ipykernel is in it shows when it starts.

    :param program: one of sh that becomes :data:`LAUNCH` in the image, with the words that it is given.
    """
    document = {
        "argv": ["/bin/sh", "-c", program, "sh", "{connection_file}"],
        "display_name": display_name,
        "language": "python",
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
