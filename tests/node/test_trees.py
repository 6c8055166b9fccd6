"""What an environment looks like: the same each time, whoever wins, whatever bytecode packages bring."""

from __future__ import annotations

import bz2
import importlib.util
import io
import json
import marshal
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.packages import TIMESTAMP, File, Package, Symlink, noarch_python, package_bytes
from envforge.edges.archive import conda_files, conda_index, conda_links
from envforge.errors import InputError
from envforge.node.linking.clobber import Claims, losers, ranked
from envforge.node.linking.links import escaping_link
from tests.conftest import Shell
from tests.node.world import Artifact, conda, library, mirror, python, run_all, snapshot


def contents(prefix: Path) -> dict[str, bytes | str]:
    """What packages brought: files by content, links by text."""
    root = prefix.resolve()
    found: dict[str, bytes | str] = {}
    for name, item in snapshot(root).items():
        if name.startswith((".envforge", "conda-meta", "bin/activate", "etc/conda/env_vars.d/envforge.json")):
            continue
        if isinstance(item, str):
            found[name] = item
        elif not (root / name).is_dir():
            found[name] = item[1]  # type: ignore[index]
    return found


def test_clashes_end_the_same_each_time(envforge: Shell, tmp_path: Path) -> None:
    many: Mapping[str, bytes] = {f"share/{number}": b"" for number in range(40)}
    cases: list[tuple[tuple[Package, ...], dict[str, bytes | str], str]] = [
        ((library("a", {"x": b"a", "p": b""}), library("b", {"x": b"b", "q": b""})),
         {"x": b"a", "p": b"", "q": b""}, "x"),
        ((library("a", {"x": b"a"}), library("b", {"x": b"b"}, depends=("a >=1",))), {"x": b"b"}, "x"),
        ((library("a", {"x": b"a"}), library("b", {"x/y": b"b", "q": b""})), {"x": b"a", "q": b""}, "x/y"),
        ((library("a", {"x/y": b"a"}), library("b", {"x": b"b"})), {"x/y": b"a"}, "x"),
        ((library("a", {"lib64": Symlink(target="lib"), "lib/a": b"a"}), library("b", {"lib64/y": b"b"})),
         {"lib64": "lib", "lib/a": b"a"}, "lib64/y"),
        ((library("a", {"x": Symlink(target="y"), "y": b"a"}),
          library("b", {"x": Symlink(target="z"), "z": b"b"})),
         {"x": "y", "y": b"a", "z": b"b"}, "x"),
        ((library("a", many),), dict(many), ""),
    ]  # fmt: skip
    calls: list[tuple[object, ...]] = []
    for number, (packages, _, _) in enumerate(cases):
        place = mirror(tmp_path / str(number) / "mirror", *map(conda, packages))
        p = tmp_path / str(number) / "p"
        calls += [("install", place, "--prefix", p)] + [("verify", p, "--against", place)] * 3
    answers = run_all(envforge, calls)
    for number, (packages, expected, clash) in enumerate(cases):
        installed, *proofs = answers[4 * number : 4 * number + 4]
        assert installed.status == 0, installed.err
        assert [proof.status for proof in proofs] == [0, 0, 0], (number, proofs)
        prefix = tmp_path / str(number) / "p"
        assert contents(prefix) == expected
        assert (f"in more than one package: {clash}" in installed.err) == bool(clash)
        named = set()
        for package in packages:
            record = json.loads((prefix / "conda-meta" / f"{package.stem}.json").read_text())
            assert record["files"] == sorted(record["files"])
            assert record["url"].startswith("https://conda.example.org/")
            named |= set(record["files"])
        assert named == set(expected)


def claims(name: str, *files: str, depends: tuple[str, ...] = ()) -> Claims:
    return Claims(name=name, depends=depends, files={file: file for file in files}, commands={})


