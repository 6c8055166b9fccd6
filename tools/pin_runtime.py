"""Write ``envforge/runtime/wheels.json``: the wheels that a bundle's runtime has, by name and hash.

    python tools/pin_runtime.py [--index-url URL]

It takes the newest versions that fit ``pyproject.toml``, which is what the release was tested with.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.utils import parse_wheel_filename

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
WANTED = ("click", "py-rattler", "securesystemslib", "tomli")
PLATFORMS = {"linux-64": "manylinux_2_17_x86_64", "linux-aarch64": "manylinux_2_28_aarch64"}


def main() -> None:
    """Read the index and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index-url", default="https://pypi.org/simple")
    index = parser.parse_args().index_url
    with (ROOT / "pyproject.toml").open("rb") as file:
        lines = tomllib.load(file)["project"]["dependencies"]
    needed = {requirement.name: requirement for requirement in map(Requirement, lines)}
    pinned: dict[str, list[dict[str, str]]] = {platform: [] for platform in PLATFORMS}
    for name in WANTED:
        page = read(f"{index.rstrip('/')}/{name}/")
        for platform, tag in PLATFORMS.items():
            pinned[platform].append(newest(page["files"], needed[name], tag))
    text = json.dumps({"format": 1, "platforms": pinned}, indent=2) + "\n"
    (ROOT / "envforge" / "runtime" / "wheels.json").write_text(text, encoding="utf-8")
    print(text, end="")


def read(url: str) -> Any:
    """A page of the index, as JSON (PEP 691)."""
    request = urllib.request.Request(url, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def newest(found: list[dict[str, Any]], requirement: Requirement, platform: str) -> dict[str, str]:
    """The newest wheel that fits, for every Python from 3.10 on and for ``platform``."""
    fitting = {tag for kind in ("cp310-abi3", "py3-none") for tag in parse_tag(f"{kind}-{platform}")}
    fitting |= parse_tag("py3-none-any")
    candidates = []
    for file in found:
        if not file["filename"].endswith(".whl") or file.get("yanked"):
            continue
        _, version, _, tags = parse_wheel_filename(file["filename"])
        if tags & fitting and version in requirement.specifier:
            candidates.append((version, file))
    version, file = max(candidates, key=lambda pair: pair[0])
    return {
        "name": requirement.name,
        "version": str(version),
        "filename": file["filename"],
        "sha256": file["hashes"]["sha256"],
    }


if __name__ == "__main__":
    main()
