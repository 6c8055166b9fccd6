"""By whom an environment was changed after it was installed, and what programs leave in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel, wheel_bytes
from tests.conftest import Shell
from tests.node.world import conda, library, mirror, pip, python, run_all

MODULE = b"def main():\n    print('hello')\n"


def thing(version: str, **more: bytes) -> Wheel:
    files = {"thing/__init__.py": MODULE + version.encode().join([b"# ", b"\n"]), "thing/same.py": MODULE}
    names = {f"thing/{name}.py": content for name, content in more.items()}
    return Wheel(
        name="thing",
        version=version,
        files=files | names,
        console_scripts={"thing": "thing:main"},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, channel: DemoChannel) -> Path:
    """A mirror of Python, a library, a wheel; and wheels that it does not have."""
    root = tmp_path_factory.mktemp("made")
    thing1 = pip(thing("1.0", old=MODULE))
    mirror(
        root / "mirror", python(channel), conda(library("lib-a", {"share/a": b"a", "bin/a": b"a"})), thing1
    )
    (root / "wheels").mkdir()
    other = Wheel(name="other", version="0.1", files={"other.py": MODULE}, data={"share/other": b"o"})
    for wheel in (thing("1.0", old=MODULE), thing("2.0", new=MODULE), other):
        (root / "wheels" / f"{wheel.stem}-py3-none-any.whl").write_bytes(wheel_bytes(wheel))
    return root


@pytest.fixture(scope="module")
def generation(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed once; the tests change copies."""
    home = tmp_path_factory.mktemp("home")
    (done,) = run_all(Shell(home, home), [("install", made / "mirror", "--prefix", made / "p")])
    assert done.status == 0, done.err
    return (made / "p").resolve()


@pytest.fixture
def prefix(generation: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(generation, tmp_path / "p", symlinks=True))


def run(*argv: object) -> None:
    subprocess.run([*map(str, argv)], check=True, capture_output=True, env={"PATH": os.environ["PATH"]})


def install(made: Path, prefix: Path, *words: str, tool: str = "pip") -> None:
    which: Sequence[object] = (
        (sys.executable, "-m", "pip", "--python", prefix / "bin/python", "install")
        if tool == "pip"
        else (find_uv_bin(), "pip", "install", "--python", prefix / "bin/python", "--no-cache")
    )
    run(*which, "--no-index", "--no-deps", "--find-links", made / "wheels", *words)


def verify(envforge: Shell, prefix: Path, *words: str) -> tuple[str, Any]:
    """What is said of a prefix that differs, for people and as JSON."""
    text, document = run_all(envforge, [("verify", prefix, *words), ("verify", prefix, *words, "--json")])
    assert text.status == document.status == 1, text
    assert "Traceback" not in text.err
    return text.out, document.json


def by_cause(document: Any) -> dict[str, set[tuple[str, str]]]:
    causes: dict[str, set[tuple[str, str]]] = {}
    for d in document["differences"]:
        causes.setdefault(d["cause"], set()).add(
            (d["kind"], d["path"].partition("site-packages/")[2] or d["path"])
        )
    return causes


def test_what_pip_and_uv_did_is_told_by_deed(envforge: Shell, made: Path, prefix: Path) -> None:
    install(made, prefix, "thing==2.0")
    install(made, prefix, "other", tool="uv")
    (site,) = prefix.glob("lib/python*/site-packages")
    run(prefix / "bin/python", "-c", "import other")
    (site / "mine.py").write_text("x = 1\n")
    text, document = verify(envforge, prefix)
    causes = by_cause(document)
    assert set(causes) == {"", "pip installed thing 2.0 (was 1.0)", "uv installed other 0.1"}
    assert causes[""] == {("added", "mine.py")}
    pips = causes["pip installed thing 2.0 (was 1.0)"]
    assert {
        ("changed", "thing/__init__.py"), ("missing", "thing/old.py"), ("added", "thing/new.py"),
        ("missing", "thing-1.0.dist-info"), ("added", "thing-2.0.dist-info"),
        ("missing", "thing-1.0.dist-info/RECORD"), ("added", "thing-2.0.dist-info/INSTALLER"),
    } <= pips  # fmt: skip
    assert not any(path == "thing/same.py" for _, path in pips)
    uvs = causes["uv installed other 0.1"]
    assert {("added", "other.py"), ("added", "share/other"), ("added", "other-0.1.dist-info")} <= uvs
    assert any(path.startswith("__pycache__/other.") for _, path in uvs)
    owners = {d["path"].rpartition("/")[2]: d["owner"] for d in document["differences"]}
    assert owners["new.py"] == "pip:thing"
    assert owners["other.py"] == "pip:other"
    lines = text.splitlines()
    assert lines[0].startswith("pip installed thing 2.0 (was 1.0): ")
    assert lines[1].startswith("uv installed other 0.1: ")
    assert lines[2] == f"added    {site.resolve().relative_to(prefix.resolve())}/mine.py"
    assert len(lines) == 4
    assert {"cause", "added"} <= set(document["causes"][1])


