"""The tools that own the formats read, and where they can install, what envforge writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envforge.edges.process import uv_executable
from envforge.model.lockfile import Lockfile
from tests.conftest import Journey
from tests.foreign.support import PLAIN, call, read

RATTLER = """
import json, os, sys
from pathlib import Path
from rattler import LockFile
from rattler.explicit_environment import ExplicitEnvironmentSpec
answer = {}
for name in sys.argv[1:]:
    path = Path(name)
    if path.name.endswith(".txt"):
        spec = ExplicitEnvironmentSpec.from_path(path)
        answer[path.name] = {"platform": str(spec.platform), "urls": [str(p.url) for p in spec.packages]}
        continue
    found = {}
    for env, content in LockFile.from_path(path).environments():
        for platform in content.platforms():
            packages = content.packages(platform) or []
            found[f"{env} {getattr(platform, 'name', platform)}"] = sorted(
                [str(p.location), str(getattr(p, "version", "")), p.hashes.sha256.hex()] for p in packages
            )
    answer[path.name] = found
print(json.dumps(answer))
sys.stdout.flush()
os._exit(0)
"""


def rattler(*paths: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", RATTLER, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(*argv: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    kept = {key: os.environ[key] for key in ("PATH", "SSL_CERT_FILE", "LANG", "HOME") if key in os.environ}
    done = subprocess.run(
        list(map(str, argv)),
        cwd=cwd,
        env=kept | {"PIP_CONFIG_FILE": os.devnull} | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def lock(journey: Journey) -> Lockfile:
    return read(journey.lockfile)


def exported(name: str, source: Path, path: Path, *options: object) -> Path:
    ended = call("export", name, source, "-o", path, *options)
    assert ended.status == 0, ended.err
    return path


@pytest.mark.parametrize("version", [7, 6])
def test_rattler_reads_our_pixi_lock(version: int, tmp_path: Path) -> None:
    path = exported("pixi", PLAIN, tmp_path / "pixi.lock", "--format-version", version)
    found, plain = rattler(path)["pixi.lock"], read(PLAIN)
    for platform in plain.platforms:
        for group, environment in (("main", "default"), ("dev", "dev"), ("test", "test")):
            rows = plain.rows(platform, {"main", group})
            assert {(url, sha) for url, _, sha in found[f"{environment} {platform}"]} == {
                (row.url, row.sha256) for row in rows
            }


def test_rattler_writes_our_pixi_lock_as_it_is(tmp_path: Path) -> None:
    path = exported("pixi", PLAIN, tmp_path / "pixi.lock")
    again = tmp_path / "again.lock"
    program = (
        "import os, sys; from pathlib import Path; from rattler import LockFile\n"
        "LockFile.from_path(Path(sys.argv[1])).to_path(Path(sys.argv[2])); os._exit(0)"
    )
    run(sys.executable, "-c", program, path, again, cwd=tmp_path)
    assert again.read_text() == path.read_text()


@pytest.mark.parametrize("md5", [True, False])
def test_rattler_reads_our_explicit_file(md5: bool, tmp_path: Path) -> None:
    options = ["--md5"] if md5 else []
    path = exported("explicit", PLAIN, tmp_path / "explicit.txt", "-p", "linux-64", *options)
    found = rattler(path)["explicit.txt"]
    assert found["platform"] == "linux-64"
    rows = [row for row in read(PLAIN).rows("linux-64") if row.manager == "conda"]
    urls = {str(url).partition("#")[0] for url in found["urls"]}
    assert urls == {row.url for row in rows}


def test_conda_lock_reads_the_pip_comments_of_our_explicit_file(tmp_path: Path) -> None:
    path = exported("explicit", PLAIN, tmp_path / "explicit.txt", "-p", "linux-64")
    program = (
        "import sys; from conda_lock.conda_lock import PKG_PATTERN\n"
        "for line in open(sys.argv[1]).read().splitlines():\n"
        "    if PKG_PATTERN.match(line) and line.startswith('# pip '): print(line.split('# pip ')[1])"
    )
    out = run(sys.executable, "-c", program, path, cwd=tmp_path)
    found = [(line.split(" @ ")[0], line.split(" @ ")[1]) for line in out.splitlines()]
    rows = [row for row in read(PLAIN).rows("linux-64") if row.manager == "pip"]
    assert found == [(row.name, f"{row.url}#sha256={row.sha256}") for row in rows]


def test_conda_lock_reads_our_environment(tmp_path: Path) -> None:
    path = exported("environment", PLAIN, tmp_path / "environment.yml", "-p", "linux-64")
    program = (
        "import json, sys; from pathlib import Path\n"
        "from conda_lock.src_parser.environment_yaml import parse_environment_file as read\n"
        "spec = read(Path(sys.argv[1]), platforms=['linux-64'], mapping_url=sys.argv[2])\n"
        "print(json.dumps([[d.name, d.manager, d.version] for d in spec.dependencies['linux-64']]))"
    )
    (tmp_path / "names.json").write_text("{}")
    out = run(sys.executable, "-c", program, path, (tmp_path / "names.json").as_uri(), cwd=tmp_path)
    found = {name: (manager, version) for name, manager, version in json.loads(out)}
    assert "3.12.11" in found["python"][1]
    assert found["einops"][0] == "pip"
    assert {"libzlib", "tzdata"} <= found.keys()


def environment(tmp_path: Path) -> Path:
    """An empty environment to install into."""
    path = tmp_path / "env"
    run(sys.executable, "-m", "venv", "--without-pip", path, cwd=tmp_path)
    return path


def installed(env: Path) -> set[str]:
    return {path.name.split("-")[0] for path in env.glob("lib/python*/site-packages/*.dist-info")}


def wheels(lock: Lockfile) -> set[str]:
    return {row.name.replace("-", "_") for row in lock.packages if row.manager == "pip"}


def test_pip_installs_our_pylock(journey: Journey, lock: Lockfile, tmp_path: Path) -> None:
    path = exported("pylock", journey.lockfile, tmp_path / "pylock.toml")
    env = environment(tmp_path)
    run(sys.executable, "-m", "pip", "--python", env, "install", "-q", "--no-deps", "-r", path, cwd=tmp_path)
    assert installed(env) == wheels(lock)


def test_pip_refuses_a_file_that_is_not_the_locked_one(journey: Journey, tmp_path: Path) -> None:
    path = exported("pylock", journey.lockfile, tmp_path / "pylock.toml")
    path.write_text(re.sub(r'sha256 = "[0-9a-f]{4}', 'sha256 = "0000', path.read_text()))
    env = environment(tmp_path)
    with pytest.raises(AssertionError, match=r"(?i)hash"):
        run(sys.executable, "-m", "pip", "--python", env, "install", "-q", "-r", path, cwd=tmp_path)


@pytest.mark.parametrize("name", ["pylock.toml", "requirements.txt"])
def test_uv_installs_ours(name: str, journey: Journey, lock: Lockfile, tmp_path: Path) -> None:
    path = exported(name.split(".")[0], journey.lockfile, tmp_path / name)
    env = environment(tmp_path)
    options = ["--no-config", "--offline", "--cache-dir", tmp_path / "cache", "--no-deps"]
    hashes = ["--require-hashes"] if name.startswith("req") else []
    run(uv_executable(), "pip", "install", "-q", "--python", env, *options, *hashes, "-r", path, cwd=tmp_path)
    assert installed(env) == wheels(lock)


def test_pip_installs_our_requirements(journey: Journey, lock: Lockfile, tmp_path: Path) -> None:
    path = exported("requirements", journey.lockfile, tmp_path / "requirements.txt")
    env = environment(tmp_path)
    pip = [sys.executable, "-m", "pip", "--python", env, "install", "-q", "--no-deps", "--require-hashes"]
    run(*pip, "-r", path, cwd=tmp_path)
    assert installed(env) == wheels(lock)


def test_pip_sync_takes_our_requirements(journey: Journey, tmp_path: Path) -> None:
    path = exported("requirements", journey.lockfile, tmp_path / "requirements.txt")
    program = (
        "import sys; from piptools.sync import diff, merge\n"
        "from piptools._compat import parse_requirements\n"
        "from pip._internal.network.session import PipSession\n"
        "found = list(parse_requirements(sys.argv[1], session=PipSession(), finder=None, options=None))\n"
        "to_install, _ = diff(merge(found, ignore_conflicts=False), [])\n"
        "print(*sorted(str(r.link or r.req) for r in to_install))"
    )
    out = run(sys.executable, "-c", program, path, cwd=tmp_path)
    assert out.count("greet_client") == 1


# -- tools that are installed once a session, where PyPI is reached ------------------------------------------


@pytest.fixture(scope="module")
def micropipenv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _tool("micropipenv[toml]", "pip", directory=tmp_path_factory.mktemp("micropipenv"))


@pytest.fixture(scope="module")
def pipenv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _tool("pipenv", directory=tmp_path_factory.mktemp("pipenv"))


def _tool(*requirements: str, directory: Path) -> Path:
    """The Python of a new environment with a tool in it."""
    env = directory / "env"
    cache = ["--no-config"]
    made = subprocess.run(
        [uv_executable(), "venv", "-q", *cache, "--python", sys.executable, str(env)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        [uv_executable(), "pip", "install", "-q", *cache, "--python", str(env), *requirements],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"{requirements[0]} cannot be installed here: {done.stderr.splitlines()[-1]}")
    return env / "bin" / "python"


@pytest.mark.internet
def test_micropipenv_reads_our_pipfile_lock(journey: Journey, micropipenv: Path, tmp_path: Path) -> None:
    exported("pipfile", journey.lockfile, tmp_path / "Pipfile.lock")
    out = run(micropipenv, "-m", "micropipenv", "requirements", "--method", "pipenv", cwd=tmp_path)
    assert "greet" in out
    assert "--hash=sha256:" in out


@pytest.mark.internet
def test_pipenv_takes_our_pipfile_lock_for_one_of_our_pipfile(
    journey: Journey, pipenv: Path, tmp_path: Path
) -> None:
    from envforge.formats.pipfile_lock import pipfile

    lockfile = read(journey.lockfile)
    exported("pipfile", journey.lockfile, tmp_path / "Pipfile.lock")
    python = next(row.version for row in lockfile.packages if row.name == "python")
    (tmp_path / "Pipfile").write_text(pipfile(python))
    env = {
        "PIPENV_IGNORE_VIRTUALENVS": "1",
        "PIPENV_VENV_IN_PROJECT": "1",
        "PIPENV_NOSPIN": "1",
        "PATH": f"{pipenv.parent}:{os.environ['PATH']}",
    }
    run(pipenv, "-m", "pipenv", "verify", cwd=tmp_path, env=env)
    out = run(pipenv, "-m", "pipenv", "requirements", "--hash", cwd=tmp_path, env=env)
    assert "greet" in out
