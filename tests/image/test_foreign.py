"""Images for a platform whose programs do not run here: none is started, and bytecode comes from here."""

from __future__ import annotations

import json
import marshal
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envforge.demo.index import Wheel
from envforge.demo.packages import File, Package
from envforge.node.linking import foreign_bytecode as foreign
from envforge.node.proving.scan import RECEIPT
from tests.image.conftest import Command
from tests.image.world import Image, write_base
from tests.node.world import HERE, Artifact, conda, mirror, pip

OTHER = "linux-aarch64" if HERE != "linux-aarch64" else "linux-64"
MACHINE = {"linux-aarch64": "arm64", "linux-64": "amd64"}[OTHER]
OWN = "{}.{}".format(*sys.version_info)
SOURCE = b"def answer():\n    return 42\n"


def artifact(name: str, files: dict[str, bytes | File], version: str = "1.0") -> Artifact:
    made = {path: File(data=item) if isinstance(item, bytes) else item for path, item in files.items()}
    package = Package(name=name, version=version, subdir=OTHER, files=dict(made))
    return conda(package)


def python(version: str) -> Artifact:
    """A Python that nothing here can run."""
    minor = ".".join(version.split(".")[:2])
    program = File(data=b"\x7fELF of another machine", executable=True)
    return artifact(
        "python",
        {
            f"bin/python{minor}": program,
            "bin/python": program,
            f"lib/python{minor}/os.py": b"name = 'other'\n",
            f"lib/python{minor}/site-packages/answer.py": SOURCE,
        },
        version,
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return mirror(tmp_path / "mirror", python(f"{OWN}.99"), platform=OTHER)


def test_bytecode_is_made_by_the_same_minor_version(
    envforge_here: Command, made: Path, tmp_path: Path
) -> None:
    write_base(tmp_path / "base.tar", architecture=MACHINE)
    told = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", "--json").json
    assert told["platform"] == OTHER
    image = Image.read(tmp_path / "env.tar")
    assert image.config["architecture"] == MACHINE
    assert image.entry["platform"]["architecture"] == MACHINE
    files = image.files()
    tag = sys.implementation.cache_tag
    code = bytes(files[f"opt/env/lib/python{OWN}/site-packages/__pycache__/answer.{tag}.pyc"])  # type: ignore[arg-type]
    assert code[4:8] == b"\1\0\0\0", "of the unchecked kind"
    assert marshal.loads(code[16:]).co_filename == f"lib/python{OWN}/site-packages/answer.py"
    receipt = json.loads(files[f"opt/env/{RECEIPT}"])
    assert receipt["tools"]["bytecode"] == "CPython {}.{}.{}".format(*sys.version_info)
    assert receipt["platform"] == OTHER
    assert envforge_here("verify", "env.tar", "--against", made, "--json").json["equal"]


def test_where_there_is_no_such_python_it_is_left_out_and_said(
    envforge_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mirror(tmp_path / "mirror", python("3.7.1"), platform=OTHER)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    foreign.foreign_compiler.cache_clear()
    done = envforge_here("image", "oci", made, "-o", "env.tar")
    assert f"there is no Python here that compiles for {OTHER}" in done.err
    files = Image.read(tmp_path / "env.tar").files()
    assert not [name for name in files if name.endswith(".pyc")]
    assert json.loads(files[f"opt/env/{RECEIPT}"])["tools"]["bytecode"] == "none"
    assert envforge_here("verify", "env.tar", "--against", made, "--json").json["equal"]


def test_bytecode_of_another_machine_is_taken_from_the_receipt(
    envforge_here: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who proves an image may lack the Python that compiled it; everything else is derived all the same."""
    envforge_here("image", "oci", made, "-o", "env.tar")
    monkeypatch.setattr("envforge.node.linking.build.foreign_compiler", lambda _: None)
    done = envforge_here("verify", "env.tar", "--against", made, "--store", "other", "--json")
    assert done.json["equal"]
    assert "files of bytecode cannot be derived here: made by CPython" in done.err


def test_of_two_platforms_one_is_named(envforge_here: Command, tmp_path: Path) -> None:
    here = conda(Package(name="one", version="1.0", subdir=HERE, files={"x": File(data=b"1")}))
    there = artifact("one", {"x": b"2"})
    lock = mirror(tmp_path / "mirror", here, there)
    text = json.loads((lock / "locks/made.json").read_text())
    text["platforms"] = sorted([HERE, OTHER])
    (lock / "locks/made.json").write_text(json.dumps(text))
    done = envforge_here("image", "oci", "mirror", "-o", "env.tar", status=2)
    done.assert_error(2, "the lock has 2 platforms that an image can be for")
    envforge_here("image", "oci", "mirror", "-o", "env.tar", "-p", OTHER)
    assert Image.read(tmp_path / "env.tar").files()["opt/env/x"] == b"2"


def test_wheels_alone_have_no_python_to_go_into(envforge_here: Command, tmp_path: Path) -> None:
    wheel = pip(Wheel(name="w", version="1.0", files={"w.py": b"x = 1\n"}))
    lock = mirror(tmp_path / "mirror", replace(wheel, row=replace(wheel.row, platform=HERE)))
    done = envforge_here("image", "oci", lock, "-o", "env.tar", status=2)
    done.assert_error(2, "an image needs a Python of its own", "add python")
