"""Make the lockfiles of this folder with conda-lock's own models and writer: ``python make.py``."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file
from conda_lock.lockfile.v2prelim.models import Lockfile

HERE = Path(__file__).parent
FORGE = "https://conda.anaconda.org/conda-forge"
FILES = "https://files.pythonhosted.org/packages"
COMMIT = "3f2a9c" + "0" * 34


def row(name: str, version: str, manager: str, platform: str, url: str, **more: Any) -> dict[str, Any]:
    hashes = {"sha256": hashlib.sha256(url.encode()).hexdigest()}
    if manager == "conda":
        hashes["md5"] = hashlib.md5(url.encode()).hexdigest()
    return {
        "name": name,
        "version": version,
        "manager": manager,
        "platform": platform,
        "url": url,
        "hash": hashes,
        "categories": {"main"},
        "dependencies": {},
    } | more


def packages() -> list[dict[str, Any]]:
    python = {"libzlib": ">=1.3.1,<2.0a0", "__glibc": ">=2.17,<3.0.a0", "tzdata": ""}
    rows = []
    for platform in ("linux-64", "osx-arm64"):
        rows += [
            row(
                "python",
                "3.12.11",
                "conda",
                platform,
                f"{FORGE}/{platform}/python-3.12.11-h9e4cc4f_0_cpython.conda",
                dependencies=python,
            ),
            row("libzlib", "1.3.1", "conda", platform, f"{FORGE}/{platform}/libzlib-1.3.1-hb9d3cd8_2.conda"),
            row("tzdata", "2025b", "conda", platform, f"{FORGE}/noarch/tzdata-2025b-h78e105d_0.conda"),
            row(
                "pytest",
                "8.4.2",
                "conda",
                platform,
                f"{FORGE}/noarch/pytest-8.4.2-pyhd8ed1ab_0.conda",
                dependencies={"python": ">=3.10"},
                categories={"dev", "test"},
            ),
            row("einops", "0.8.1", "pip", platform, f"{FILES}/87/62/einops-0.8.1-py3-none-any.whl"),
        ]
    return rows


def others() -> list[dict[str, Any]]:
    git = f"git+https://example.org/tools.git@{COMMIT}"
    return [
        row(
            "tools",
            "0.0.1",
            "pip",
            "linux-64",
            git,
            hash={"sha256": COMMIT},
            source={"type": "url", "url": git},
        ),
        row(
            "local",
            "0.1",
            "pip",
            "linux-64",
            "file:///home/me/local",
            hash={},
            source={"type": "url", "url": "file:///home/me/local"},
        ),
        row("tqdm", "4.67.1", "pip", "linux-64", f"{FILES}/source/t/tqdm/tqdm-4.67.1.tar.gz", build="a"),
    ]


def metadata(**more: Any) -> dict[str, Any]:
    return {
        "content_hash": {"linux-64": "a" * 64, "osx-arm64": "b" * 64},
        "channels": [
            {"url": "conda-forge", "used_env_vars": []},
            {
                "url": "https://${NAME}:${PASS}@conda.example.org/t/${TOKEN}/site",
                "used_env_vars": ["NAME", "PASS", "TOKEN"],
            },
        ],
        "platforms": ["linux-64", "osx-arm64"],
        "sources": ["environment.yml", "../dev.yml"],
        "custom_metadata": {
            "envforge.format": "1",
            "envforge.name": "analysis",
            "note": "two\nlines",
            "number": "3.10",
        },
    } | more


EXTRA = {
    "time_metadata": {"created_at": "2025-11-03T10:00:00Z"},
    "git_metadata": {"git_user_name": "Jo", "git_sha": "c" * 40},
    "inputs_metadata": {"environment.yml": {"md5": "d" * 32, "sha256": "e" * 64}},
}


def early(path: Path) -> None:
    """As conda-lock 1.0 wrote them: sorted keys, bare channels, virtual packages, no category, empty md5."""
    rows = []
    for one in packages():
        kept = {key: value for key, value in one.items() if key != "categories"}
        kept["hash"] = {"md5": "", "sha256": None} | kept["hash"]
        rows.append(kept | {"optional": False})
    virtual = row(
        "__glibc",
        "2.17",
        "conda",
        "linux-64",
        "file:///tmp/x/linux-64/__glibc-2.17-0.tar.bz2",
        hash={"md5": ""},
    )
    rows.append({key: value for key, value in virtual.items() if key != "categories"} | {"optional": False})
    document = {
        "version": 1,
        "package": rows,
        "metadata": metadata(channels=["conda-forge", "bioconda"], custom_metadata=None),
    }
    path.write_text(
        "# early\n" + yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=True), encoding="utf-8"
    )
    parse_conda_lock_file(path)


def main() -> int:
    plain = Lockfile.model_validate({"package": packages(), "metadata": metadata()})
    everything = Lockfile.model_validate({"package": packages() + others(), "metadata": metadata(**EXTRA)})
    write_conda_lock_file(plain, HERE / "plain.conda-lock.yml", metadata_choices=None)
    write_conda_lock_file(everything, HERE / "everything.conda-lock.yml", metadata_choices=None)
    early(HERE / "early.conda-lock.yml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