def test_who_needs_another_wins_and_then_the_name() -> None:
    order = [claims("c"), claims("a"), claims("b", depends=("a", "elsewhere"))]
    assert [package.name for package in ranked(order)] == ["b", "a", "c"]
    circle = [claims("b", depends=("a",)), claims("a", depends=("b",)), claims("a0", depends=("a0",))]
    assert [package.name for package in ranked(circle)] == ["a0", "a", "b"]
    command = Claims(name="z", depends=(), files={}, commands={"go": "bin/go"})
    assert losers([claims("a", "bin/go"), command]) == {"z": {"go"}}


def test_an_entry_point_that_loses_is_not_made(envforge: Shell, tmp_path: Path, channel: DemoChannel) -> None:
    place = mirror(
        tmp_path / "mirror",
        python(channel),
        conda(library("a", {"bin/go": b"a"})),
        conda(noarch_python("z", "1.0", {"z.py": b""}, entry_points=("go = z:f", "other = z:f"))),
    )
    (done,) = run_all(envforge, [("install", place, "--prefix", tmp_path / "p")])
    assert done.status == 0, done.err
    assert (tmp_path / "p" / "bin" / "go").read_bytes() == b"a"
    assert (tmp_path / "p" / "bin" / "other").is_file()


@pytest.mark.parametrize(
    ("path", "links", "leaves"),
    [
        ("a/b", {}, False),
        ("a/b", {"a": "/x"}, True),
        ("a", {"a": "/x"}, False),
        ("a/b", {"a": "../x"}, True),
        ("lib64/b", {"lib64": "lib"}, False),
        ("x/y/b", {"x/y": "../z"}, False),
        ("x/y/b", {"x/y": "../../z"}, True),
        ("q/b", {"q": "x/y/z/../..", "x/y/z": "../.."}, True),
        ("d/b", {"d": "e", "e": "/x"}, True),
        ("d/b", {"d": "e", "e": "d"}, True),
    ],
)
def test_links_are_followed_as_the_kernel_does(path: str, links: dict[str, str], leaves: bool) -> None:
    known = {tuple(name.split("/")): [text] for name, text in links.items()}
    assert (escaping_link(path, known) is not None) == leaves


def odd_zip(data: bytes, *, compress: bool) -> bytes:
    """The same ``.conda`` with its outer members compressed, or with zip64 fields that nothing needs."""
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", kind) as new:
        for info in old.infolist():
            member = zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0))
            member.compress_type = kind
            member.extra = b"" if compress else b"\x01\x00\x10\x00" + b"\0" * 16
            new.writestr(member, old.read(info))
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [True, False], ids=["compressed", "zip64"])
def test_archives_as_other_tools_write_them(envforge: Shell, tmp_path: Path, compress: bool) -> None:
    package = library("odd", {"lib/x": b"x", "lib/y": Symlink(target="x")})
    data = odd_zip(package_bytes(package), compress=compress)
    file = tmp_path / "odd-1.0-0.conda"
    file.write_bytes(data)
    assert conda_index(file, file.name)["name"] == "odd"
    assert conda_files(file, file.name, ["lib/x"]) == {"lib/x": b"x"}
    assert conda_links(file, file.name) == {"lib/y": "x"}
    place = mirror(tmp_path / "mirror", conda(package, data=data))
    store = ("--store", tmp_path / "store")
    calls = [("install", place, "--prefix", tmp_path / name, *store) for name in ("p", "q")]
    done = run_all(envforge, [*calls, ("verify", tmp_path / "q", "--against", place, *store)])
    assert [d.status for d in done] == [0, 0, 0], done
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError):
        conda_index(file, file.name)


