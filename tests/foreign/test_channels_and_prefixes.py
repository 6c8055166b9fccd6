"""What a file leaves out comes from the channel or the artifact; what is installed becomes a lockfile."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.edges.process import uv_executable
from envforge.formats import specification
from envforge.formats.conda_meta import asked_for
from envforge.model.lockfile import LockedPackage, Lockfile
from tests.conftest import Journey, Shell
from tests.foreign.support import call, read


@dataclass(frozen=True)
class Place:
    """An environment that was installed once, in a directory where commands are run."""

    directory: Path
    prefix: Path
    shell: Shell
    lock: Lockfile

    @property
    def conda(self) -> dict[str, LockedPackage]:
        return {row.name: row for row in self.lock.packages if row.manager == "conda"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, journey: Journey) -> Place:
    root = tmp_path_factory.mktemp("place")
    (root / "home").mkdir()
    shell = Shell(root / "home", root)
    shell("install", journey.mirror, "--prefix", root / "env")
    return Place(root, root / "env", shell, read(journey.lockfile))


def test_a_conda_environment_is_locked_as_it_is(place: Place, tmp_path: Path) -> None:
    history = "# cmd: conda create -n x\n# update specs: ['python', \"greet>=1\"]\n+greet-1.0\n"
    tree = tmp_path / "env"
    shutil.copytree(place.prefix.resolve(), tree, symlinks=True)
    (tree / "conda-meta" / "history").write_text(history)
    _bring(tree, "brought")
    output, spec = tmp_path / "x-lock.yml", tmp_path / "environment.yml"
    index = json.loads(place.lock.custom["envforge.settings"]).get("indexes") or _index(place)
    ended = call("import", tree, "-o", output, "--spec", spec, "--index-url", index, "--json")
    assert ended.status == 0, ended.err
    assert "brought" not in ended.err
    found = read(output)
    conda = {row.name: row for row in found.packages if row.manager == "conda"}
    assert {n: (r.url, r.sha256, r.md5) for n, r in conda.items()} == {
        n: (r.url, r.sha256, r.md5) for n, r in place.conda.items()
    }
    wheels = {row.name: row.sha256 for row in found.packages if row.manager == "pip"}
    assert wheels == {row.name: row.sha256 for row in place.lock.packages if row.manager == "pip"}
    wanted = specification.read(spec.read_text(), source="environment.yml")
    assert [line.text for line in wanted.conda] == ["python", "greet>=1"]


def _bring(tree: Path, name: str) -> None:
    """A distribution that a conda package brought, below a link such as the one in conda-forge's python."""
    own = next(path for path in (tree / "lib").glob("python3.*") if not path.is_symlink())
    (tree / "lib" / "python3.1").symlink_to(own.name)
    metadata = own / "site-packages" / f"{name}-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    path = next((tree / "conda-meta").glob("greet-*.json"))
    record = json.loads(path.read_text())
    record["files"].append(metadata.relative_to(tree).as_posix())
    path.write_text(json.dumps(record))


def _index(place: Place) -> str:
    """The index that the wheels of the lock came from."""
    url = next(row.url for row in place.lock.packages if row.manager == "pip")
    return url.split("/files/")[0] + "/simple" if "/files/" in url else url.rsplit("/", 2)[0]


def test_an_archive_of_an_environment_is_read_without_unpacking_it(place: Place, tmp_path: Path) -> None:
    archive = tmp_path / "env.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(place.prefix.resolve() / "conda-meta", arcname="conda-meta")
    one, other = tmp_path / "one-lock.yml", tmp_path / "other-lock.yml"
    ended = call("import", archive, "-o", one)
    assert ended.status == 0, ended.err
    assert {row.name: row.sha256 for row in read(one).packages} == {
        row.name: row.sha256 for row in place.conda.values()
    }
    shutil.make_archive(str(tmp_path / "env"), "zip", place.prefix.resolve(), "conda-meta")
    assert call("import", tmp_path / "env.zip", "-o", other).status == 0
    assert read(other).packages == read(one).packages
    assert not [path for path in tmp_path.rglob("*") if path.name == "conda-meta"]


def test_a_virtual_environment_is_locked_from_its_index(journey: Journey, tmp_path: Path) -> None:
    lockfile = read(journey.lockfile)
    pylock = tmp_path / "pylock.toml"
    assert call("export", "pylock", journey.lockfile, "-o", pylock).status == 0
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    options = ["--no-config", "--offline", "--no-deps", "--cache-dir", tmp_path / "cache"]
    install = [uv_executable(), "pip", "install", "-q", "--python", env, *options, "-r", pylock]
    subprocess.run(list(map(str, install)), check=True)
    local = env / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (local / "mine-1.0.dist-info").mkdir()
    (local / "mine-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n"
    )
    place = Place(tmp_path, env, Shell(tmp_path, tmp_path), lockfile)
    output = tmp_path / "x-lock.yml"
    ended = call("import", env, "-o", output, "--index-url", _index(place))
    assert ended.status == 0, ended.err
    assert "no index that was asked: mine 1.0" in ended.err
    assert {row.name: row.sha256 for row in read(output).packages} == {
        row.name: row.sha256 for row in lockfile.packages if row.manager == "pip"
    }


