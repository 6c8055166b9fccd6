"""Where an environment may be, where its packages may come from, and who goes on using the old one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel
from envforge.demo.packages import PLACEHOLDER, File, Symlink, noarch_python
from tests.conftest import Shell
from tests.node.world import Artifact, conda, library, mirror, pip, python, run_all, snapshot


def packages(text: str = "1") -> list[Artifact]:
    """With the prefix in a text file and in a binary, a link and a program."""
    binary = f"\0{PLACEHOLDER}/share\0{text}".encode()
    program = f"#!{PLACEHOLDER}/bin/sh\n".encode()
    files: dict[str, bytes | File | Symlink] = {
        "etc/a.conf": File(data=f"prefix={PLACEHOLDER}\n".encode()),
        "lib/liba.so": File(data=binary, executable=True),
        "lib/liba.so.1": Symlink(target="liba.so"),
        "bin/a": File(data=program, executable=True),
    }
    return [conda(library("a", files)), conda(library("b", {f"share/{n}": text.encode() for n in range(9)}))]


def of_length(directory: Path, length: int) -> Path:
    """A path below ``directory`` of ``length`` characters."""
    path = str(directory)
    while length - len(path) > 100:
        path += "/" + "d" * 80
    return Path(path + "/" + "p" * (length - len(path) - 1))


def test_a_prefix_of_10_200_and_255_characters(envforge: Shell, tmp_path: Path) -> None:
    source = mirror(tmp_path / "mirror", *packages())
    plain = mirror(tmp_path / "plain", conda(library("b", {"share/b": f"at {PLACEHOLDER}".encode()})))
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="", suffix="") as name:
        short = Path("/tmp", f"{Path(name).name[-3:]}.e")
        assert len(str(short)) == 10
        middle, long = of_length(tmp_path, 200), of_length(tmp_path, 255)
        try:
            calls = [("install", source, "--prefix", path) for path in (short, middle, long)]
            calls += [("verify", path, "--against", source) for path in (short, middle)]
            calls += [("install", plain, "--prefix", long), ("verify", long, "--against", plain)]
            done = run_all(envforge, calls)
            assert [one.status for one in done] == [0, 0, 2, 0, 0, 0, 0], done
            # A binary has room for 255 bytes; the name of the generation has to fit, too.
            done[2].assert_error(2, "too long", "255 fit")
            for path in (short, middle):
                own = str(path.resolve())
                assert (path / "etc/a.conf").read_text() == f"prefix={own}\n"
                content = (path / "lib/liba.so").read_bytes()
                assert len(content) == len(f"\0{PLACEHOLDER}/share\0" + "1")
                assert content.startswith(f"\0{own}/share\0".encode())
            assert (long / "share/b").read_text() == f"at {long.resolve()}"
        finally:
            short.unlink(missing_ok=True)
            shutil.rmtree(f"{short}.generations", ignore_errors=True)


def test_a_path_that_is_too_long_is_refused_before_anything_is_there(envforge: Shell, tmp_path: Path) -> None:
    source, prefix = mirror(tmp_path / "mirror", *packages()), of_length(tmp_path, 255)
    done = envforge("install", source, "--prefix", prefix, status=None)
    done.assert_error(2, "too long")
    assert not prefix.is_symlink()
    made = [
        path.name for path in prefix.parent.glob("*.generations/*") if path.name not in ("store", "log.txt")
    ]
    assert made == []


def test_stores_sources_and_numbers_of_threads_change_nothing(envforge: Shell, tmp_path: Path) -> None:
    source = mirror(tmp_path / "mirror", *packages())
    copy = tmp_path / "a copy" / "elsewhere"
    shutil.copytree(source, copy)
    prefix, store = tmp_path / "p", tmp_path / "store"
    variants: list[tuple[object, ...]] = [
        (source, "-j", 1),
        (copy, "-j", 4),
        (source, "--store", store, "-j", 4),
        (copy, "--store", store, "-j", 1),  # warm by now
        (copy, "--store", store, "--store", tmp_path / "upper"),
    ]
    trees = []
    for number, (place, *more) in enumerate(variants):
        (done,) = run_all(
            envforge, [("install", place, "--prefix", prefix, *more)], umask=(0o022, 0o077, 0)[number % 3]
        )
        assert done.status == 0, done
        trees.append((prefix.readlink(), snapshot(prefix.resolve())))
        prefix.unlink()
        shutil.rmtree(f"{prefix}.generations")
    assert all(tree == trees[0] for tree in trees)
    assert len(trees[0][1]) > 15


LATE = """
import sys
print("ready", flush=True)
sys.stdin.readline()
import late_module, late_wheel
print(late_module.VERSION, late_wheel.VERSION, late_module.__file__)
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, channel: DemoChannel) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("versions")
    made = {}
    for version in ("1.0", "2.0"):
        said = f'VERSION = "{version}"\n'.encode()
        made[version] = mirror(
            base / version,
            python(channel),
            conda(noarch_python("late-module", version, {"late_module.py": said})),
            pip(Wheel(name="late-wheel", version=version, files={"late_wheel.py": said})),
        )
    return made


@pytest.mark.parametrize("keep", [(), ("--keep", 0)], ids=["as usual", "keep nothing"])
def test_what_runs_goes_on_with_the_code_it_was_started_with(
    envforge: Shell, tmp_path: Path, versions: dict[str, Path], keep: tuple[object, ...]
) -> None:
    prefix = tmp_path / "p"
    envforge("install", versions["1.0"], "--prefix", prefix)
    own = prefix.resolve()
    with subprocess.Popen(
        [own / "bin/python", "-c", LATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        envforge("install", versions["2.0"], "--prefix", prefix, *keep)
        assert prefix.resolve() != own
        said, _ = job.communicate("go on\n")
    assert said.split() == ["1.0", "1.0", f"{own}/{Path(said.split()[2]).relative_to(own)}"]
    fresh = subprocess.run(
        [prefix / "bin/python", "-c", LATE], input="go on\n", capture_output=True, text=True, check=True
    ).stdout
    assert fresh.splitlines()[1].split()[:2] == ["2.0", "2.0"]
    envforge("verify", own)  # nothing was written into it, either
