"""A lock of wheels alone becomes a virtual environment of a Python that is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envforge.demo.index import Wheel
from envforge.node.linking.tags import PythonTags
from tests.conftest import Shell
from tests.node.world import Call, conda, library, mirror, pip, run_all

MINOR = sys.version_info.minor
WHEEL = Wheel(
    name="w",
    version="1.0",
    files={"w_mod.py": b"import sys\ndef f(): print(sys.prefix)\n"},
    console_scripts={"w-tool": "w_mod:f"},
    scripts={"w-script": b"#!python\nimport w_mod; w_mod.f()\n"},
    data={"share/w/data": b"data"},
)


def test_it_works_is_verified_and_costs_nothing_again(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", pip(WHEEL))
    prefix = tmp_path / "p"
    install: Call = ("install", place, "--prefix", prefix, "--python", sys.executable)
    calls: list[Call] = [install, install, ("verify", prefix), ("verify", prefix, "--against", place)]
    done = run_all(envforge, calls)
    assert [ended.status for ended in done] == [0] * 4, done
    assert "already" in done[1].out
    generation = str(prefix.resolve())
    for command in ("w-tool", "w-script"):
        said = subprocess.run([prefix / "bin" / command], capture_output=True, text=True, check=True).stdout
        assert said == f"{generation}\n"
    program = "import sys, w_mod; assert sys.prefix != sys.base_prefix; print(w_mod.__cached__)"
    said = subprocess.run(
        [prefix / "bin" / "python", "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert Path(said.strip()).is_file()
    assert (prefix / "share/w/data").read_bytes() == b"data"


def test_what_does_not_fit_is_refused_before_a_byte_is_written(envforge: Shell, tmp_path: Path) -> None:
    wheels = mirror(tmp_path / "wheels", pip(WHEEL))
    other = Wheel(name="w", version="1.0", tag=f"cp3{MINOR + 1}-cp3{MINOR + 1}-manylinux_2_17_x86_64")
    newer = mirror(tmp_path / "newer", pip(other))
    mixed = mirror(tmp_path / "mixed", pip(WHEEL), conda(library("l", {"lib/l": b""})))
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\necho '{}'\n")
    fake.chmod(0o755)
    prefix = ("--prefix", tmp_path / "p")
    calls: list[tuple[Call, str]] = [
        (("install", wheels, *prefix), "--python /usr/bin/python3"),
        (("install", newer, *prefix, "--python", sys.executable), "is not for this environment"),
        (("install", mixed, *prefix, "--python", sys.executable), "leave --python out"),
        (("install", mixed, *prefix), "add python"),
        (("install", wheels, *prefix, "--python", fake), "no Python"),
        (("install", wheels, *prefix, "--python", tmp_path / "absent"), "cannot start"),
    ]
    for (call, word), ended in zip(calls, run_all(envforge, [call for call, _ in calls]), strict=True):
        assert ended.status in (2, 3), (call, ended)
        ended.assert_error(ended.status, word)
    assert not (tmp_path / "p.generations").exists()


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        ("a-1-7build-py3-none-any.whl", True),
        ("a-1-py312-none-any.whl", True),
        ("a-1-py313-none-any.whl", False),
        ("a-1-py2-none-any.whl", False),
        ("a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-cp312-cp312-linux_x86_64.whl", True),
        ("a-1-cp312-cp312t-linux_x86_64.whl", False),
        ("a-1-cp311-cp311-linux_x86_64.whl", False),
        ("a-1-cp310-abi3-manylinux1_x86_64.whl", True),
        ("a-1-cp313-abi3-manylinux1_x86_64.whl", False),
        ("a-1-cp37-cp37m-manylinux1_x86_64.whl", False),
        ("a-1-cp312-none-any.whl", True),
        ("a-1-cp311-none-any.whl", False),
        ("a-1-cp312-cp312-musllinux_1_2_x86_64.whl", False),
        ("a-1-cp312-cp312-manylinux_2_28_aarch64.whl", False),
        ("a-1-cp312-cp312-win_amd64.whl", False),
        ("a-1-pp310-pypy310_pp73-manylinux_2_17_x86_64.whl", False),
        ("a-1.whl", False),
    ],
)
def test_tags(name: str, fits: bool) -> None:
    assert PythonTags.of("3.12.4", "linux-64").take(name) is fits


def test_tags_agree_with_the_reference() -> None:
    """Every tag that packaging gives for a Python is taken, and of all others none."""
    from packaging.tags import compatible_tags, cpython_tags

    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 40)] + ["linux_x86_64"]
    ours = PythonTags.of("3.12.4", "linux-64")
    for minor in range(7, 16):
        tags = [
            *cpython_tags((3, minor), abis=[f"cp3{minor}"], platforms=platforms),
            *compatible_tags((3, minor), interpreter=f"cp3{minor}", platforms=platforms),
        ]
        mine = {str(tag) for tag in _reference(platforms)}
        for tag in tags:
            if tag.abi != "abi3t":
                assert ours.take(f"a-1-{tag}.whl") is (str(tag) in mine), tag


def _reference(platforms: list[str]) -> list[object]:
    from packaging.tags import compatible_tags, cpython_tags

    return [
        *cpython_tags((3, 12), abis=["cp312"], platforms=platforms),
        *compatible_tags((3, 12), interpreter="cp312", platforms=platforms),
    ]
