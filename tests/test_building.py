"""Wheels that are built when an environment is locked: from sdists that were named, and from projects."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from envforge.demo.channel import DemoChannel
from envforge.demo.index import DemoIndex
from envforge.edges.fetch import Fetcher
from envforge.edges.machine import glibc_version
from envforge.errors import UnsatisfiableError
from envforge.formats import conda_lock
from envforge.formats.elf import read_elf
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.resolvers.building.portable import check_fits
from tests.conftest import GLIBC, Ended, Journey, Shell, specification

BACKEND = """\
import os, pathlib, zipfile

TAG = "{tag}"

def get_requires_for_build_wheel(settings=None):
    return []

def build_wheel(directory, settings=None, metadata=None):
    info = "{stem}.dist-info"
    name = f"{stem}-{{TAG}}.whl"
    files = {{
        "{module}.py": pathlib.Path("{module}.py").read_text(),
        f"{{info}}/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n{requires}",
        f"{{info}}/WHEEL": f"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {{TAG}}\\n",
    }}
    {extra}
    files[f"{{info}}/RECORD"] = "".join(f"{{one}},,\\n" for one in [*files, f"{{info}}/RECORD"])
    with zipfile.ZipFile(os.path.join(directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for one, text in files.items():
            wheel.writestr(one, text)  # with the time of day
    return name
"""


def project(
    directory: Path, name: str, *, tag: str = "py3-none-any", requires: str = "", extra: str = "pass"
) -> Path:
    """A project whose backend lies in it: building it needs nothing else."""
    module = name.replace("-", "_")
    directory.mkdir(parents=True)
    lines = ("[build-system]", "requires = []", 'build-backend = "backend"', 'backend-path = ["."]', "")
    (directory / "pyproject.toml").write_text("\n".join(lines))
    (directory / f"{module}.py").write_text(f"said = 'hello from {name}'\n")
    requires = "".join(f"Requires-Dist: {one}\\n" for one in requires.split())
    text = BACKEND.format(
        tag=tag, module=module, stem=f"{module}-1.0", name=name, requires=requires, extra=extra
    )
    (directory / "backend.py").write_text(text)
    (directory / "PKG-INFO").write_text(f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n")
    return directory


def add_sdist(index: Path, source: Path, name: str) -> str:
    """Put a project on an index, as an sdist; returns its sha256."""
    stem = f"{name.replace('-', '_')}-1.0"
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for path in sorted(source.iterdir()):
            info = tarfile.TarInfo(f"{stem}/{path.name}")
            info.size, info.mtime = path.stat().st_size, 1_600_000_000
            with path.open("rb") as file:
                tar.addfile(info, file)
    page = index / "simple" / name
    page.mkdir(parents=True)
    content = buffer.getvalue()
    (page / f"{stem}.tar.gz").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    (page / "index.html").write_text(f'<a href="{stem}.tar.gz#sha256={sha256}">{stem}.tar.gz</a>')
    return sha256


@pytest.fixture
def own_index(tmp_path: Path, index: DemoIndex) -> Path:
    """A copy of the demonstration's index, to put sdists on."""
    place = tmp_path / "index"
    shutil.copytree(index.path, place)
    return place


def write_spec(envforge: Shell, channel: DemoChannel, platform: str, index: Path, *pip: str) -> Path:
    path = envforge.cwd / "environment.yml"
    url = (index / "simple").as_uri()
    path.write_text(specification(channel.url, platform, index_url=url, pip=pip))
    return path


def rows(path: Path) -> dict[str, LockedPackage]:
    return {row.name: row for row in locked(path).packages}


def locked(path: Path) -> Lockfile:
    return conda_lock.read(path.read_text(), source=str(path))


def imports(prefix: Path, module: str) -> str:
    argv = [str(prefix / "bin/python"), "-c", f"import {module}; print({module}.said)"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_an_sdist_that_was_named_is_built_locked_carried_and_installed(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str, tmp_path: Path
) -> None:
    source = project(tmp_path / "src", "from-source", requires="greet-wire")
    sha256 = add_sdist(own_index, source, "from-source")
    write_spec(envforge, channel, platform, own_index, "from-source")
    refused = envforge("lock", *GLIBC, status=1)
    refused.assert_error(1, "no wheel of from-source", "envforge lock --no-binary from-source")

    done = envforge("lock", *GLIBC, "--no-binary", "from_source")
    assert done.err.count("its own code runs on this machine") == 1
    lockfile = envforge.cwd / "conda-lock.yml"
    row = rows(lockfile)["from-source"]
    assert row.url == "built:from_source-1.0-py3-none-any.whl"
    assert row.dependencies == {"greet-wire": "*"}
    assert "greet-wire" in rows(lockfile)

    # What others read is the sdist, which they can fetch and build.
    shared = {one["name"]: one for one in yaml.safe_load(lockfile.read_text())["package"]}
    assert shared["from-source"]["hash"] == {"sha256": sha256}
    assert shared["from-source"]["url"].endswith("/from_source-1.0.tar.gz")

    read = "import sys; from conda_lock.lockfile import parse_conda_lock_file as read; import pathlib;"
    read += "print([p.url for p in read(pathlib.Path('conda-lock.yml')).package if p.manager == 'pip'])"
    argv = [sys.executable, "-W", "ignore", "-c", read]
    told = subprocess.run(argv, cwd=envforge.cwd, capture_output=True, text=True, check=True).stdout
    assert "from_source-1.0.tar.gz" in told

    before = lockfile.read_bytes()
    again = envforge("lock", *GLIBC)
    assert "runs on this machine" not in again.err
    assert lockfile.read_bytes() == before
    envforge("lock", "--check", *GLIBC)

    shutil.rmtree(own_index / "simple" / "from-source")  # what was built need not be fetched, or built
    envforge("bundle", "--no-runtime", "-o", "env.sh")
    envforge("install", "env.sh", "--prefix", "P")
    assert imports(envforge.cwd / "P", "from_source") == "hello from from-source"
    envforge("verify", "P", "--against", "env.sh")


def test_another_laptop_locks_the_same_and_builds_the_same(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str, tmp_path: Path
) -> None:
    add_sdist(own_index, project(tmp_path / "src", "from-source"), "from-source")
    write_spec(envforge, channel, platform, own_index, "--no-binary from-source", "from-source")
    envforge("lock", *GLIBC)
    lockfile = (envforge.cwd / "conda-lock.yml").read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(envforge.cwd / "environment.yml", elsewhere)
    other = {"ENVFORGE_CACHE": str(tmp_path / "cache"), "TZ": "Asia/Tokyo"}
    envforge("lock", *GLIBC, cwd=elsewhere, env=other, umask=0o077)
    assert (elsewhere / "conda-lock.yml").read_bytes() == lockfile

    third = {"ENVFORGE_CACHE": str(tmp_path / "third")}
    done = envforge("mirror", "conda-lock.yml", "mirror", env=third)
    assert "building from-source 1.0 again" in done.err
    envforge("mirror", "conda-lock.yml", "mirror-here")
    one, two = (envforge.cwd / name / "manifest.json" for name in ("mirror", "mirror-here"))
    assert one.read_bytes() == two.read_bytes()


def test_a_project_is_built_from_the_specification(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str, tmp_path: Path
) -> None:
    source = project(envforge.cwd / "mine", "my-tools", requires="greet-wire")
    write_spec(envforge, channel, platform, own_index, "-e ./mine", "greet-client")
    envforge("lock", *GLIBC)
    lockfile = envforge.cwd / "conda-lock.yml"
    assert rows(lockfile)["my-tools"].url == "built:my_tools-1.0-py3-none-any.whl"
    text = yaml.safe_load(lockfile.read_text())
    assert "my-tools" not in {one["name"] for one in text["package"]}  # nobody else could fetch it
    assert text["metadata"]["custom_metadata"]["envforge.format"] == "2"
    assert sorted(path.name for path in source.iterdir()) == [
        "PKG-INFO",
        "backend.py",
        "my_tools.py",
        "pyproject.toml",
    ]
    said = json.loads(text["metadata"]["custom_metadata"][f"envforge.built.{platform}.my-tools"])
    assert said["source"] == "mine"
    envforge("lock", "--check", *GLIBC)
    before = lockfile.read_bytes()
    envforge("lock", *GLIBC)
    assert lockfile.read_bytes() == before

    envforge("install", "conda-lock.yml", "--prefix", "P", "--store", "store")
    assert imports(envforge.cwd / "P", "my_tools") == "hello from my-tools"

    (source / "my_tools.py").write_text("said = 'something else'\n")
    fresh = {"ENVFORGE_CACHE": str(tmp_path / "fresh")}
    changed = envforge("mirror", "conda-lock.yml", "mirror", env=fresh, status=3)
    changed.assert_error(3, "mine builds another wheel than the one that is locked", "envforge lock")
    envforge("mirror", "conda-lock.yml", "mirror")  # the one that is locked is still in the cache
    envforge("lock", *GLIBC)
    assert lockfile.read_bytes() != before


def test_check_names_what_was_not_built(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str
) -> None:
    write_spec(envforge, channel, platform, own_index, "greet-client")
    envforge("lock", *GLIBC)
    unbuilt = envforge("lock", "--check", *GLIBC, "--no-binary", "greet-client", status=1)
    unbuilt.assert_error(1, "greet-client is to be built from its sdist")
    write_spec(envforge, channel, platform, own_index, "greet-client", "./mine")
    missing = envforge("lock", "--check", *GLIBC, status=1)
    missing.assert_error(1, "./mine: no wheel of that project is locked")


def lock_project(
    envforge: Shell, channel: DemoChannel, index: Path, platform: str, status: int, **how: str
) -> Ended:
    project(envforge.cwd / "mine", "my-tools", **how)
    write_spec(envforge, channel, platform, index, "./mine")
    return envforge("lock", *GLIBC, status=status)


def test_a_build_that_is_not_the_same_twice_is_refused(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str
) -> None:
    extra = "files['where.txt'] = os.getcwd()"
    refused = lock_project(envforge, channel, own_index, platform, 3, extra=extra)
    refused.assert_error(3, "two builds of mine differ", "where.txt")
    assert not (envforge.cwd / "conda-lock.yml").exists()


def test_a_build_that_fails_says_what_failed(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str
) -> None:
    refused = lock_project(
        envforge, channel, own_index, platform, 3, extra="raise SystemExit('no Fortran compiler')"
    )
    refused.assert_error(3, "the build of mine failed: no Fortran compiler")


def test_a_wheel_for_another_platform_or_python_is_refused(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str
) -> None:
    other = "linux_aarch64" if platform == "linux-64" else "linux_x86_64"
    refused = lock_project(envforge, channel, own_index, platform, 1, tag=f"cp39-cp39-{other}")
    refused.assert_error(1, f"it is for cp39-cp39-{other}, not for {platform}", "environment.yml:")


def test_where_conda_has_what_cannot_be_built_it_is_named(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str, tmp_path: Path
) -> None:
    add_sdist(own_index, project(tmp_path / "src", "greet", extra="raise SystemExit('no')"), "greet")
    path = write_spec(envforge, channel, platform, own_index, "greet")
    path.write_text(path.read_text().replace("  - greet\n", "", 1))
    refused = envforge("lock", *GLIBC, "--no-binary", "greet", status=3)
    refused.assert_error(
        3, "the build of greet 1.0 failed: no", "take it from conda, whose channels have greet"
    )


@pytest.mark.parametrize("name", [":all:", ":none:", "a/b", "--upgrade"])
def test_every_package_that_may_be_built_has_to_be_named(
    envforge: Shell, journey: Journey, name: str
) -> None:
    refused = envforge("lock", journey.spec, f"--no-binary={name}", status=2)
    refused.assert_error(2, f"--no-binary {name} names no package", "name each package")


def test_what_is_no_project_is_refused(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str
) -> None:
    write_spec(envforge, channel, platform, own_index, "./mine")
    envforge("lock", *GLIBC, status=2).assert_error(2, "mine is not the directory of a project")
    (envforge.cwd / "mine").mkdir()
    envforge("lock", *GLIBC, status=2).assert_error(2, "neither a pyproject.toml nor a setup.py")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda text: text.replace('"wheel":"my_tools', '"wheel":"../my_tools'),
            "is not the name of a wheel",
        ),
        (lambda text: text.replace('"epoch":', '"epoch":-'), "is no time"),
        (lambda text: text.replace('"source":"mine"', '"source":["mine"]'), "where str is needed"),
        (lambda text: text.replace("my-tools: '{", "other: '{"), "it is about my-tools"),
        (lambda text: text.replace('"python":"', '"python":"x'), "version X.Y of Python"),
    ],
)
def test_a_lockfile_that_says_something_else_of_it_is_refused(
    damage: object, words: str, built_lockfile: Path, envforge: Shell
) -> None:
    text = built_lockfile.read_text()
    damaged = damage(text)  # type: ignore[operator]
    assert damaged != text
    (envforge.cwd / "conda-lock.yml").write_text(damaged)
    envforge("mirror", "conda-lock.yml", "mirror", status=2).assert_error(2, words, "custom_metadata")


