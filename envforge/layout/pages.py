"""Everything in a mirror or bundle that is derived: repodata, index pages, metadata, locks, the manifest.

A pure function of the plan and the artifacts; nothing here writes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from email.parser import BytesHeaderParser
from functools import partial
from pathlib import Path
from typing import Any

from envforge.edges.archive import conda_index, wheel_metadata
from envforge.edges.fetch import Downloaded
from envforge.edges.parallel import in_parallel
from envforge.formats import lock_json
from envforge.formats.repodata import record, repodata_json, zstd_frame
from envforge.formats.simple_index import IndexedFile, project_json, project_page, root_page
from envforge.layout.plan import Artifact, Plan
from envforge.model.lockfile import Lockfile, canonical_name
from envforge.model.manifest import Manifest, MirrorFile
from envforge.model.runtime import RUNTIME_GROUP

__all__ = ["derive", "make_manifest"]


def derive(
    place: Callable[[Artifact], Path],
    plan: Plan,
    locks: Mapping[str, bytes],
    hashes: Mapping[str, Downloaded],
    *,
    jobs: int,
) -> dict[str, bytes]:
    """Every derived file but the manifest, by path, in the order of writing: what an index names comes first.

    :param place: where each artifact lies.
    :param locks: the bytes of every lockfile, by name.
    :param hashes: of every artifact, by path.
    :raises InputError: for a package that is not what its row says.
    """
    artifacts = list(plan.artifacts.values())
    conda = [a for a in artifacts if a.row.manager == "conda"]
    wheels = [a for a in artifacts if a.row.is_wheel]
    records = in_parallel([partial(_record, place(a), a, plan, hashes[a.path]) for a in conda], jobs)
    texts = in_parallel([partial(wheel_metadata, place(a)) for a in wheels], jobs)
    metadata = {f"{a.path}.metadata": text for a, text in zip(wheels, texts, strict=True)}
    channels = _channels(plan, {a.path: r for a, r in zip(conda, records, strict=True)})
    index = _simple(plan, metadata, hashes)
    return {**metadata, **_locks(plan, locks), **channels, **index}


def _locks(plan: Plan, locks: Mapping[str, bytes]) -> dict[str, bytes]:
    files = {}
    for name in sorted(locks):
        digest = hashlib.sha256(locks[name]).hexdigest()
        files[f"locks/{name}.conda-lock.yml"] = locks[name]
        files[f"locks/{name}.json"] = lock_json.write(plan.locks[name], source_sha256=digest).encode()
    return files


def _keeps_whole_specs(lock: Lockfile) -> bool:
    return any(key.startswith("envforge.") for key in lock.custom)


def _record(path: Path, artifact: Artifact, plan: Plan, hashes: Downloaded) -> dict[str, Any]:
    """The repodata record; where locks disagree about ``depends``, the first that knows of a change wins."""
    index = conda_index(path, artifact.row.filename)
    rows = [(lock, row) for lock, row in artifact.rows if row.category != RUNTIME_GROUP]
    if not rows:  # only a runtime needs it, and of that a lock has no dependencies
        row = artifact.row
        return record(row, index, md5=hashes.md5, sha256=hashes.sha256, size=hashes.size, patched=False)
    candidates = [
        record(
            row,
            index,
            md5=hashes.md5,
            sha256=hashes.sha256,
            size=hashes.size,
            whole=_keeps_whole_specs(plan.locks[lock]),
        )
        for lock, row in rows
    ]
    changed = [one for one in candidates if one["depends"] != index.get("depends", [])]
    return (changed or candidates)[0]


def _channels(plan: Plan, records: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    grouped: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for channel in plan.channels:
        for subdir in ("noarch", *plan.platforms):
            grouped[channel.name, subdir] = {}
    for path, entry in records.items():
        _, channel_name, subdir, filename = path.split("/")
        grouped[channel_name, subdir][filename] = entry
    files = {}
    for (channel_name, subdir), entries in sorted(grouped.items()):
        text = repodata_json(subdir, entries)
        files[f"conda/{channel_name}/{subdir}/repodata.json.zst"] = zstd_frame(text)
        files[f"conda/{channel_name}/{subdir}/repodata.json"] = text
    return files


def _simple(plan: Plan, metadata: Mapping[str, bytes], hashes: Mapping[str, Downloaded]) -> dict[str, bytes]:
    projects: dict[str, list[IndexedFile]] = defaultdict(list)
    for artifact in plan.artifacts.values():
        if artifact.row.manager == "pip":
            text = metadata.get(f"{artifact.path}.metadata")
            entry = _indexed(artifact, text, hashes[artifact.path].size)
            projects[canonical_name(artifact.row.name)].append(entry)
    files = {}
    for name, entries in sorted(projects.items()):
        files[f"pypi/simple/{name}/index.html"] = project_page(name, entries)
        files[f"pypi/simple/{name}/index.json"] = project_json(name, entries)
    if projects:
        files["pypi/simple/index.html"] = root_page(projects)
    return files


def _indexed(artifact: Artifact, metadata: bytes | None, size: int) -> IndexedFile:
    return IndexedFile(
        filename=artifact.row.filename,
        path=f"../../{artifact.path.removeprefix('pypi/')}",
        version=artifact.row.version,
        sha256=artifact.sha256,
        size=size,
        requires_python=None if metadata is None else _requires_python(metadata),
        metadata_sha256=None if metadata is None else hashlib.sha256(metadata).hexdigest(),
    )


def _requires_python(metadata: bytes) -> str | None:
    value = BytesHeaderParser().parsebytes(metadata)["Requires-Python"]
    return None if value is None else " ".join(str(value).split())


def make_manifest(
    plan: Plan, derived: Iterable[tuple[str, bytes]], hashes: Mapping[str, Downloaded]
) -> Manifest:
    """The manifest: every file of the mirror but itself."""
    files = [
        MirrorFile(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for path, content in derived
    ]
    files += [
        MirrorFile(path=a.path, sha256=a.sha256, size=hashes[a.path].size, url=a.origin)
        for a in plan.artifacts.values()
    ]
    return Manifest(
        locks=tuple(sorted(plan.locks)),
        channels=plan.channels,
        files=tuple(sorted(files, key=lambda file: file.path)),
    )
