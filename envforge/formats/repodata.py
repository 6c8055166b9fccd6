"""``repodata.json`` and its compressed twin: what makes a directory a conda channel.

Goals: conda, mamba, micromamba, pixi and rattler read it; a record says what the solver was told when the
package was locked; the bytes are a function of the packages and the lockfiles alone, so nothing is
stamped with a time and nothing depends on the version of a compressor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, join_specs

__all__ = ["merged_depends", "record", "repodata_json", "split_specs", "zstd_frame"]

_NOT_OURS = ("fn", "url", "channel", "schannel", "indexed_timestamp", "base_url")
"""Keys that a client fills in from where it found the record; in a package they could only mislead."""
_BLOCK = 128 << 10


def record(
    row: LockedPackage,
    index: Mapping[str, Any],
    *,
    md5: str,
    sha256: str,
    size: int,
    whole: bool = True,
    patched: bool = True,
) -> dict[str, Any]:
    """The repodata record of one package.

    :param row: its row in the lockfile.
    :param index: its own ``info/index.json``.
    :param md5: of the file itself, as ``sha256`` and ``size`` are.
    :param whole: whether the lockfile keeps whole MatchSpecs (see :func:`merged_depends`).
    :param patched: whether the row says what the package depends on; else it is what its own index says.
    :raises InputError: if the package is another one than its row and its file name say.
    """
    _check_same(row, index)
    result = {key: value for key, value in index.items() if key not in _NOT_OURS}
    own = _strings(index, "depends", row)
    result["depends"] = merged_depends(own, row.dependencies, whole=whole) if patched else own
    result["subdir"] = row.subdir
    return result | {"md5": md5, "sha256": sha256, "size": size}


def _check_same(row: LockedPackage, index: Mapping[str, Any]) -> None:
    expected = {"name": row.name, "version": row.version, "build": row.build_string, "subdir": row.subdir}
    for key, want in expected.items():
        have = index.get(key)
        if have != want and not (key == "subdir" and have is None):  # very old packages do not say
            raise InputError(
                f"{row.filename} holds another package: its {key} is {have!r} and not {want!r}",
                at=f"{row.filename}: info/index.json",
                do="lock another build of it: the channel published this one under a wrong name",
            )
    stem = f"{row.name}-{row.version}-{row.build_string}"
    if row.filename not in (f"{stem}.conda", f"{stem}.tar.bz2"):
        raise InputError(
            f"the file name {row.filename} is not that of {row.name} {row.version} {row.build_string}",
            at=f"package {row.name} ({row.platform}): url",
            do="envforge lock   # again; this row was not written by a solver",
        )


def _strings(index: Mapping[str, Any], key: str, row: LockedPackage) -> list[str]:
    value = index.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(
            f"{key} is not a list of strings",
            at=f"{row.filename}: info/index.json",
            do="lock another build of it: this one is broken where it was published",
        )
    return value


def merged_depends(own: Sequence[str], locked: Mapping[str, str], *, whole: bool = True) -> list[str]:
    """The package's own ``depends``, but for what its channel has changed since it was built.

    A name on which both agree keeps the package's own strings, so a package that was never patched comes
    out verbatim.

    :param own: the package's own list.
    :param locked: the row's mapping of names to the rest of the MatchSpec.
    :param whole: the lockfile keeps whole MatchSpecs, virtual packages included.  conda-lock's own files
        keep the version part only and no virtual packages: what they left out is no change.
    """
    ours = join_specs(own)
    rest = {name: _normal(text) for name, text in locked.items()}
    kept: list[str] = []
    for spec in own:
        name = spec.strip().partition(" ")[0]
        if name in rest:
            same = rest[name] == _normal(ours[name]) or (not whole and rest[name] in _reduced(own, name))
        else:
            same = not whole and name.startswith("__")
        if same:
            kept.append(spec)
        elif name in rest:
            kept += [spec for spec in split_specs(name, rest[name]) if spec not in kept]
    for name in sorted(rest.keys() - ours.keys()):
        kept += split_specs(name, rest[name])
    return kept


def _normal(rest: str) -> str:
    return rest.strip() or "*"


def _reduced(own: Sequence[str], name: str) -> set[str]:
    """What a lockfile that keeps versions only may say of ``name``: one of the specs, or all, joined."""
    versions = []
    for spec in own:
        words = spec.split()
        if words and words[0] == name:
            versions.append(words[1] if len(words) > 1 else "*")
    return {*versions, ",".join(versions), ",".join(v for v in versions if v != "*") or "*"}


def split_specs(name: str, rest: str) -> list[str]:
    """MatchSpecs again: ``3.12.* *_cp312,>=3.12`` is two, because a comma cannot follow a build string."""
    specs, versions = [], []
    for part in rest.split(","):
        versions.append(part.strip())
        if " " in part.strip():
            specs.append(f"{name} {','.join(versions)}")
            versions = []
    if versions:
        text = ",".join(versions)
        specs.append(name if text == "*" else f"{name} {text}")
    return specs


def repodata_json(subdir: str, records: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A whole ``repodata.json``.

    :param records: by file name.
    """
    document = {
        "info": {"subdir": subdir},
        "packages": dict(_of(records, ".tar.bz2")),
        "packages.conda": dict(_of(records, ".conda")),
        "removed": [],
        "repodata_version": 1,
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _of(records: Mapping[str, Mapping[str, Any]], suffix: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return ((name, records[name]) for name in sorted(records) if name.endswith(suffix))


def zstd_frame(data: bytes) -> bytes:
    """``data`` as a zstd frame (RFC 8878) that stores it as it is.

    Not smaller, but the same bytes whatever libzstd there is.  The window is one block, so that no decoder
    refuses a large frame for the memory it would need.
    """
    header = b"\x28\xb5\x2f\xfd"  # the magic number
    header += bytes([0b11_0_0_0_0_00])  # content size in 8 bytes; window follows; no checksum, no dictionary
    header += bytes([(17 - 10) << 3])  # window of 2**17 bytes = 128 KiB
    header += len(data).to_bytes(8, "little")
    out = [header]
    starts = range(0, len(data), _BLOCK) or (0,)
    for start in starts:
        block = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        # Block_Header: bit 0 last, bits 1-2 type (0: raw), bits 3-23 size
        out += [(len(block) << 3 | last).to_bytes(3, "little"), block]
    return b"".join(out)