@pytest.mark.parametrize("md5", [True, False])
def test_an_explicit_file_is_completed_from_its_channel(place: Place, journey: Journey, md5: bool) -> None:
    name = f"explicit-{md5}.txt"
    place.shell("export", "explicit", journey.lockfile, "-o", name, *(["--md5"] if md5 else []))
    place.shell("import", name, "-o", "e-lock.yml", "--force")
    found = {row.name: row for row in read(place.directory / "e-lock.yml").packages if row.manager == "conda"}
    assert found.keys() == place.conda.keys()
    for name, row in place.conda.items():
        assert found[name].to_dict() == row.to_dict()


def test_pins_become_the_builds_that_they_name(place: Place, journey: Journey) -> None:
    place.shell("export", "environment", journey.lockfile, "-o", "pins.yml")
    place.shell("import", "pins.yml", "-o", "p-lock.yml", "--force", "--index-url", _index(place))
    found = read(place.directory / "p-lock.yml")
    assert {row.url: row.sha256 for row in found.packages} == {
        row.url: row.sha256 for row in place.lock.packages
    }


def test_a_list_of_conda_becomes_the_builds_that_it_names(place: Place) -> None:
    rows = place.conda.values()
    lines = ["# $ conda create --name <env> --file <this file>", f"# platform: {place.lock.platforms[0]}"]
    lines += [f"{row.name}={row.version}={row.build_string}" for row in rows]
    (place.directory / "list.txt").write_text("\n".join(lines))
    channels = [word for url in {row.channel for row in rows} for word in ("-c", url)]
    place.shell("import", "list.txt", "-o", "l-lock.yml", *channels)
    assert {row.url for row in read(place.directory / "l-lock.yml").packages} == {row.url for row in rows}


def test_a_hash_that_the_channel_contradicts_ends_the_import(place: Place, journey: Journey) -> None:
    place.shell("export", "explicit", journey.lockfile, "-o", "wrong.txt")
    path = place.directory / "wrong.txt"
    sha256 = place.conda["greet"].sha256 or ""
    path.write_text(path.read_text().replace(sha256, "0" * 64))
    ended = place.shell("import", "wrong.txt", "-o", "w-lock.yml", status=2)
    ended.assert_error(2, "the channel has another greet", "wrong.txt:")
    assert not (place.directory / "w-lock.yml").exists()


def test_without_its_channel_a_package_is_read_itself(place: Place, journey: Journey) -> None:
    """The channel's repodata is gone, and the artifact still there."""
    bare = place.directory / "bare"
    row = place.conda["greet"]
    source = Path(row.url.removeprefix("file://"))
    target = bare / row.subdir / source.name
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    (place.directory / "bare.txt").write_text(
        f"# platform: {row.platform}\n@EXPLICIT\n{target.as_uri()}#{row.md5}\n"
    )
    ended = place.shell("import", "bare.txt", "-o", "b-lock.yml")
    assert "each package is downloaded" in ended.err
    (found,) = read(place.directory / "b-lock.yml").packages
    assert (found.sha256, found.md5, found.dependencies) == (row.sha256, row.md5, row.dependencies)


def test_offline_means_that_nobody_is_asked(place: Place, journey: Journey) -> None:
    text = "# platform: linux-64\n@EXPLICIT\nhttps://conda.invalid/c/linux-64/a-1-0.conda#" + "a" * 32
    (place.directory / "off.txt").write_text(text)
    place.shell("import", "off.txt", "-o", "o-lock.yml", "--offline", status=3)


@pytest.mark.parametrize(
    ("history", "specs"),
    [
        ("# update specs: ['python=3.12', 'zlib']\n", ("python=3.12", "zlib")),
        ('# update specs: ["python=3.12"]\n', ("python=3.12",)),  # micromamba
        ("# update specs: python=3.12, zlib\n", ("python=3.12", "zlib")),  # conda before 4.4
        ("# update specs: ['a']\n# update specs: ['a>=2', 'zlib']\n# remove specs: ['zlib']\n", ("a>=2",)),
        ("# update specs: ['conda-forge/linux-64::zlib==1.3=h1_0']\n", ("conda-forge::zlib=1.3=h1_0",)),
        ("# update specs: ['gone']\n", ()),
        ("# update specs: ['https://h/c/linux-64/a-1-0.conda#md5']\n", ()),
        ("# cmd: conda install a\n==> 2020-01-01 00:00:00 <==\n+a-1-0\n", ()),
    ],
)
def test_what_was_asked_for_is_in_the_history(history: str, specs: tuple[str, ...]) -> None:
    assert asked_for(history, ["python", "zlib", "a"]) == specs