@pytest.fixture(scope="module")
def built_lockfile(
    tmp_path_factory: pytest.TempPathFactory, channel: DemoChannel, index: DemoIndex, platform: str
) -> Path:
    """A lockfile with a project; do not write into it."""
    place = tmp_path_factory.mktemp("built")
    shell = Shell(place, place)
    lock_project(shell, channel, index.path, platform, 0)
    return place / "conda-lock.yml"


def test_hostile_sdists_write_nothing_outside(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str, tmp_path: Path
) -> None:
    from envforge.edges.building import unpack_sdist
    from envforge.errors import InputError

    def archive(*members: tarfile.TarInfo) -> Path:
        path = tmp_path / "sdist.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for member in members:
                tar.addfile(member, io.BytesIO(b"x" * member.size))
        return path

    def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, size
        return info

    cases = [
        [member("../outside", size=1)],
        [member("/outside", size=1)],
        [member("a/link", tarfile.SYMTYPE, "../../outside")],
        [member("a/link", tarfile.SYMTYPE, "/outside")],
        [member("a/link", tarfile.SYMTYPE, "b"), member("a/link/x", size=1)],
        [member("a/hard", tarfile.LNKTYPE, "b")],
        [member("a/device", tarfile.CHRTYPE)],
        [member("a/x", size=1), member("b/x", size=1)],
        [member("x", size=1)],
    ]
    for number, case in enumerate(cases):
        place = tmp_path / f"into-{number}"
        place.mkdir()
        with pytest.raises(InputError):
            unpack_sdist(archive(*case), place, "sdist.tar.gz")
    assert not (tmp_path / "outside").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="platform wheels are built on Linux only")
