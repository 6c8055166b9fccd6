from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from envforge import __version__
from envforge.formats import conda_lock
from envforge.model.lockfile import LockedChannel, Lockfile

from .support import FORGE, A, conda_row, golden, lockfile, refused


def read(text: str) -> Lockfile:
    return conda_lock.read(text, source="conda-lock.yml")


def body(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def changed(change: Any, name: str = "plain") -> str:
    """A golden file after ``change`` was done to its mapping."""
    document = yaml.safe_load(golden(name))
    change(document)
    return json.dumps(document)


def error(change: Any) -> tuple[str, str | None, str | None]:
    return refused(lambda: read(changed(change)))


def test_what_conda_lock_wrote_is_written_byte_for_byte() -> None:
    text = golden("plain")
    assert body(conda_lock.write(read(text))) == body(text)


@pytest.mark.parametrize("name", ["plain", "everything", "early"])
def test_writing_is_canonical(name: str) -> None:
    once = conda_lock.write(read(golden(name)))
    assert conda_lock.write(read(once)) == once
    document = yaml.safe_load(golden(name))
    for seed in range(3):
        random.Random(seed).shuffle(document["package"])
        for row in document["package"]:
            row["dependencies"] = dict(reversed(row["dependencies"].items()))
        assert conda_lock.write(read(yaml.safe_dump(document, sort_keys=bool(seed)))) == once


def test_the_header_says_what_the_file_is() -> None:
    text = conda_lock.write(lockfile())
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert text.startswith("# This is a lockfile")
    assert len(header) < 12
    for word in ("envforge install", "conda-lock install", "micromamba create"):
        assert any(word in line for line in header)


def test_long_and_foreign_text_stays_on_one_line() -> None:
    note = "word " * 400 + "é"
    text = conda_lock.write(replace(lockfile(), custom={"note": note}))
    assert f"    note: {note}\n" in text
    assert read(text).custom == {"note": note}


def test_rows_that_only_conda_lock_makes() -> None:
    rows = {row.name: row for row in read(golden("everything")).packages}
    assert rows["tools"].sha256 is None  # it is a commit
    assert rows["local"].sha256 is rows["local"].md5 is None
    assert rows["tqdm"].build == "a"
    assert "/source/t/tqdm/" in rows["tqdm"].url
    again = yaml.safe_load(conda_lock.write(read(golden("everything"))))
    hashes = {row["name"]: row["hash"] for row in again["package"]}
    assert hashes["tools"] == {"sha256": "3f2a9c" + "0" * 34}
    assert hashes["local"] == {}


def test_the_oldest_files() -> None:
    old = read(golden("early"))
    assert old.channels == (LockedChannel(url="conda-forge"), LockedChannel(url="bioconda"))
    assert {(row.category, row.optional) for row in old.packages} == {("main", False)}
    assert all(not row.name.startswith("__") for row in old.packages)
    assert old.custom == {}


def test_a_package_in_two_categories() -> None:
    rows = [row for row in read(golden("plain")).packages if row.name == "pytest"]
    assert [(r.platform, r.category, r.optional) for r in rows] == [
        ("linux-64", "dev", True),
        ("linux-64", "test", True),
        ("osx-arm64", "dev", True),
        ("osx-arm64", "test", True),
    ]


def test_optional_follows_the_category() -> None:
    def without(document: Any) -> None:
        for row in document["package"]:
            del row["optional"]

    assert read(changed(without)) == read(golden("plain"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://me:secret@h.example/forge", "https://h.example/forge"),
        ("https://secret@h.example/forge", "https://h.example/forge"),
        ("https://h.example/t/secret/forge", "https://h.example/forge"),
        ("https://h.example/api/t/<TOKEN>/forge", "https://h.example/api/forge"),
        ("https://${USER}:$PASS@h.example/t/${T}/forge", "https://${USER}:$PASS@h.example/t/${T}/forge"),
        ("https://${USER}:secret@h.example/forge", "https://h.example/forge"),
        ("file:///srv/t/forge", "file:///srv/t/forge"),
    ],
)
def test_secrets_are_dropped_and_placeholders_stay(given: str, kept: str) -> None:
    def change(document: Any) -> None:
        document["metadata"]["channels"][0]["url"] = given
        document["package"][0].update(name="a", version="1", url=f"{given}/linux-64/a-1-0.conda")

    found = read(changed(change))
    assert found.channels[0].url == kept
    assert f"{kept}/linux-64/a-1-0.conda" in {row.url for row in found.packages}
    assert "secret" not in conda_lock.write(found)


def test_a_login_of_ssh_is_no_secret() -> None:
    def change(document: Any) -> None:
        row = next(row for row in document["package"] if row["manager"] == "pip")
        row.update(url=f"git+ssh://git:pw@h.example/x@{'1' * 40}", hash={"sha256": "1" * 40})

    assert f"git+ssh://git@h.example/x@{'1' * 40}" in {row.url for row in read(changed(change)).packages}


def put(*path: Any) -> Any:
    """A change that sets the value at a path."""
    *outer, key, value = path

    def change(document: Any) -> None:
        for part in outer:
            document = document[part]
        document[key] = value

    return change


REMEDY = "lock again: envforge lock   # or take the file from version control as it was"
VERSIONS = f"and envforge {__version__} reads"
PLACED = "conda-lock.yml:1: "


@pytest.mark.parametrize(
    ("change", "what", "at", "do"),
    [
        (
            put("version", 2),
            f"the lockfile has version 2, which pixi wrote; envforge {__version__} reads version 1",
            "version",
            "lock the specification: envforge lock pixi.toml",
        ),
        (
            put("version", 4),
            f"the lockfile has version 4, {VERSIONS} version 1",
            "version",
            "use a newer envforge",
        ),
        (put("version", 0), f"the lockfile has version 0, {VERSIONS} version 1", "version", REMEDY),
        (put("version", "1"), "the text '1' where the version number is needed", "version", REMEDY),
        (put("version", True), "true where the version number is needed", "version", REMEDY),
        (put("version", 1.0), "the number 1.0 where the version number is needed", "version", REMEDY),
        (
            put("environments", {}),
            "this is a lockfile of pixi",
            "",
            "import it first: envforge import pixi.lock",
        ),
        (lambda d: d.pop("version"), "the lockfile has no version", "", REMEDY),
        (
            lambda d: (d.pop("version"), d.update(dependencies=[])),
            "this is a specification and not a lockfile",
            "",
            "lock it first: envforge lock environment.yml",
        ),
        (put("packages", []), "unknown key 'packages'", "packages", "did you mean package?"),
        (put("package", 3, "colour", 1), "unknown key 'colour'", "package[3].colour", None),
        (put("package", 3, "hash", "sha1", "x"), "unknown key 'sha1'", "package[3].hash.sha1", None),
        (put("metadata", "when", "x"), "unknown key 'when'", "metadata.when", None),
        (lambda d: d.pop("metadata"), "'metadata' is missing", "", REMEDY),
        (lambda d: d["package"][2].pop("url"), "'url' is missing", "package[2]", REMEDY),
        (lambda d: d["package"][2].pop("hash"), "'hash' is missing", "package[2]", REMEDY),
        (put("package", {}), "a mapping where a list is needed", "package", REMEDY),
        (put("package", 1, None), "nothing where a mapping is needed", "package[1]", REMEDY),
        (
            put("package", 1, "version", 3.10),
            "the number 3.1 where a version is needed",
            "package[1].version",
            REMEDY,
        ),
        (
            put("package", 1, "version", "../x"),
            "the text '../x' where a version is needed",
            "package[1].version",
            REMEDY,
        ),
        (
            put("package", 1, "name", "a b"),
            "the text 'a b' where the name of a package is needed",
            "package[1].name",
            REMEDY,
        ),
        (
            put("package", 1, "manager", "npm"),
            "manager 'npm' is neither conda nor pip",
            "package[1].manager",
            REMEDY,
        ),
        (
            put("package", 1, "platform", "../etc"),
            "the text '../etc' where a platform is needed",
            "package[1].platform",
            REMEDY,
        ),
        (
            put("package", 1, "optional", "no"),
            "the text 'no' where true or false is needed",
            "package[1].optional",
            REMEDY,
        ),
        (
            put("package", 1, "category", ["main"]),
            "a list where the name of a category is needed",
            "package[1].category",
            REMEDY,
        ),
        (
            put("package", 1, "dependencies", "a"),
            "the text 'a' where a mapping is needed",
            "package[1].dependencies",
            REMEDY,
        ),
        (
            put("package", 1, "dependencies", {"a": None}),
            "nothing where a text of one line is needed",
            "package[1].dependencies.a",
            REMEDY,
        ),
        (
            put("package", 1, "dependencies", {"a b/c": 1}),
            "the number 1 where a text of one line is needed",
            "package[1].dependencies.'a b/c'",
            REMEDY,
        ),
        (
            put("package", 3, "hash", "sha256", "zz"),
            "the text 'zz' where a hash in hex is needed",
            "package[3].hash.sha256",
            REMEDY,
        ),
        (
            put("package", 3, "hash", "sha256", "a" * 40),
            f"'{'a' * 40}' is not a sha256 in lower-case hex",
            "package[3].hash.sha256",
            REMEDY,
        ),
        (
            put("package", 0, "hash", {"sha256": A}),
            "the conda package libzlib has no md5",
            "package[0].hash",
            REMEDY,
        ),
        (
            put("package", 0, "url", "https://[::1/linux-64/a.conda"),
            "'https://[::1/linux-64/a.conda' is no URL: Invalid IPv6 URL",
            "package[0].url",
            REMEDY,
        ),
        (
            put("package", 0, "url", "x:a.conda"),
            "'x:a.conda' names no channel and subdir",
            "package[0].url",
            REMEDY,
        ),
        (
            put("package", 0, "url", "https://me:pw@h/a b.conda"),
            "'https://h/a b.conda' is no URL",
            "package[0].url",
            REMEDY,
        ),
        (
            put("package", 0, "url", "https://h/c/linux-64/%2e%2e%2fx.conda"),
            "the URL ends in no usable file name: '../x.conda'",
            "package[0].url",
            REMEDY,
        ),
        (
            put("package", 0, "url", "https://h/c/win-64/a.conda"),
            "the URL is of subdir 'win-64', the row of platform linux-64",
            "package[0].url",
            REMEDY,
        ),
        (
            put("package", 0, "url", "https://h/c/linux-64/a.zip"),
            "'a.zip' is not a conda archive",
            "package[0].url",
            REMEDY,
        ),
        (put("package", 0, "source", {"type": "url"}), "'url' is missing", "package[0].source", REMEDY),
        (
            lambda d: d["package"].append(d["package"][0] | {"dependencies": {"a": "*"}}),
            "libzlib is locked twice for linux-64: 1.3.1, in two ways; the other is package[0]",
            "package[12]",
            REMEDY,
        ),
        (
            put("package", 0, "version", "1.3"),
            "the row is of libzlib 1.3, and its URL of libzlib-1.3.1-hb9d3cd8_2.conda",
            "package[0].url",
            REMEDY,
        ),
        (
            put("metadata", "platforms", ["a b"]),
            "the text 'a b' where a platform is needed",
            "metadata.platforms[0]",
            REMEDY,
        ),
        (
            put("metadata", "channels", 0, 3),
            "the number 3 where a mapping is needed",
            "metadata.channels[0]",
            REMEDY,
        ),
        (
            put("metadata", "sources", [""]),
            "the text '' where a text is needed",
            "metadata.sources[0]",
            REMEDY,
        ),
        (
            put("metadata", "custom_metadata", {"a": 1}),
            "the number 1 where a text is needed",
            "metadata.custom_metadata.a",
            REMEDY,
        ),
        (put("metadata", "git_metadata", {"x": 1}), "unknown key 'x'", "metadata.git_metadata.x", None),
        (
            put("metadata", "inputs_metadata", {"f": {"md5": 1}}),
            "the number 1 where a text is needed",
            "metadata.inputs_metadata.f.md5",
            REMEDY,
        ),
        (
            put("metadata", "custom_metadata", {"envforge.format": "3"}),
            f"envforge's part of the lockfile has format 3, {VERSIONS} up to 2",
            "metadata.custom_metadata.envforge.format",
            "use a newer envforge",
        ),
        (
            put("metadata", "custom_metadata", {"envforge.format": "4", "envforge.needs": "1.4"}),
            f"envforge's part of the lockfile has format 4, {VERSIONS} up to 2",
            "metadata.custom_metadata.envforge.format",
            "use envforge 1.4 or newer",
        ),
        (
            put("metadata", "custom_metadata", {"envforge.format": "new"}),
            "the text 'new' where a number is needed",
            "metadata.custom_metadata.envforge.format",
            REMEDY,
        ),
    ],
)
def test_what_is_refused(change: Any, what: str, at: str, do: str | None) -> None:
    found_what, found_at, found_do = error(change)
    assert (found_what, found_at) == (what, f"{PLACED}{at}" if at else "conda-lock.yml")
    assert found_do == do if do else found_do


@pytest.mark.parametrize(
    ("text", "what", "at"),
    [
        ("", "the file is empty", "conda-lock.yml"),
        ("[]", "a list where a lockfile is needed", "conda-lock.yml"),
        ("version: 1\nversion: 1\n", "the key 'version' is there twice", "conda-lock.yml:2"),
        ("version: 1\npackage: &a\n- *a\n", "anchors and aliases are not supported", "conda-lock.yml:2"),
        (
            "version: 1\npackage: [\n",
            "not valid YAML: did not find expected node content",
            "conda-lock.yml:3",
        ),
        (
            "version: !!python/name:os.system x\n",
            "the tag !!python/name:os.system is not supported",
            "conda-lock.yml:1",
        ),
    ],
)
def test_what_is_no_lockfile_at_all(text: str, what: str, at: str) -> None:
    assert refused(lambda: read(text))[:2] == (what, at)


def test_two_thousand_rows_are_quick() -> None:
    rows = (
        conda_row(f"package-{i}", dependencies={f"d{j}": f">={j},<9" for j in range(8)}) for i in range(2000)
    )
    lock = lockfile(*rows)
    start = time.process_time()
    text = conda_lock.write(lock)
    assert read(text) == lock
    assert time.process_time() - start < 5  # measured: 0.4 s and 0.6 s; the rest is for slow machines


def conda_lock_program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "conda_lock", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(cwd)},
    )


