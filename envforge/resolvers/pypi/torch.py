"""PyTorch's own indexes: one for each CUDA, and one for CPUs.

A wheel of torch is for one CUDA, and neither its tags nor PyPI tell which: PyTorch has an index for each,
with the CUDA as the local part of the version (``2.6.0+cu124``).  Which one is taken follows from what the
target offers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from envforge.errors import CouldNotError, UnsatisfiableError
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target
from envforge.resolvers.pypi.clash import ClashError, names
from envforge.resolvers.pypi.places import PYPI
from envforge.resolvers.pypi.request import PypiRequest

__all__ = ["TORCH", "backend_of", "torch_backends", "with_torch"]

BASE = "https://download.pytorch.org/whl"
TORCH = frozenset(
    (
        "fbgemm-gpu", "fbgemm-gpu-genai", "torch", "torch-tensorrt", "torchao", "torchaudio", "torchcodec",
        "torchdata", "torchrec", "torchtext", "torchvision", "xformers",
    )
)  # fmt: skip
"""What is there for the sake of its CUDA; what is there for convenience comes from PyPI."""
_CUDA = (
    (13, 2), (13, 0), (12, 9), (12, 8), (12, 6), (12, 4), (12, 1), (11, 8), (11, 7), (11, 6), (11, 5),
    (11, 3), (11, 1), (11, 0), (10, 2), (10, 1), (10, 0),
)  # fmt: skip
"""The CUDA versions that there is an index for, the newest first."""
_PLATFORMS = ("linux-64", "linux-aarch64", "win-64")
_Answer = TypeVar("_Answer")


def torch_backends(target: Target) -> tuple[str, ...]:
    """The indexes that fit ``target``, by their last part (``cu124``, ``cpu``), the best first.

    First that of the newest CUDA which the driver has.  Then the newer ones of the same major version, whose
    programs the driver starts as well (NVIDIA's minor version compatibility; conda's packages count on it,
    too).  Then the older ones, for an older torch.  Empty where PyPI's own wheels are the right ones.
    """
    if target.platform not in _PLATFORMS:
        return ()
    match = re.match(r"(\d+)(?:\.(\d+))?", target.version("__cuda") or "")
    if match is None:
        return ("cpu",)
    cuda = (int(match[1]), int(match[2] or 0))
    older = [one for one in _CUDA if one <= cuda]
    newer = [one for one in reversed(_CUDA) if one > cuda and one[0] == cuda[0]]
    best = older[:1] if older and older[0][0] == cuda[0] else []
    found = [*best, *newer, *older[len(best) :]]
    return tuple(f"cu{major}{minor}" for major, minor in found)


def with_torch(request: PypiRequest, ask: Callable[[PypiRequest], _Answer]) -> _Answer:
    """What ``ask`` says to ``request`` with torch from the best index with which there is an answer.

    Where a person has named an index, that is asked as it is.

    :raises UnsatisfiableError: that of the first index, if there is an answer with none.
    """
    places = request.places
    if places.indexes or places.find_links:
        return ask(request)
    first: UnsatisfiableError | None = None
    for backend in torch_backends(request.target) or ("",):
        pins = dict.fromkeys(TORCH, f"{BASE}/{backend}") if backend else {}
        pinned = replace(places, index_of=tuple(sorted((pins | places.pinned).items())))
        try:
            return ask(replace(request, places=pinned))
        except ClashError:
            raise
        except CouldNotError as error:
            if first is not None:
                raise first from error
            if error.at is not None and error.at.startswith(BASE):  # which a person has not named
                error.do = f"{error.do}; or take what PyPI has: envforge lock --index-url {PYPI}"
            raise
        except UnsatisfiableError as error:
            if first is None:
                first = error
            if not any(names(f"{error.what} {error.story or ''}", name) for name in TORCH):
                break
    assert first is not None  # noqa: S101 - there is at least one index to ask
    raise first


def backend_of(rows: Iterable[LockedPackage]) -> str | None:
    """The index that torch was taken from: ``cu124``, ``cpu``; ``None`` if it was from none of PyTorch's."""
    for row in rows:
        local = re.search(r"\+((?:cu\d+|cpu))\b", row.version)
        if row.name in TORCH and local is not None and row.name == "torch":
            return local[1]
    return None
