"""Stock tools read a mirror, with no envforge in sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import conda_package_streaming.package_streaming as streaming
import pytest
import zstandard
from uv import find_uv_bin

from envforge.edges.archive import conda_index
from envforge.model.lockfile import LockedPackage
from tests.mirror.world import Site, lock, mirrored, serve

RATTLER = """
import asyncio, json, os, sys
from pathlib import Path
from rattler import Channel, Gateway, SourceConfig, Subdir, install, solve
url, prefix, cache, kinds = sys.argv[1:]
async def main():
    config = SourceConfig(sharded_enabled=False, zstd_enabled="zst" in kinds, bz2_enabled=False)
    gateway = Gateway(cache_dir=cache + "/repodata", default_config=config)
    records = await solve(
        [Channel(url)], ["app"], gateway=gateway, platforms=["linux-64", "noarch"],
        virtual_packages=[],
    )
    await install(records, prefix, cache_dir=cache + "/packages", platform=Subdir("linux-64"))
    found = sorted((r.name.normalized, str(r.version), sorted(str(d) for d in r.depends)) for r in records)
    print(json.dumps(found))
asyncio.run(main())
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def mirror_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An application and two libraries as conda packages, two wheels of which one needs the other."""
    root = tmp_path_factory.mktemp("peers")
    site = Site(root / "site")
    rows: list[LockedPackage] = [
        site.conda("app", depends=["liba >=1", "libb"], locked=["liba >=1,<2", "libb"]),
        site.conda("liba", subdir="linux-64", suffix=".tar.bz2"),
        site.conda("libb", version="2.0", subdir="linux-64", build="h123_0"),
        site.wheel("my-app", requires=["my-lib>=1"], requires_python=">=3.8", body="import my_lib\n"),
        site.wheel("my-lib", body="answer = 42\n", version="1.5+local.1"),
    ]
    mirrored(root / "mirror dir", lock(*rows, channels=[f"{site.url}/forge"]))
    return root / "mirror dir"


@pytest.fixture(scope="module")
def url(mirror_dir: Path) -> Iterator[str]:
    with serve(mirror_dir) as (url, _):
        yield url


def run(*argv: object, env: dict[str, str] | None = None) -> str:
    clean = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull} | (env or {})
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, env=clean, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("kinds", ["file", "http", "http zst"])
def test_rattler_solves_and_installs(mirror_dir: Path, tmp_path: Path, kinds: str) -> None:
    with serve(mirror_dir) as (url, faults):
        base = mirror_dir.as_uri() if kinds == "file" else url
        argv = [f"{base}/conda/forge", tmp_path / "prefix", tmp_path / "cache", kinds]
        out = run(sys.executable, "-c", RATTLER, *argv, env={"HOME": str(tmp_path)})
    assert json.loads(out) == [
        ["app", "1.0", ["liba >=1,<2", "libb"]],  # the channel's hotfix, not the package's own list
        ["liba", "1.0", []],
        ["libb", "2.0", []],
    ]
    assert {p.name for p in (tmp_path / "prefix/share").iterdir()} == {"app.txt", "liba.txt", "libb.txt"}
    wanted = {"file": [], "http": ["repodata.json"] * 2, "http zst": ["repodata.json.zst"] * 2}[kinds]
    indexes = [path.rpartition("/")[2] for path in faults.requests if "repodata" in path]
    assert [name for name in indexes if name in ("repodata.json", "repodata.json.zst")] == wanted


def hashed(mirror_dir: Path) -> str:
    lines = []
    for name, version in (("my-app", "1.0"), ("my-lib", "1.5+local.1")):
        page = json.loads((mirror_dir / f"pypi/simple/{name}/index.json").read_text())
        lines.append(f"{name}=={version} --hash=sha256:{page['files'][0]['hashes']['sha256']}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("scheme", ["file", "http"])
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_pip_and_uv_install_with_hashes(
    mirror_dir: Path, url: str, tmp_path: Path, tool: str, scheme: str
) -> None:
    base = mirror_dir.as_uri() if scheme == "file" else url
    (tmp_path / "requirements.txt").write_text(hashed(mirror_dir))
    options = ["--require-hashes", "-r", tmp_path / "requirements.txt", "--target", tmp_path / "site"]
    if tool == "pip":
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--isolated", "install"]
        run(*pip, "--no-cache-dir", "--index-url", f"{base}/pypi/simple", *options)
    else:
        uv = [find_uv_bin(), "pip", "install", "--no-config", "--cache-dir", tmp_path / "cache"]
        run(*uv, "--python", sys.executable, "--default-index", f"{base}/pypi/simple", *options)
    code = "import my_app; print(my_app.my_lib.answer)"
    assert run(sys.executable, "-c", code, env={"PYTHONPATH": str(tmp_path / "site")}) == "42\n"


def test_uv_and_pip_resolve_from_metadata_alone(mirror_dir: Path, tmp_path: Path) -> None:
    """Requirements are read from the METADATA beside the wheel; the wheel itself is not asked for."""
    with serve(mirror_dir) as (url, faults):
        (tmp_path / "requirements.in").write_text("my-app\n")
        out = run(
            find_uv_bin(), "pip", "compile", "--no-config", "--no-header", "--no-annotate", "--cache-dir",
            tmp_path / "cache", "--python", sys.executable, "--default-index", f"{url}/pypi/simple",
            tmp_path / "requirements.in",
        )  # fmt: skip
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--isolated", "install"]
        run(
            *pip,
            "--no-cache-dir",
            "--dry-run",
            "--ignore-installed",
            "--index-url",
            f"{url}/pypi/simple",
            "my-app",
        )
    assert out == "my-app==1.0\nmy-lib==1.5+local.1\n"
    assert not [path for path in faults.requests if path.endswith(".whl")]
    assert len([path for path in faults.requests if path.endswith(".whl.metadata")]) == 4


def test_pip_respects_requires_python(mirror_dir: Path) -> None:
    page = (mirror_dir / "pypi/simple/my-app/index.html").read_text()
    assert 'data-requires-python="&gt;=3.8"' in page


def test_conda_package_streaming_reads_what_is_indexed(mirror_dir: Path) -> None:
    """Our records agree with what conda's own reader finds in the files."""
    for repodata in mirror_dir.glob("conda/forge/*/repodata.json"):
        document = json.loads(repodata.read_text())
        frame = repodata.with_name("repodata.json.zst").read_bytes()
        assert zstandard.ZstdDecompressor().decompress(frame) == repodata.read_bytes()
        for filename, entry in (document["packages"] | document["packages.conda"]).items():
            path = repodata.parent / filename
            index = None
            for tar, member in streaming.stream_conda_info(path):
                if member.name == "info/index.json":
                    index = json.load(tar.extractfile(member))
            assert index == conda_index(path, filename)
            assert {**index, "depends": entry["depends"]} == {
                key: value for key, value in entry.items() if key not in ("md5", "sha256", "size")
            }
