"""``conda-meta`` of a linked tree: who brought what, and making it a function of the lock and the path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envforge.node.linking.conda import ExtractedPackage

__all__ = ["CondaRecords"]


class CondaRecords:
    """The records that py-rattler wrote, one a package, read once and written once.

    :param tree: where the environment lies.
    :param packages: what was linked.
    """

    def __init__(self, tree: Path, packages: Sequence[ExtractedPackage]) -> None:
        by_stem = {package.stem: package for package in packages}
        paths = sorted((tree / "conda-meta").glob("*.json"))
        self._records = {f"conda-meta/{path.name}": json.loads(path.read_bytes()) for path in paths}
        self._packages = {f"conda-meta/{path.name}": by_stem[path.stem] for path in paths}

    def owners(self) -> dict[str, tuple[str, str]]:
        """Who brought each path and how: ``path -> (owner, how)``."""
        owners: dict[str, tuple[str, str]] = {}
        for name, record in self._records.items():
            owner = f"conda:{self._packages[name].row.name}"
            owners[name] = (owner, "metadata")
            for entry in record["paths_data"]["paths"]:
                owners[entry["_path"]] = (owner, _how(entry))
        return owners

    def expected(self) -> dict[str, str]:
        """The sha256 that files must have which were linked unchanged, by path.

        A package that was unpacked just now, from what was hashed, is left out.
        """
        found: dict[str, str] = {}
        for name, record in self._records.items():
            if self._packages[name].fresh:
                continue
            for entry in record["paths_data"]["paths"]:
                if entry["_path"].endswith(".pyc"):  # which was held against the package before it was used
                    continue
                if _how(entry) == "packaged" and entry.get("path_type") == "hardlink" and entry.get("sha256"):
                    found[entry["_path"]] = entry["sha256"]
        return found

    def write(self, tree: Path, hashes: Mapping[str, str]) -> list[str]:
        """Write them anew: no cache paths, the lock's URLs, a fixed order, bytecode as it is now.

        :param tree: where the environment lies by now.
        :param hashes: the sha256 of every file of the tree, by path.
        :returns: what was written, relative to the tree.
        """
        for name, record in self._records.items():
            row = self._packages[name].row
            entries = record["paths_data"]["paths"]
            # In the order in which threads were done.
            entries.sort(key=lambda entry: entry["_path"])
            record["files"] = sorted(record.get("files") or ())
            record.pop("extracted_package_dir", None)
            record.pop("package_tarball_full_path", None)
            record["link"] = {"source": "", "type": 1}
            record["url"] = row.url
            record["channel"] = f"{row.channel}/"
            record["fn"] = row.filename
            for entry in entries:
                if entry["_path"].endswith(".pyc") and entry["_path"] in hashes:
                    entry["sha256_in_prefix"] = hashes[entry["_path"]]
                elif entry.get("prefix_placeholder") and entry["_path"] in hashes:
                    # Where writing failed at first, py-rattler says how long the file was in the package.
                    entry["size_in_bytes"] = (tree / entry["_path"]).stat().st_size
            text = json.dumps(record, indent=2, sort_keys=True) + "\n"
            (tree / name).write_text(text, encoding="utf-8")
        if not self._records:
            return []
        history = tree / "conda-meta" / "history"
        history.write_text("", encoding="utf-8")
        history.chmod(0o644)
        return [*self._records, "conda-meta/history"]


def _how(entry: Mapping[str, Any]) -> str:
    kind = entry.get("path_type", "")
    if "entry_point" in kind:
        return "entry-point"
    if kind == "pyc_file":
        return "bytecode"
    return "prefix" if entry.get("prefix_placeholder") else "packaged"
