"""Verifying: yes, or every file that is not what it should be, by name."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import Journey, Shell


@pytest.fixture
def prefix(envforge: Shell, journey: Journey, tmp_path: Path) -> Path:
    prefix = tmp_path / "p"
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
    assert answer["entries"] > 1000


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


def test_what_is_no_environment_is_said(envforge: Shell, prefix: Path, tmp_path: Path) -> None:
    envforge("verify", tmp_path / "nowhere", status=None).assert_error(2, "no such directory")
    envforge("verify", tmp_path, status=None).assert_error(2, "no receipt")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"envforge_receipt": 99}', b'{"envforge_receipt": 1}', b"[" * 100_000],
    ids=["empty", "cut", "list", "binary", "newer", "bare", "deep"],
)
def test_a_receipt_that_cannot_be_read_is_refused(envforge: Shell, prefix: Path, content: bytes) -> None:
    spoil(prefix / ".envforge" / "receipt.json", content)
    envforge("verify", prefix, status=None).assert_error(2, "receipt.json")


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
