"""Verifying: yes, or every file that is not what it should be, by name."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Journey, Shell, Warmed
from tests.node.world import run_all


@pytest.fixture
def prefix(envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed) -> Path:
    prefix = warmed(tmp_path / "p")
    envforge("install", journey.mirror, "--prefix", prefix)
    return prefix


def spoil(path: Path, content: bytes) -> None:
    """Change a file as an editor does: into a file of its own, so that no store is touched."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(mode)


def test_equal_is_said_and_counted(envforge: Shell, prefix: Path, journey: Journey) -> None:
    done = envforge("verify", prefix)
    assert "is equal to its receipt" in done.out
    answer = envforge("verify", prefix, "--against", journey.mirror, "--json").json
    assert answer["equal"] is True
    assert answer["against"] == answer["lock"]
    assert answer["entries"] > 500


def test_every_changed_missing_and_added_file_is_named(envforge: Shell, prefix: Path) -> None:
    site = next((prefix / "lib").glob("python*")) / "site-packages"
    spoil(site / "greet" / "__init__.py", b"import os\n")
    (prefix / "etc" / "greet.conf").unlink()
    (site / "new.pth").write_text("import os")
    (prefix / "bin" / "greet").chmod(0o777)
    (prefix / "bin" / "python").unlink()
    (prefix / "bin" / "python").symlink_to("/usr/bin/env")
    (prefix / "empty").mkdir()
    os.mkfifo(prefix / "door")
    done = envforge("verify", prefix, "--json", status=1)
    kinds = {d["path"]: d["kind"] for d in done.json["differences"]}
    relative = site.resolve().relative_to(prefix.resolve()).as_posix()
    assert kinds == {
        f"{relative}/greet/__init__.py": "changed",
        "etc/greet.conf": "missing",
        f"{relative}/new.pth": "added",
        "bin/greet": "changed",
        "bin/python": "changed",
        "empty": "added",
        "door": "added",
    }
    text = envforge("verify", prefix, status=1).out
    assert "3 changed, 1 missing, 3 added" in text
    assert "mode 777 instead of 755" in text
    assert "points to '/usr/bin/env'" in text


def test_a_receipt_that_was_changed_with_the_file_is_found_with_against(
    envforge: Shell, prefix: Path, journey: Journey
) -> None:
    import hashlib

    victim = next((prefix / "lib").glob("python*/site-packages/greet/__init__.py"))
    evil = b"print('evil')\n"
    spoil(victim, evil)
    file = prefix / ".envforge" / "receipt.json"
    name = victim.resolve().relative_to(prefix.resolve()).as_posix()
    document = json.loads(file.read_text())
    for record in document["files"]:
        if record["path"] == name:
            record["sha256"] = hashlib.sha256(evil).hexdigest()
            record["size"] = len(evil)
    spoil(file, json.dumps(document).encode())
    assert envforge("verify", prefix).status == 0  # the receipt agrees with the disk: it was forged
    done = envforge("verify", prefix, "--against", journey.mirror, "--json", status=1)
    assert [d["path"] for d in done.json["differences"]] == [name]


def test_another_lock_is_not_proof(envforge: Shell, prefix: Path, journey: Journey, tmp_path: Path) -> None:
    other = tmp_path / "other-lock.yml"
    text = journey.lockfile.read_text()
    other.write_text(re.sub("__glibc=[0-9.]+", "__glibc=2.17", text))
    done = envforge("verify", prefix, "--against", other, status=None)
    done.assert_error(2, "another lock")


def test_what_is_no_environment_is_said(envforge: Shell, tmp_path: Path) -> None:
    envforge("verify", tmp_path / "nowhere", status=None).assert_error(2, "no such directory")
    envforge("verify", tmp_path, status=None).assert_error(2, "no receipt")


def test_a_receipt_that_cannot_be_read_is_refused(envforge: Shell, prefix: Path) -> None:
    """Empty, cut, a list, no text, newer, bare, deep."""
    for content in (
        b"", b"{", b"[]", b"\xff\xfe", b'{"envforge_receipt": 99}', b'{"envforge_receipt": 1}', b"[" * 100_000
    ):  # fmt: skip
        spoil(prefix / ".envforge" / "receipt.json", content)
        (ended,) = run_all(envforge, [("verify", prefix)])
        ended.assert_error(2, "receipt.json")


def test_a_receipt_cannot_name_a_path_outside(envforge: Shell, prefix: Path) -> None:
    file = prefix / ".envforge" / "receipt.json"
    document = json.loads(file.read_text())
    document["files"][0]["path"] = "../../etc/passwd"
    spoil(file, json.dumps(document).encode())
    envforge("verify", prefix, status=None).assert_error(2, "etc/passwd")


def test_a_generation_is_verified_by_its_own_path(envforge: Shell, prefix: Path) -> None:
    envforge("verify", prefix.resolve())


