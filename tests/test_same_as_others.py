"""An environment holds what py-rattler, pip and uv would have made, up to a list of named differences.

``docs/explanation/what-differs-from-other-installers.md`` is that list.  Here it is held in both directions:
whatever differs has a name in it, and every name in it is seen to differ.
"""

from __future__ import annotations

import csv
import io
import json
import marshal
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envforge.demo.channel import DemoChannel, greet_core_package, greet_package, libgreet_package
from envforge.demo.index import Wheel
from tests.conftest import Shell
from tests.node.world import HERE, Artifact, conda, mirror, pip, python, snapshot

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "what-differs-from-other-installers.md"
NEEDLESS = {"url", "channel", "link", "extracted_package_dir", "package_tarball_full_path"}

_BARE = """
import asyncio, json, os, sys
from pathlib import Path
from rattler import PackageRecord, RepoDataRecord
from rattler.install import install
prefix, cache, *rows = sys.argv[1:]
records = []
for row in map(json.loads, rows):
    index = Path(row["index"])
    record = PackageRecord.from_index_json(index, sha256=row["sha256"], md5=row["md5"])
    records.append(RepoDataRecord(record, row["filename"], row["url"], row["channel"]))
asyncio.run(install(records, prefix, cache_dir=cache, installed_packages=[], show_progress=False))
os._exit(0)
"""


def conda_part(channel: DemoChannel) -> list[Artifact]:
    """A real Python; prefixes in texts and binaries, links, a noarch package with a command."""
    made = (libgreet_package(HERE), greet_core_package(), greet_package(HERE))
    return [python(channel), *map(conda, made)]


def wheel_part() -> list[Artifact]:
    """All that a wheel may bring, and a namespace that two of them share."""
    everything = Wheel(
        name="Every.Thing",
        version="1.0",
        files={
            "everything/__init__.py": b"def main():\n    print('called')\n",
            "everything/data.bin": bytes(range(256)),
            "everything/template.py": b"def {{ name }}(): pass\n",
            "every_thing-1.0.data/headers/everything.h": b"#define EVERYTHING 1\n",
            "every_thing-1.0.data/platlib/everything_native.txt": b"native\n",
            "every_thing-1.0.data/purelib/everything_pure.py": b"PURE = True\n",
            "space/one.py": b"ONE = 1\n",
        },
        console_scripts={"everything": "everything:main", "every-other": "everything:main"},
        scripts={
            "own-script": b"#!python\nimport everything\neverything.main()\n",
            "own.sh": b"#!/bin/sh\n:\n",
        },
        data={"share/everything/readme.txt": b"read me\n", "etc/everything.conf": b"a = 1\n"},
    )
    other = Wheel(name="other", version="2.0", files={"space/two.py": b"TWO = 2\n"})
    return [pip(everything), pip(other)]


@dataclass(frozen=True)
class Trees:
    """The same packages at the same path: as envforge makes them, and as the others do."""

    ours: Mapping[str, object]
    owners: Mapping[str, str]
    theirs: Mapping[str, Mapping[str, object]]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory, channel: DemoChannel) -> Trees:
    base = tmp_path_factory.mktemp("same")
    artifacts = [*conda_part(channel), *wheel_part()]
    source = mirror(base / "mirror", *artifacts)
    (base / "home").mkdir()
    shell = Shell(base / "home", base)
    shell("install", source, "--prefix", base / "p", "--store", base / "store", umask=0o022)
    generation = (base / "p").resolve()
    ours = snapshot(generation)
    receipt = json.loads((generation / ".envforge/receipt.json").read_bytes())
    owners = {record["path"]: record.get("owner", "") for record in receipt["files"]}
    shutil.rmtree(generation)

    bare(base, source, artifacts, generation, shell)
    plain = base / "plain"
    generation.rename(plain)
    theirs = {}
    wheels = [str(source / artifact.path) for artifact in artifacts if artifact.row.manager == "pip"]
    for name, install in (("pip", with_pip), ("uv", with_uv)):
        shutil.copytree(plain, generation, symlinks=True)
        install(generation, wheels, shell)
        theirs[name] = snapshot(generation)
        shutil.rmtree(generation)
    return Trees(ours, owners, theirs)