def test_a_wheel_with_compiled_code_fits_where_its_libraries_are(platform: str, tmp_path: Path) -> None:
    here = glibc_version() or "2.36"
    python = f"{sys.version_info[0]}.{sys.version_info[1]}.1"
    tag = "cp{0}{1}-cp{0}{1}-linux_{2}".format(*sys.version_info[:2], os.uname().machine)

    def made(name: str, content: Path) -> Path:
        path = tmp_path / name / f"mine-1.0-{tag}.whl"
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.write(content, "mine.so")
            wheel.writestr("mine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        return path

    def target(where: str, glibc: str) -> Target:
        return default_target(where).with_packages((VirtualPackage(name="__glibc", version=glibc),))

    folder = Path(sysconfig.get_config_var("DESTSHARED"))
    own, foreign = (
        made("own", next(folder.glob("array.*.so"))),
        made("foreign", next(folder.glob("_ctypes.*.so"))),
    )
    check_fits(own, target(platform, here), python)
    other = "linux-aarch64" if platform == "linux-64" else "linux-64"
    with pytest.raises(UnsatisfiableError, match=f"not for {other}"):
        check_fits(own, target(other, here), python)
    with pytest.raises(UnsatisfiableError, match=r"it is for .* not for"):
        check_fits(own, target(platform, here), "3.99.0")
    with pytest.raises(UnsatisfiableError, match="it is linked to lib"):
        check_fits(foreign, target(platform, here), python)
    with Path(shutil.which("sh") or "").open("rb") as file:
        read = read_elf(file)
    if read is None or read.glibc <= (2, 17):
        pytest.skip("there is no program here that needs a newer glibc")
    newer = made("newer", Path(shutil.which("sh") or ""))
    check_fits(newer, target(platform, here), python)
    with pytest.raises(UnsatisfiableError, match=r"it needs 2\.\d+, and the target has 2.17"):
        check_fits(newer, target(platform, "2.17"), python)


def test_a_package_without_an_sdist_cannot_be_built(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str
) -> None:
    write_spec(envforge, channel, platform, own_index, "greet-client")
    refused = envforge("lock", *GLIBC, "--no-binary", "greet-client", status=1)
    refused.assert_error(1, "no version of greet-client that fits has an sdist", "leave out --no-binary")


def test_a_name_that_nothing_needs_is_told(
    envforge: Shell, channel: DemoChannel, own_index: Path, platform: str
) -> None:
    write_spec(envforge, channel, platform, own_index, "greet-client")
    done = envforge("lock", *GLIBC, "--no-binary", "greet-cleint")
    assert "note: nothing needs greet-cleint, which --no-binary names" in done.err


# -- real backends ---------------------------------------------------------------------------------------


@pytest.fixture
def pypi() -> None:
    if not Fetcher().reachable("https://pypi.org/simple/"):
        pytest.skip("PyPI is not reached")


def real_spec(envforge: Shell, channel: DemoChannel, platform: str) -> None:
    url = "https://pypi.org/simple"
    text = specification(channel.url, platform, index_url=url, conda=("python",), pip=("./mine",))
    (envforge.cwd / "environment.yml").write_text(text)


@pytest.mark.internet
@pytest.mark.usefixtures("pypi")
def test_a_pure_project_of_hatchling(envforge: Shell, channel: DemoChannel, platform: str) -> None:
    source = envforge.cwd / "mine"
    (source / "src/my_tools").mkdir(parents=True)
    (source / "src/my_tools/__init__.py").write_text("said = 'hello'\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling>=1.24"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "my-tools"\nversion = "1.0"\n'
    )
    real_spec(envforge, channel, platform)
    envforge("lock", *GLIBC)
    text = (envforge.cwd / "conda-lock.yml").read_text()
    assert "hatchling==" in text
    assert "--hash=sha256:" in text
    fresh = {"ENVFORGE_CACHE": str(envforge.home / "fresh")}
    envforge("install", "conda-lock.yml", "--prefix", "P", "--store", "store", env=fresh)  # builds it again
    assert imports(envforge.cwd / "P", "my_tools") == "hello"


@pytest.mark.internet
@pytest.mark.usefixtures("pypi")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="platform wheels are built on Linux only")
def test_a_c_extension_of_setuptools(envforge: Shell, channel: DemoChannel, platform: str) -> None:
    source = envforge.cwd / "mine"
    source.mkdir()
    (source / "my_tools.c").write_text(
        "#include <Python.h>\n"
        'static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "my_tools", 0, -1, 0};\n'
        "PyMODINIT_FUNC PyInit_my_tools(void) {\n"
        "  PyObject *made = PyModule_Create(&module);\n"
        '  PyModule_AddStringConstant(made, "said", "hello from C");\n'
        "  return made;\n}\n"
    )
    (source / "setup.py").write_text(
        "from setuptools import Extension, setup\n"
        "setup(name='my-tools', version='1.0', ext_modules=[Extension('my_tools', ['my_tools.c'])])\n"
    )
    real_spec(envforge, channel, platform)
    envforge("lock", *GLIBC)
    fresh = {"ENVFORGE_CACHE": str(envforge.home / "fresh")}
    envforge("install", "conda-lock.yml", "--prefix", "P", "--store", "store", env=fresh)
    assert imports(envforge.cwd / "P", "my_tools") == "hello from C"
    with zipfile.ZipFile(next((envforge.home / "fresh/built").glob("*/*.whl"))) as wheel:
        assert {info.compress_type for info in wheel.infolist()} == {zipfile.ZIP_STORED}