def test_a_mirror_is_verified_against_its_manifest(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(journey.mirror, mirror)
    envforge("verify", mirror)
    artifact = next(mirror.glob("conda/**/greet-1*.conda"))
    artifact.write_bytes(b"short")
    (mirror / "conda" / "stray").write_text("x")
    done = envforge("verify", mirror, "--json", status=1)
    assert [d["kind"] for d in done.json["differences"]] == ["changed"]
    assert artifact.name in done.out
    assert "conda/stray" in done.err
    strict = envforge("verify", mirror, "--json", "--strict", status=1).json["differences"]
    assert {d["kind"] for d in strict} == {"changed", "added"}


def test_bits_flipped_behind_the_same_size_and_time_are_found(envforge: Shell, prefix: Path) -> None:
    victim = next((prefix / "lib").glob("libgreet.so.1*"))
    if victim.is_symlink():
        victim = victim.resolve()
    before = victim.stat()
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    spoil(victim, bytes(content))
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = envforge("verify", prefix, "--json", status=1)
    assert [d["detail"] for d in done.json["differences"]] == ["content"]


def test_the_receipt_can_be_expected(envforge: Shell, prefix: Path, journey: Journey, tmp_path: Path) -> None:
    digest = envforge("verify", prefix, "--json").json["receipt"]
    envforge("verify", prefix, "--expect", digest)
    envforge("verify", prefix, "--expect", f"sha256:{'0' * 64}", status=None).assert_error(1, digest[7:])


def test_a_copy_elsewhere_is_said_to_be_one(envforge: Shell, prefix: Path, tmp_path: Path) -> None:
    shutil.move(prefix.resolve(), tmp_path / "copy")
    assert "linked for" in envforge("verify", tmp_path / "copy").err


def test_a_prefix_is_verified_by_any_of_its_names(envforge: Shell, prefix: Path, tmp_path: Path) -> None:
    generation = prefix.resolve()
    for name in (f"{prefix}/", f"{generation}/", "../p", "../work/../p/."):
        assert "is equal" in envforge("verify", name).out, name
    other = tmp_path / "other"
    other.symlink_to(prefix)
    assert envforge("verify", other, "--json").json["generation"] == str(generation)
    wrong = envforge("verify", prefix / "lib", status=None)
    wrong.assert_error(2, "no receipt", f"name the whole environment: {generation}")
    wrong = envforge("verify", generation.parent, status=None)
    wrong.assert_error(2, "no receipt", f"name the prefix: {prefix}")
    shutil.rmtree(generation)
    envforge("verify", prefix, status=None).assert_error(2, "points to a generation that is not there")


def test_many_differences_are_not_a_thousand_lines(envforge: Shell, prefix: Path) -> None:
    for number in range(60):
        (prefix / f"new{number:02}").touch()
    (prefix / "odd \x1b[2J \udcff").touch()
    text = envforge("verify", prefix, status=1).out
    lines = text.splitlines()
    assert len(lines) == 42
    assert lines[40] == "and 21 more; --verbose names them all"
    assert lines[41].endswith("is not equal to its receipt: 61 added")
    verbose = envforge("verify", prefix, "--verbose", status=1).out
    assert verbose.count("\n") == 62
    assert "added    odd \\x1b[2J \\udcff\n" in verbose
    names = [d["path"] for d in envforge("verify", prefix, "--json", status=1).json["differences"]]
    assert len(names) == 61
    assert "odd \x1b[2J \udcff" in names


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads everything")
def test_what_cannot_be_read_is_no_answer(envforge: Shell, prefix: Path) -> None:
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    file, lib, receipt = prefix / "etc/greet.conf", prefix / "lib", prefix / ".envforge/receipt.json"
    document = json.loads(receipt.read_text())
    for record in document["files"]:  # as if they had been installed with these modes
        if record["path"] in ("etc/greet.conf", "lib"):
            record["mode"] = "0000"
    spoil(receipt, json.dumps(document).encode())
    file.chmod(0)
    lib.chmod(0)
    try:
        done = envforge("verify", prefix, before=powerless, status=None)
        done.assert_error(3, "there is no answer", "cannot be read (Permission denied)", "etc/greet.conf")
        (prefix / "new").touch()  # whatever the rest is, it is not equal
        done = envforge("verify", prefix, "--json", before=powerless, status=1)
        kinds = {d["path"]: d["kind"] for d in done.json["differences"]}
        assert kinds["new"] == "added"
        assert kinds["etc/greet.conf"] == kinds["lib"] == "unread"
        assert set(kinds.values()) == {"added", "unread"}
        file.chmod(0o200)  # a mode is seen without reading
        done = envforge("verify", prefix, "--json", before=powerless, status=1)
        details = {d["path"]: d["detail"] for d in done.json["differences"]}
        assert details["etc/greet.conf"] == "mode 200 instead of 0"
    finally:
        lib.chmod(0o755)


def test_a_receipt_that_names_other_packages_is_found_with_against(
    envforge: Shell, prefix: Path, journey: Journey
) -> None:
    file = prefix / ".envforge" / "receipt.json"
    document = json.loads(file.read_text())
    gone = document["packages"].pop()
    spoil(file, json.dumps(document).encode())
    envforge("verify", prefix)
    done = envforge("verify", prefix, "--against", journey.mirror, "--json", status=1)
    (difference,) = done.json["differences"]
    assert difference["path"] == ".envforge/receipt.json"
    assert difference["detail"].endswith(f"packages {gone['name']}")
    for key, value in (("groups", ["nothing"]), ("platform", "linux-1")):
        spoil(file, json.dumps({**document, key: value}).encode())
        done = envforge("verify", prefix, "--against", journey.mirror, status=None)
        done.assert_error(2, value if isinstance(value, str) else value[0])