def bare(base: Path, source: Path, artifacts: list[Artifact], prefix: Path, shell: Shell) -> None:
    """py-rattler by itself."""
    from envforge.edges.archive import conda_files

    rows = []
    for number, artifact in enumerate(one for one in artifacts if one.row.manager == "conda"):
        index = base / f"index{number}.json"
        path = source / artifact.path
        index.write_bytes(conda_files(path, path.name, ["info/index.json"])["info/index.json"])
        row = {
            "index": str(index),
            "sha256": artifact.row.sha256,
            "md5": artifact.row.md5,
            "filename": path.name,
            "url": path.as_uri(),
            "channel": path.parents[1].as_uri(),
        }
        rows.append(json.dumps(row))
    run([sys.executable, "-c", _BARE, str(prefix), str(base / "cache"), *rows], shell)


def with_pip(prefix: Path, wheels: list[str], shell: Shell) -> None:
    own = (
        "--no-deps",
        "--no-index",
        "--isolated",
        "--disable-pip-version-check",
        "--no-warn-script-location",
    )
    python = str(prefix / "bin/python")
    run([sys.executable, "-m", "pip", "--python", python, "install", *own, *wheels], shell)


def with_uv(prefix: Path, wheels: list[str], shell: Shell) -> None:
    from uv import find_uv_bin

    own = ("--no-deps", "--no-index", "--offline", "--no-config", "--break-system-packages")
    run([str(find_uv_bin()), "pip", "install", "--python", str(prefix / "bin/python"), *own, *wheels], shell)


def run(argv: list[str], shell: Shell) -> None:
    done = subprocess.run(
        argv, env=shell.environment(), cwd=shell.cwd, capture_output=True, text=True, check=False, umask=0o022
    )
    assert done.returncode == 0, done.stderr


# -- the differences, by name ----------------------------------------------------------------------------

Same = Callable[[str, Any, Any], bool]


def is_record_of_installation(path: str, ours: Any, theirs: Any) -> bool:
    return path.startswith(".envforge/") or path == ".envforge"


def is_activation(path: str, ours: Any, theirs: Any) -> bool:
    own = r"bin/activate(\.\w+)?|etc/conda(/env_vars\.d(/envforge\.json)?)?"
    return theirs is None and re.fullmatch(own, path) is not None


def content(entry: Any) -> bytes:
    return entry[1] if isinstance(entry, tuple) else b""


def is_bytecode(path: str, ours: Any, theirs: Any) -> bool:
    """Ours for every source; where there are two, they are of the same code."""
    if path.endswith("/__pycache__"):
        return theirs is None
    if not path.endswith(".pyc"):
        return False
    both = [marshal.loads(content(entry)[16:]) for entry in (ours, theirs) if entry is not None]
    return ours is not None and all(code == both[0] for code in both)


def is_conda_record(path: str, ours: Any, theirs: Any) -> bool:
    if not re.fullmatch(r"conda-meta/[^/]*\.json", path) or ours is None or theirs is None:
        return False
    records = [json.loads(content(entry)) for entry in (ours, theirs)]
    for record in records:
        record["files"] = sorted(name for name in record["files"] if not name.endswith(".pyc"))
        paths = [e for e in record["paths_data"]["paths"] if not e["_path"].endswith(".pyc")]
        record["paths_data"]["paths"] = sorted(paths, key=lambda entry: entry["_path"])
        for key in NEEDLESS:
            record.pop(key, None)
    return bool(records[0] == records[1])


def is_mode(path: str, ours: Any, theirs: Any) -> bool:
    if not isinstance(ours, tuple) or not isinstance(theirs, tuple) or content(ours) != content(theirs):
        return False
    return ours[0] & 0o7777 in (0o755, 0o644) and ours[0] & 0o111 == theirs[0] & 0o111


def is_header(path: str, ours: Any, theirs: Any) -> bool:
    return re.match(r"include/python[\d.]+/(every-thing|Every\.Thing)(/|$)", path) is not None


def is_cache_tag(path: str, ours: Any, theirs: Any) -> bool:
    return path == "CACHEDIR.TAG" and ours is None


def is_installer(path: str, ours: Any, theirs: Any) -> bool:
    return path.endswith(".dist-info/INSTALLER") and content(ours).strip() == b"envforge"


def is_requested(path: str, ours: Any, theirs: Any) -> bool:
    return path.endswith(".dist-info/REQUESTED") and ours is None


def is_direct_url(path: str, ours: Any, theirs: Any) -> bool:
    return path.endswith(".dist-info/direct_url.json") and ours is None


def is_uv_note(path: str, ours: Any, theirs: Any) -> bool:
    return path.endswith((".dist-info/uv_cache.json", "/.lock")) and ours is None