def test_links_to_directories_and_nowhere_are_proven_from_the_archive(
    envforge: Shell, tmp_path: Path
) -> None:
    files = {
        "lib/real/x": b"x",
        "lib/short": Symlink(target="real"),
        "lib/none": Symlink(target="nothing"),
        "lib/z": Symlink(target="real/x"),
    }
    store = tmp_path / "store"
    calls = []
    for archive in (".conda", ".tar.bz2"):
        place = mirror(tmp_path / archive, conda(library("a", files), archive))  # type: ignore[arg-type]
        prefixes = [tmp_path / f"{name}{archive}" for name in ("p", "q")]
        calls += [("install", place, "--prefix", prefix, "--store", store) for prefix in prefixes]
    for done in run_all(envforge, calls):
        assert done.status == 0, done.err
    for victim in ("short", "none", "z"):
        (tree,) = [t for t in (store / "trees").glob("*/*") if (t / "info").is_dir()][:1]
        link = tree / "lib" / victim
        text = link.readlink()
        link.unlink()
        link.symlink_to("/etc")
        answers = run_all(
            envforge,
            [(*call[:3], tmp_path / f"again{n}{victim}", *call[4:]) for n, call in enumerate(calls[::2])],
        )
        assert sorted(done.status for done in answers) == [0, 3]
        assert any(f"altered: lib/{victim}" in done.err for done in answers)
        link.unlink()
        link.symlink_to(text)


def old_package(name: str, files: Mapping[str, bytes]) -> Artifact:
    """A package as conda-build made them before there was ``info/paths.json``."""
    package = library(name, files)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        members = {
            "info/index.json": json.dumps(package.index_json()).encode(),
            "info/files": "".join(f"{path}\n" for path in files).encode(),
            "info/has_prefix": b"/opt/anaconda1anaconda2anaconda3 text etc/conf\n",
            **files,
        }
        for path, data in members.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o4775
            tar.addfile(member, io.BytesIO(data))
    return conda(package, ".tar.bz2", data=bz2.compress(buffer.getvalue()))


def test_packages_from_before_paths_json(envforge: Shell, tmp_path: Path) -> None:
    old = old_package(
        "old", {"etc/conf": b"at /opt/anaconda1anaconda2anaconda3\n", "bin/tool": b"#!/bin/sh\n"}
    )
    place = mirror(tmp_path / "mirror", old)
    store = ("--store", tmp_path / "store")
    calls: list[tuple[object, ...]] = [
        ("install", place, "--prefix", tmp_path / n, *store) for n in ("p", "q")
    ]
    calls.append(("verify", tmp_path / "q", "--against", place, *store))
    answers = run_all(envforge, calls)
    assert [done.status for done in answers] == [0, 0, 0], answers
    root = (tmp_path / "p").resolve()
    assert (root / "etc" / "conf").read_text() == f"at {root}\n"
    assert (root / "bin" / "tool").stat().st_mode & 0o7777 == 0o755  # setuid is not kept
    (tree,) = (tmp_path / "store" / "trees").glob("*/*")
    (tree / "bin" / "tool").write_bytes(b"edited")
    run_all(envforge, [("install", place, "--prefix", tmp_path / "r", *store)])[0].assert_error(
        3, "altered: bin/tool"
    )


