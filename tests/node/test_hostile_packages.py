"""Conda packages that lie: each ends in three lines, and leaves nothing outside or at the prefix."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from envforge.demo.packages import Json, Symlink, noarch_python
from tests.conftest import Shell
from tests.node.world import HERE, Artifact, conda, library, mirror, run_all

SITE = "lib/python3.11/site-packages"


def fake_python(version: str = "3.11.1", **index: Json) -> Artifact:
    return conda(library("python", {"bin/python": b"no program"}, version=version, index=index))


def entry(path: object, data: bytes = b"evil", **more: object) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    return {"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(data), **more}


def raw(
    info: Mapping[str, object],
    *members: tuple[str, bytes, str],
    paths: object = None,
) -> Artifact:
    """A ``.tar.bz2`` of any members: name, type and text of the link; all files hold ``evil``."""
    package = library("bad", {"a": b"evil"})
    listed = {"paths": [entry("a")], "paths_version": 1} if paths is None else paths
    index = {**package.index_json(), **info}
    link = index.pop("link", None)
    files = {"info/index.json": index, "info/paths.json": listed, "a": b"evil"}
    if link is not None:
        files["info/link.json"] = {"noarch": link, "package_metadata_version": 1}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, value in files.items():
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"evil"))
    return conda(package, ".tar.bz2", data=bz2.compress(buffer.getvalue(), 1))


def listing(*entries: object) -> dict[str, object]:
    return {"paths": list(entries), "paths_version": 1}


def escapes(outside: str) -> dict[str, list[Artifact]]:
    """Packages that would write somewhere else, or over what is not theirs."""
    through = (tarfile.REGTYPE, "")
    return {
        "up": [conda(library("bad", {"../evil": b"x"}))],
        "up, old archive": [conda(library("bad", {"../evil": b"x"}), ".tar.bz2")],
        "absolute": [conda(library("bad", {f"{outside}/evil": b"x"}))],
        "listed up": [raw({}, paths=listing(entry("../../a")))],
        "hard link": [raw({}, ("h", tarfile.LNKTYPE, "../../../../../../../../etc/hostname"))],
        "through its own link": [raw({}, ("d", tarfile.SYMTYPE, outside), ("d/evil", *through))],
        "through another's link": [
            conda(library("one", {"d": Symlink(target=outside)})),
            conda(library("two", {"d/evil": b"x"})),
        ],
        "through a link that is listed as a file": [
            raw({}, ("d", tarfile.SYMTYPE, outside), paths=listing(entry("d"))),
            conda(library("two", {"d/evil": b"x"})),
        ],
        "through two links that stay inside, each by itself": [
            conda(
                library("one", {"x/y/z": Symlink(target="../.."), "q": Symlink(target="x/y/z/../outside")})
            ),
            conda(library("two", {"q/evil": b"x"})),
        ],
        "through a link to a link": [
            conda(library("one", {"d": Symlink(target="e")})),
            conda(library("two", {"e": Symlink(target=outside)})),
            conda(library("three", {"d/evil": b"x"})),
        ],
        "through a link in site-packages": [
            fake_python(),
            conda(library("one", {f"{SITE}/d": Symlink(target=outside)})),
            conda(noarch_python("two", "1.0", {"d/evil": b"x"})),
        ],
        "site-packages above": [
            fake_python(python_site_packages_path="../../../evil"),
            conda(noarch_python("n", "1.0", {"n.py": b""})),
        ],
        "site-packages elsewhere": [
            fake_python(python_site_packages_path=outside),
            conda(noarch_python("n", "1.0", {"evil": b""})),
        ],
        "site-packages a number": [fake_python(python_site_packages_path=5)],
        "entry point up": [raw({"link": {"type": "python", "entry_points": ["../../evil = m:f"]}})],
        "entry point below": [raw({"link": {"type": "python", "entry_points": ["a/b = m:f"]}})],
        "entry points no list": [raw({"link": {"type": "python", "entry_points": 7}})],
        "noarch a text": [raw({"link": "python"})],
        "name with slashes": [raw({"name": "../../evil"})],
        "version with slashes": [raw({"version": "../../evil"})],
        "build with slashes": [raw({"build": "../../evil"})],
        "another platform": [raw({"subdir": "win-64"})],
        "another record": [conda(library("bad", {"conda-meta/other.json": b"{}"}))],
        "its own record": [conda(library("bad", {"conda-meta/bad-1.0-0.json": b"{}"}))],
        "the place of records": [conda(library("bad", {"conda-meta": Symlink(target=outside)}))],
        "our records": [conda(library("bad", {".envforge/receipt.json": b"{}"}))],
        "our place": [conda(library("bad", {".envforge": Symlink(target=outside)}))],
        "where losers go": [conda(library("bad", {"__clobbers__/x/y": b""}))],
    }


def nonsense() -> dict[str, list[Artifact]]:
    """Packages and rows that mean nothing; some had py-rattler look for another copy on the net."""
    whole = conda(library("bad", {"a": b"x"}))
    return {
        "no path": [raw({}, paths=listing({"path_type": "hardlink"}))],
        "path a number": [raw({}, paths=listing(entry(5)))],
        "path a text": [raw({}, paths=listing("a"))],
        "paths a mapping": [raw({}, paths={"paths": {}, "paths_version": 1})],
        "paths no mapping": [raw({}, paths=[])],
        "paths no JSON": [raw({}, paths=b"\xff")],
        "paths deep": [raw({}, paths=b"[" * 100_000)],
        "an unknown type": [raw({}, paths=listing(entry("a", path_type="weird")))],
        "no hash": [raw({}, paths=listing(entry("a", sha256="zz")))],
        "not there": [raw({}, paths=listing(entry("a"), entry("b")))],
        "listed twice": [raw({}, paths=listing(entry("a"), entry("a")))],
        "no link": [raw({}, paths=listing(entry("a", path_type="softlink")))],
        "no platform": [raw({"subdir": None, "platform": None, "arch": None})],
        "cut": [conda(library("bad", {"a": b"x"}), data=whole.data[:300])],
        "empty": [conda(library("bad", {"a": b"x"}), data=b"")],
        "locked as another": [conda(library("bad", {"a": b"x"}), name="good")],
        "locked as another version": [conda(library("bad", {"a": b"x"}), version="7")],
        "python 3": [fake_python("3")],
        "python 3.x": [fake_python("3.x")],
        "noarch without python": [conda(noarch_python("n", "1.0", {"n.py": b""}))],
        "room for six bytes": [
            raw({}, paths=listing(entry("a", prefix_placeholder="/opt/x", file_mode="binary")))
        ],
    }


@pytest.mark.parametrize("kind", ["escapes", "nonsense"])
def test_a_hostile_package_is_refused_and_nothing_is_left(envforge: Shell, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    cases = escapes(str(outside)) if kind == "escapes" else nonsense()
    places = [tmp_path / "cases" / str(number) for number in range(len(cases))]
    for place, artifacts in zip(places, cases.values(), strict=True):
        mirror(place / "mirror", *artifacts)
    calls = [("install", place / "mirror", "--prefix", place / "p") for place in places]
    for name, place, ended in zip(cases, places, run_all(envforge, calls), strict=True):
        assert ended.status == 2, (name, ended)
        ended.assert_error(2)
        assert "mistake" not in ended.err, name
        assert {p.name for p in place.iterdir()} <= {"mirror", "p.generations"}, name
        left = {p.name for p in (place / "p.generations").glob("*")} | {
            p.name for p in (place / "p.generations").glob(".*")
        }
        assert left <= {"store", "log.txt"}, name
        # What is refused by its name or its lock alone has made no room for itself.
        assert not list((place / "p.generations" / "store").glob("tmp/*")), name
    assert not list(outside.iterdir())
    assert {p.name for p in tmp_path.iterdir()} == {"cases", "outside", "home", "work"}
    assert not list(envforge.home.iterdir())


def test_members_that_nobody_lists_are_not_installed(envforge: Shell, tmp_path: Path) -> None:
    odd = raw(
        {},
        ("../evil", tarfile.REGTYPE, ""),
        (f"{tmp_path}/evil", tarfile.REGTYPE, ""),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("device", tarfile.CHRTYPE, ""),
    )
    place = mirror(tmp_path / "mirror", odd)
    (done,) = run_all(envforge, [("install", place, "--prefix", tmp_path / "p")])
    assert done.status == 0, done.err
    # An absolute name loses its slash, and lies in the store's tree, where nobody reaches it.
    assert all("trees" in path.parts for path in tmp_path.rglob("evil"))
    assert {p.name for p in (tmp_path / "p").iterdir()} == {"a", "conda-meta", "etc", ".envforge"}


def test_a_package_too_long_for_the_prefix_says_by_how_much(envforge: Shell, tmp_path: Path) -> None:
    short = library("short", {"bin/tool": b"/opt/short\0rest"}, placeholder="/opt/short")
    place = mirror(tmp_path / "mirror", conda(short))
    (done,) = run_all(envforge, [("install", place, "--prefix", tmp_path / "p")])
    length = len(str(tmp_path / "p.generations" / "123456789012"))
    done.assert_error(2, "too long for short", f"{length - len('/opt/short')} bytes shorter")


def test_a_hostile_mirror_is_refused(envforge: Shell, tmp_path: Path) -> None:
    good = mirror(tmp_path / "good", conda(library("a", {"x": b"x"})))
    lock = json.loads((good / "locks" / "made.json").read_text())
    manifest = json.loads((good / "manifest.json").read_text())
    row = lock["packages"][0]

    def locked(**change: object) -> str:
        return json.dumps({**lock, "packages": [{**row, **change}]})

    base = f"https://conda.example.org/made/{HERE}"
    locks: dict[str, str | bytes] = {
        "file name with a slash": locked(url=f"{base}/..%2F..%2Fa-1.0-0.conda"),
        "file name dots": locked(url=f"{base}/..conda/.."),
        "file name with a newline": locked(url=f"{base}/a%0A-1.0-0.conda"),
        "no archive": locked(url=f"{base}/a-1.0-0.sh"),
        "name with a slash": locked(name="../a"),
        "no mapping": "[]",
        "deep": "[" * 200_000,
        "no text": b"\xff\xfe",
        "numbers": locked(version=5, build=[]),
        "a hash of another length": locked(hash={"md5": row["hash"]["md5"], "sha256": "ab"}),
    }
    manifests: dict[str, str | bytes] = {
        "path outside": json.dumps({**manifest, "files": [{**manifest["files"][0], "path": "../x"}]}),
        "lock outside": json.dumps({**manifest, "locks": [".."]}),
        "lock with a slash": json.dumps({**manifest, "locks": ["../../etc/passwd"]}),
        "deep manifest": '{"files":' * 100_000,
        "no locks": json.dumps({**manifest, "locks": []}),
    }
    calls = []
    for number, (name, text) in enumerate([*locks.items(), *manifests.items()]):
        place = tmp_path / str(number)
        artifact = conda(library("a", {"x": b"x"}))
        mirror(place, artifact)
        file = place / "locks" / "made.json" if name in locks else place / "manifest.json"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        calls.append(("install", place, "--prefix", tmp_path / "p"))
    for call, done in zip(calls, run_all(envforge, calls), strict=True):
        assert done.status == 2, (call, done)
        done.assert_error(2)
        assert "mistake" not in done.err
    assert not (tmp_path / "p.generations").exists()


def test_documents_of_another_kind_or_size_are_not_read(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", conda(library("a", {"x": b"x"})))
    file = place / "locks" / "made.json"
    text = file.read_text()
    calls = [("install", place, "--prefix", tmp_path / "p")]
    file.unlink()
    os.mkfifo(file)  # reading it would never end
    run_all(envforge, calls)[0].assert_error(2, "no file")
    file.unlink()
    with file.open("w") as large:
        large.truncate(600_000_000)
    run_all(envforge, calls)[0].assert_error(2, "too large")
    file.write_text(text)
    assert run_all(envforge, calls)[0].status == 0
    receipt = tmp_path / "p" / ".envforge" / "receipt.json"
    receipt.unlink()
    os.mkfifo(receipt)
    run_all(envforge, [("verify", tmp_path / "p")])[0].assert_error(2, "no file")
