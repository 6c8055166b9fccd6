"""Wheels that lie, and wheels that are merely at odds with each other or with conda packages."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel, wheel_bytes
from envforge.demo.packages import Symlink, noarch_python
from tests.conftest import Shell
from tests.node.world import Artifact, conda, library, mirror, pip, python, run_all

INFO = "w-1.0.dist-info"


def with_members(more: Mapping[str, bytes], *, without: tuple[str, ...] = (), record: str = "") -> Artifact:
    """``w 1.0`` with further members, or others; its RECORD names all of them, and ``record``."""
    wheel = Wheel(name="w", version="1.0", files={"w_mod.py": b"X = 'w'\n"})
    with zipfile.ZipFile(io.BytesIO(wheel_bytes(wheel))) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    del members[f"{INFO}/RECORD"]
    members = {name: data for name, data in {**members, **more}.items() if name not in without}
    rows = io.StringIO()
    for name, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        csv.writer(rows, lineterminator="\n").writerow([name, f"sha256={digest}", len(data)])
    members[f"{INFO}/RECORD"] = f"{rows.getvalue()}{record}{INFO}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return pip(wheel, data=buffer.getvalue())


def points(*lines: str) -> Artifact:
    text = "\n".join(["[console_scripts]", *lines, ""])
    return with_members({f"{INFO}/entry_points.txt": text.encode()})


def hostile(outside: str, site: str) -> dict[str, list[Artifact]]:
    plain = with_members({})
    data = "w-1.0.data"
    return {
        "up": [with_members({"../evil": b""})],
        "absolute": [with_members({f"{outside}/evil": b""})],
        "up from data": [with_members({f"{data}/data/../../../../evil": b""})],
        "a script below": [with_members({f"{data}/scripts/a/b": b""})],
        "an unknown place": [with_members({f"{data}/weird/b": b""})],
        "python": [with_members({f"{data}/scripts/python": b"#!python\n"})],
        "over conda's file": [with_members({f"{data}/data/etc/a.conf": b"evil"})],
        "over conda's command": [points("a-tool = w_mod:f")],
        "conda's records": [with_members({f"{data}/data/conda-meta/evil.json": b"{}"})],
        "our records": [with_members({f"{data}/data/.envforge/x": b""})],
        "two of metadata": [with_members({"x-2.0.dist-info/METADATA": b"Name: x\nVersion: 2.0\n"})],
        "no metadata": [with_members({}, without=(f"{INFO}/METADATA", f"{INFO}/WHEEL"))],
        "a command up": [points("../../evil = w_mod:f")],
        "a command absolute": [points(f"{outside}/evil = w_mod:f")],
        "a command below": [points("a/b = w_mod:f")],
        "a command that is no text": [with_members({f"{INFO}/entry_points.txt": b"\xff\xfe"})],
        "a call that is code": [points("e = w_mod:f); import os; os.system('true'")],
        "no zip": [pip(Wheel(name="w", version="1.0"), data=b"nope")],
        "through conda's link": [
            conda(library("c", {f"{site}/pkg": Symlink(target=outside)})),
            with_members({"pkg/evil.py": b""}),
        ],
        "over conda's module": [conda(library("c", {f"{site}/w_mod.py": b""})), plain],
        # uv would remove the one that is there, or find it good enough, and say that all is well.
        "conda has an older one": [conda(noarch_python("w", "0.9", {"w_old.py": b""})), plain],
        "conda has it": [conda(library("c", {f"{site}/W-1.0.dist-info/METADATA": b""})), plain],
        "conda has an egg": [conda(library("c", {f"{site}/w-1.0-py3.11.egg-info": b""})), plain],
        "a marker for a version": [
            pip(Wheel(name="w", version="1.0", files={"w.py": b""}), version="1.0;python_version<'3'")
        ],
        "for another system": [pip(Wheel(name="w", version="1.0", tag="cp27-cp27m-win32"))],
    }


def test_a_hostile_wheel_is_refused_and_nothing_is_left(
    envforge: Shell, tmp_path: Path, channel: DemoChannel
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    major, minor = channel.python_version.split(".")[:2]
    cases = hostile(str(outside), f"lib/python{major}.{minor}/site-packages")
    ground = [
        python(channel),
        conda(library("a", {"etc/a.conf": b"good", "bin/a-tool": b"#!/bin/sh\n"})),
    ]
    calls = []
    for number, artifacts in enumerate(cases.values()):
        place = mirror(tmp_path / str(number) / "mirror", *ground, *artifacts)
        calls.append(("install", place, "--prefix", place.parent / "p", "--store", tmp_path / "store"))
    for name, call, done in zip(cases, calls, run_all(envforge, calls), strict=True):
        assert done.status in (2, 3), (name, done)
        done.assert_error(done.status)
        assert "mistake" not in done.err, name
        place = Path(str(call[1])).parent
        assert not (place / "p").exists(), name
        assert {path.name for path in place.glob("p.generations/*")} <= {"log.txt"}, name
    assert not list(outside.iterdir())
    assert not list((tmp_path / "store" / "tmp").iterdir())


def test_odd_wheels_give_what_they_should(envforge: Shell, tmp_path: Path, channel: DemoChannel) -> None:
    """Names that are not normalised, clashes, flags in scripts, records that name other files: in one go."""
    same = {"shared.py": b"SAME = 1\n"}
    place = mirror(
        tmp_path / "mirror",
        python(channel),
        with_members({"x" * 250 + ".py": b"X = 1"}, record="../../../../../out,,\n../../../etc/a.conf,,\n"),
        conda(library("a", {"etc/a.conf": b"good"})),
        pip(Wheel(name="Foo.Bar_baz", version="1.0", files={"foo.py": b"", **same})),
        pip(Wheel(name="aa", version="1.0", files={"w_mod.py": b"X = 'aa'\n", **same})),
        pip(Wheel(name="zz", version="1.0", files={"zz.py": b"def f(): print('zz')\n"},
                  console_scripts={"go": "zz:f"})),
        pip(Wheel(name="yy", version="1.0.0", files={"yy.py": b""}, console_scripts={"go": "yy:f"}),
            version="1.0"),
        pip(Wheel(name="flags", version="1", scripts={"flagged": b"#!python -E\nprint('flagged')\n"})),
    )  # fmt: skip
    calls: list[tuple[object, ...]] = [
        ("install", place, "--prefix", tmp_path / "p", "--json"),
        ("verify", tmp_path / "p", "--against", place),
        ("install", place, "--prefix", tmp_path / "a b" / "p"),
    ]
    done, proof, blank = run_all(envforge, calls)
    assert done.status == 0, done.err
    assert proof.status == 0, proof.out
    assert blank.status == 0, blank.err
    assert "2 files are in more than one package: bin/go, " in done.err
    prefix = tmp_path / "p"
    (site,) = prefix.glob("lib/python3.*/site-packages")
    assert (site / "w_mod.py").read_bytes() == b"X = 'w'\n"  # of two, the later in the lock
    assert "zz" in (prefix / "bin" / "go").read_text()
    assert not list(site.glob("*.dist-info/uv_cache.json"))
    assert (prefix / "etc" / "a.conf").read_bytes() == b"good"
    for root in (prefix, tmp_path / "a b" / "p"):
        for command, said in (("flagged", "flagged\n"), ("go", "zz\n")):
            out = subprocess.run([root / "bin" / command], capture_output=True, text=True, check=True).stdout
            assert out == said