def test_conda_lock_reads_and_renders_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("conda_lock")
    lock = read(golden("plain"))
    (tmp_path / "conda-lock.yml").write_text(conda_lock.write(lock), encoding="utf-8")
    done = conda_lock_program(
        "render", "--kind", "explicit", "-p", "linux-64", "--dev-dependencies", "conda-lock.yml", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    rendered = (tmp_path / "conda-linux-64.lock").read_text()
    for row in lock.rows("linux-64", ("main", "dev")):
        line = f"{row.url}#{row.md5}" if row.manager == "conda" else f"{row.url}#sha256={row.sha256}"
        assert line in rendered


def test_conda_lock_parses_what_is_written_and_writes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("conda_lock")
    program = """
import pathlib, sys
from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file
for name in sys.argv[1:]:
    write_conda_lock_file(parse_conda_lock_file(pathlib.Path(name)), pathlib.Path(f"{name}.again"), None)
"""
    paths = [tmp_path / name for name in ("plain", "everything", "early")]
    for path in paths:
        path.write_text(conda_lock.write(read(golden(path.name))), encoding="utf-8")
    subprocess.run([sys.executable, "-c", program, *paths], check=True, capture_output=True)
    for path in paths:
        again = path.with_name(f"{path.name}.again")
        assert body(again.read_text(encoding="utf-8")) == body(path.read_text(encoding="utf-8"))


def rattler_counts(path: Path) -> int:
    program = (
        "import os, sys; from rattler import LockFile;"
        "e = LockFile.from_path(sys.argv[1]).default_environment();"
        "print(sum(len(e.packages(p)) for p in e.platforms()), flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_rattler_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    lock = read(golden("plain"))
    numbers = ("7" * 28 + "1e52", "1" * 32, "0" * 32, "1" * 31 + "e")
    like_numbers = (
        conda_row(f"n{i}", md5=md5, version="1e5", url=f"{FORGE}/linux-64/n{i}-1e5-h1_0.conda")
        for i, md5 in enumerate(numbers)
    )
    whole = replace(lock, packages=(*lock.packages, *like_numbers))
    path.write_text(conda_lock.write(whole), encoding="utf-8")
    assert read(path.read_text(encoding="utf-8")) == whole
    artifacts = {(row.platform, row.url) for row in whole.packages}  # it knows no categories
    assert rattler_counts(path) == len(artifacts)