def test_bytecode_of_packages_is_used_only_where_it_is_that_of_the_source(
    envforge: Shell, tmp_path: Path, channel: DemoChannel
) -> None:
    major, minor = channel.python_version.split(".")[:2]
    site = f"lib/python{major}.{minor}/site-packages"
    magic, tag = importlib.util.MAGIC_NUMBER, f"cpython-{major}{minor}"
    source, lie = b"X = 'source'\n", marshal.dumps(compile("X = 'lie!!!'", "x", "exec"))
    size, when = len(source).to_bytes(4, "little"), TIMESTAMP.to_bytes(4, "little")
    timed = magic + b"\0\0\0\0" + when + size
    pyc = {
        "current": timed,  # as Python would believe it
        "older": magic + b"\0\0\0\0" + (TIMESTAMP - 1).to_bytes(4, "little") + size,
        "hashed": magic + b"\1\0\0\0" + b"\0" * 8,
        "magic": b"\1\2\r\n" + timed[4:],
        "short": magic,
    }
    files: dict[str, bytes | File | Symlink] = {}
    for name, head in pyc.items():
        files[f"{site}/{name}.py"] = source
        files[f"{site}/__pycache__/{name}.{tag}.pyc"] = head + (b"" if name == "short" else lie)
    outside = tmp_path / "outside"
    outside.mkdir()
    files |= {
        f"{site}/broken.py": b"def (:\n",
        f"{site}/__pycache__/orphan.{tag}.pyc": timed + lie,
        f"{site}/__pycache__/current.cpython-27.pyc": b"old",
        f"{site}/away/__pycache__": Symlink(target=str(outside)),
        f"{site}/away/mod.py": source,
        f"{site}/line\nbreak.py": source,
        f"{site}/ümlaut.py": source,
        f"{site}/link.py": Symlink(target="current.py"),
        f"{site}/leave.py": Symlink(target="/etc/hostname"),
        f"{site}/linked.py": source,
        f"{site}/__pycache__/linked.{tag}.pyc": Symlink(target="/etc/hostname"),
    }
    place = mirror(tmp_path / "mirror", python(channel), conda(library("a", files)))
    p = tmp_path / "p"
    done, proof = run_all(
        envforge,
        [("install", place, "--prefix", p, "--verbose"), ("verify", p, "--against", place)],
        env={"LC_ALL": "C"},
    )
    assert done.status == 0, done.err
    assert proof.status == 0, proof.out
    assert "broken.py does not compile" in done.err
    assert not list(outside.iterdir())
    names = ["current", "older", "hashed", "magic", "short", "link", "ümlaut", "linked"]
    code = f"import importlib; print([importlib.import_module(n).X for n in {names!r}])"
    said = subprocess.run(
        [p / "bin" / "python", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said == f"{['lie!!!'] + ['source'] * 7}\n"
    cache = p / site / "__pycache__"
    assert not (cache / f"leave.{tag}.pyc").exists()
    for name in names:
        assert (cache / f"{name}.{tag}.pyc").read_bytes()[4] == 1, name


def test_python_says_where_its_packages_are(envforge: Shell, tmp_path: Path, channel: DemoChannel) -> None:
    """As a free-threaded one does: ``lib/python3.13t``."""
    major, minor = channel.python_version.split(".")[:2]
    place = f"lib/python{major}.{minor}t/site-packages"
    marker: Mapping[str, bytes | File] = {
        f"{place}/keep": b"",
        "bin/python": File(data=b"#!/bin/sh\nexit 0\n", executable=True),
    }
    fake = library(
        "python", marker, version=channel.python_version, index={"python_site_packages_path": place}
    )
    source = mirror(tmp_path / "mirror", conda(fake), conda(noarch_python("n", "1.0", {"n.py": b""})))
    (done,) = run_all(envforge, [("install", source, "--prefix", tmp_path / "p")])
    assert done.status == 0, done.err
    assert (tmp_path / "p" / place / "n.py").is_file()


def test_pythons_without_hash_based_bytecode_are_not_asked_for_it(envforge: Shell, tmp_path: Path) -> None:
    calls = []
    for version in ("2.7.18", "3.6.15"):
        fake = library("python", {"bin/python": b"no program", "lib/python2.7/os.py": b""}, version=version)
        place = mirror(tmp_path / version, conda(fake))
        calls.append(("install", place, "--prefix", tmp_path / f"p{version}"))
    assert [done.status for done in run_all(envforge, calls)] == [0, 0]


def test_names_of_all_kinds_arrive(envforge: Shell, tmp_path: Path) -> None:
    names = [
        "lib/system-systemd\\x2dcryptsetup.slice", ".hidden", "with blank/ä ö", "line\nbreak", "'quote\"",
        "deep/" + "/".join(["d" * 60] * 6) + "/file", "n" * 255, "-dash", "a%20b", "$HOME", "~",
    ]  # fmt: skip
    place = mirror(tmp_path / "mirror", conda(library("a", {name: name.encode() for name in names})))
    p = tmp_path / "p"
    done, proof = run_all(
        envforge, [("install", place, "--prefix", p), ("verify", p, "--against", place)], env={"LC_ALL": "C"}
    )
    assert (done.status, proof.status) == (0, 0), (done, proof)
    assert {(p / name).read_bytes() for name in names} == {name.encode() for name in names}
    strange = os.fsencode(p.resolve()) + b"/\xff\n"
    Path(os.fsdecode(strange)).write_bytes(b"")
    (found,) = run_all(envforge, [("verify", p, "--json")])
    assert [d["kind"] for d in found.json["differences"]] == ["added"]