def test_what_was_edited_after_pip_is_nobodys(envforge: Shell, made: Path, prefix: Path) -> None:
    install(made, prefix, "thing==2.0")
    (site,) = prefix.glob("lib/python*/site-packages")
    (site / "thing/new.py").write_text("evil = 1\n")
    (site / "thing/same.py").unlink()
    (site / "thing/same.py").write_text("evil = 2\n")
    causes = by_cause(verify(envforge, prefix)[1])
    assert {("added", "thing/new.py"), ("changed", "thing/same.py")} <= causes[""]


def test_installed_again_and_removed(envforge: Shell, made: Path, prefix: Path) -> None:
    install(made, prefix, "--force-reinstall", "thing==1.0")
    causes = by_cause(verify(envforge, prefix)[1])
    assert set(causes) == {"pip installed thing 1.0 again"}
    run(sys.executable, "-m", "pip", "--python", prefix / "bin/python", "uninstall", "-y", "thing")
    text, document = verify(envforge, prefix)
    assert set(by_cause(document)) == {"thing 1.0 was removed"}
    assert text.count("\n") == 2


def test_an_edited_record_is_no_installation(envforge: Shell, prefix: Path) -> None:
    (record,) = prefix.glob("lib/python*/site-packages/thing-1.0.dist-info/RECORD")
    content = record.read_bytes()
    record.unlink()
    record.write_bytes(content + b"more,,\n")
    assert [d["cause"] for d in verify(envforge, prefix)[1]["differences"]] == [""]


def test_what_conda_did_is_told_too(envforge: Shell, prefix: Path) -> None:
    import hashlib

    old = next((prefix / "conda-meta").glob("lib-a-*.json"))
    old.unlink()
    (prefix / "bin/a").unlink()
    (prefix / "share/a").unlink()
    (prefix / "share/a").write_bytes(b"a2")
    (prefix / "share/b").write_bytes(b"not what it says")
    paths = [
        {"_path": "share/a", "path_type": "hardlink", "sha256": hashlib.sha256(b"a2").hexdigest()},
        {"_path": "share/b", "path_type": "hardlink", "sha256": "0" * 64},
    ]
    record = {
        "name": "lib-a",
        "version": "2.0",
        "files": ["share/a", "share/b"],
        "paths_data": {"paths": paths},
    }
    (prefix / "conda-meta/lib-a-2.0-0.json").write_text(json.dumps(record))
    with (prefix / "conda-meta/history").open("a") as file:
        file.write("==> today <==\n")
    causes = by_cause(verify(envforge, prefix)[1])
    assert causes["conda installed lib-a 2.0 (was 1.0)"] == {
        ("changed", "share/a"), ("missing", "bin/a"), ("missing", f"conda-meta/{old.name}"),
        ("added", "conda-meta/lib-a-2.0-0.json"),
    }  # fmt: skip
    assert causes[""] == {("added", "share/b")}
    assert {path for _, path in causes["conda wrote its history"]} == {"conda-meta/history"}


HOSTILE = {
    "paths": b'../../../../../../etc/passwd,sha256=AA,1\n/etc/passwd,,\n"unclosed',
    "binary": bytes(range(256)) * 50,
    "nul": b"a\0b,sha256=x\n",
    "long": b"x" * 1_000_000 + b",,\n",
    "hash": b"etc/evil,sha256=%%%%\netc/evil,md5=aa,\netc/evil,,\n,,,\n,\n\n",
    "empty": b"",
}