def is_record(path: str, ours: Any, theirs: Any) -> bool:
    """The same lines, but for those about files that differ themselves."""
    if not path.endswith(".dist-info/RECORD") or ours is None or theirs is None:
        return False
    apart = re.compile(
        r"\.dist-info/(INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)$|\.pyc$|/bin/|/include/"
    )
    rows = [csv.reader(io.StringIO(content(entry).decode())) for entry in (ours, theirs)]
    kept = [sorted(row for row in found if not apart.search(row[0])) for found in rows]
    return kept[0] == kept[1] != []


def is_script(path: str, ours: Any, theirs: Any) -> bool:
    """Another text that calls the same function with the same Python."""
    if not path.startswith("bin/") or ours is None or theirs is None or ours[0] != theirs[0]:
        return False
    texts = [content(entry).decode() for entry in (ours, theirs)]
    called = [re.findall(r"^from (\S+) import (\S+)$", text, re.MULTILINE) for text in texts]
    pythons = [set(re.findall(r"[^\s'\"!]*/bin/python[\d.]*", text)) for text in texts]
    return called[0] == called[1] != [] and all(len(found) == 1 for found in pythons)


DIFFERENCES: dict[str, tuple[str, Same]] = {
    ".envforge/": ("py-rattler", is_record_of_installation),
    "activation": ("py-rattler", is_activation),
    "bytecode": ("py-rattler, pip, uv", is_bytecode),
    "conda-meta/*.json": ("py-rattler", is_conda_record),
    "modes": ("py-rattler", is_mode),
    "CACHEDIR.TAG": ("py-rattler", is_cache_tag),
    "INSTALLER": ("pip, uv", is_installer),
    "REQUESTED": ("pip, uv", is_requested),
    "direct_url.json": ("pip, uv", is_direct_url),
    "uv_cache.json": ("uv", is_uv_note),
    "RECORD": ("pip, uv", is_record),
    "commands": ("pip, uv", is_script),
    "headers": ("pip, uv", is_header),
}


LEFT_OUT = ("REQUESTED", "direct_url.json", "uv_cache.json")
"""Files that only the others write, so that no receipt says whose they are."""


def differing(trees: Trees, tool: str) -> dict[str, str]:
    """Every path that differs, with the name of the difference; empty where it has none."""
    ours, theirs = trees.ours, trees.theirs[tool]
    found = {}
    for path in sorted({*ours, *theirs}):
        one, other = ours.get(path), theirs.get(path)
        if one != other:
            names = [name for name, (_, matches) in DIFFERENCES.items() if matches(path, one, other)]
            found[path] = names[0] if names else ""
    return found


def described() -> dict[str, str]:
    """The names and tools in the table of the page."""
    rows = re.findall(r"^\| `?([^`|]+?)`? \| ([^|]+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: tools for name, tools in rows if name not in ("what", "---")}


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_whatever_differs_from_the_other_tools_has_a_name(trees: Trees, tool: str) -> None:
    found = differing(trees, tool)
    unnamed = [path for path, name in found.items() if not name]
    assert not unnamed, unnamed
    assert len(trees.ours) > 800


def test_every_name_is_seen_to_differ_with_the_tools_that_the_page_names(trees: Trees) -> None:
    seen: dict[str, set[str]] = {}
    for tool in ("pip", "uv"):
        for path, name in differing(trees, tool).items():
            of_a_wheel = trees.owners.get(path, "").startswith("pip:") or name in ("headers", *LEFT_OUT)
            seen.setdefault(name, set()).add(tool if of_a_wheel else "py-rattler")
    assert {name: ", ".join(sorted(tools)) for name, tools in seen.items()} == {
        name: ", ".join(sorted(tools.split(", "))) for name, (tools, _) in DIFFERENCES.items()
    }


def test_the_page_lists_exactly_these_differences() -> None:
    assert described() == {name: tools for name, (tools, _) in DIFFERENCES.items()}


def test_what_wheels_bring_is_where_the_others_put_it(trees: Trees) -> None:
    version = "{}.{}".format(*sys.version_info)
    site = f"lib/python{version}/site-packages"
    for path in (
        f"{site}/everything/data.bin",
        f"{site}/everything/template.py",
        f"{site}/everything_native.txt",
        f"{site}/everything_pure.py",
        f"{site}/space/one.py",
        f"{site}/space/two.py",
        "share/everything/readme.txt",
        "etc/everything.conf",
        "bin/own.sh",
        "bin/own-script",
    ):
        assert trees.ours[path] == trees.theirs["pip"][path] == trees.theirs["uv"][path], path
    assert os.path.join(site, "space/__init__.py") not in trees.ours