def test_hostile_records_claim_nothing(envforge: Shell, prefix: Path) -> None:
    (site,) = prefix.glob("lib/python*/site-packages")
    (prefix / "etc").mkdir(exist_ok=True)
    (prefix / "etc/evil").write_text("evil")
    for name, content in HOSTILE.items():
        info = site / f"{name}-1.dist-info"
        info.mkdir()
        (info / "RECORD").write_bytes(f"{name}-1.dist-info/RECORD,,\n".encode() + content)
        (info / "INSTALLER").write_bytes(b"\x1b[2Jpip\n" if name == "paths" else b"p" * 10_000)
    for name in ("pipe", "link", "directory"):
        (site / f"{name}-1.dist-info").mkdir()
    os.mkfifo(site / "pipe-1.dist-info/RECORD")
    (site / "link-1.dist-info/RECORD").symlink_to("/dev/zero")
    (site / "directory-1.dist-info/RECORD").mkdir()
    (site / "\x1b[31m.dist-info").mkdir()
    (site / "\x1b[31m.dist-info/RECORD").write_bytes(b"etc/evil,,\n")
    meta = prefix / "conda-meta"
    for number, text in enumerate(
        ("[" * 100_000, "{", "[]", '{"name": 1, "files": {"a": 1}, "paths_data": []}',
         '{"files": [1, null, "../../../etc/passwd"], "paths_data": {"paths": [1, {"_path": 2}, {}]}}')
    ):  # fmt: skip
        (meta / f"x{number}.json").write_text(text)
    os.mkfifo(meta / "pipe.json")
    text, document = verify(envforge, prefix)
    (evil,) = [d for d in document["differences"] if d["path"] == "etc/evil"]
    assert evil["cause"] == ""
    assert "\x1b" not in text
    assert "an unknown installer installed paths 1: 1 added" in text
    assert "?" not in text
    assert all("passwd" not in d["path"] for d in document["differences"])


def test_what_programs_leave_is_counted(envforge: Shell, made: Path, prefix: Path) -> None:
    (site,) = prefix.glob("lib/python*/site-packages")
    run(prefix / "bin/python", "-O", "-c", "import thing.same")
    cache = site / "thing/__pycache__"
    left = [path.name for path in cache.glob("*.opt-1.pyc")]
    assert len(left) == 2
    (cache / f"{left[0]}.140213").write_bytes(b"half")  # Python was killed
    equal, strict, as_json = run_all(
        envforge, [("verify", prefix), ("verify", prefix, "--strict"), ("verify", prefix, "--json")]
    )
    assert equal.status == 0, equal
    assert int(equal.out.splitlines()[0].split()[0]) == as_json.json["leftovers"] >= 3
    assert "bytecode files that programs left; --strict counts them" in equal.out
    assert as_json.json["equal"] is True
    assert strict.status == 1
    assert f"added    {(cache / left[0]).resolve().relative_to(prefix.resolve())}" in strict.out


def test_no_other_file_is_taken_for_what_programs_leave(envforge: Shell, made: Path, prefix: Path) -> None:
    (site,) = prefix.glob("lib/python*/site-packages")
    run(prefix / "bin/python", "-O", "-c", "import thing.same")
    cache = site / "thing/__pycache__"
    (good,) = cache.glob("same*.opt-1.pyc")
    content = good.read_bytes()
    tag = good.name.split(".")[1]
    expected = {
        f"same.{tag}.opt-2.pyc": content[:4] + b"\1\0\0\0" + content[8:],  # would be believed unseen
        f"same.{tag}.opt-3.pyc": content[:12] + b"\0\0\0\0" + content[16:],  # of another source
        f"same.{tag}.opt-4.pyc": b"short",
        f"nothing.{tag}.pyc": content,
        "same.txt": b"",
        "old.pyc.txt": content,
    }
    for name, data in expected.items():
        (cache / name).write_bytes(data)
    (site / "thing/same.pyc").write_bytes(content)
    (site / "__pycache__/lone").mkdir(parents=True)
    # Bytecode of a source that was changed, and bytecode that is in the receipt:
    (changed,) = cache.glob(f"__init__.{tag}.pyc")
    changed.unlink()
    changed.write_bytes(content)
    shutil.copy(site / "thing/__init__.py", site / "thing/copy.py")
    (site / "thing/__init__.py").unlink()
    (site / "thing/copy.py").rename(site / "thing/__init__.py")
    with (site / "thing/__init__.py").open("ab") as file:
        file.write(b"#\n")
    _, document = verify(envforge, prefix)
    found = {d["path"].rpartition("site-packages/")[2]: d["kind"] for d in document["differences"]}
    assert found == {
        **{f"thing/__pycache__/{name}": "added" for name in expected},
        "thing/same.pyc": "added",
        "__pycache__": "added",
        "__pycache__/lone": "added",
        f"thing/__pycache__/__init__.{tag}.opt-1.pyc": "added",
        f"thing/__pycache__/__init__.{tag}.pyc": "changed",
        "thing/__init__.py": "changed",
    }
