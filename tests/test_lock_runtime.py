"""The runtime in the lockfile: whose Python it is, that it stays, and that a mirror has it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from envforge.demo.channel import ChannelBuilder
from envforge.demo.packages import Package
from envforge.formats import conda_lock, manifest_json
from envforge.model.lockfile import Lockfile
from envforge.model.runtime import runtime_key, runtime_rows
from tests.conftest import Ended, Journey, Shell, specification
from tests.node.world import run_all

LINUX = "linux-64"


def package(name: str, version: str = "1.0", *depends: str, build: str = "0", subdir: str = LINUX) -> Package:
    return Package(name=name, version=version, build=build, subdir=subdir, depends=depends)


def pythons(builder: ChannelBuilder, *versions: str, subdir: str = LINUX) -> None:
    """Some Pythons that need two libraries, one of them through the other, and one that none needs."""
    for version in versions:
        builder.add(
            package("python", version, "libz >=1", "__glibc >=2.17", build="h0_cpython", subdir=subdir)
        )
    for one in (("libz", "1.0", "libdeep"), ("libdeep", "1.0"), ("tool", "1.0")):
        builder.add(package(*one, subdir=subdir))
    builder.add(package("old-tool", "1.0", "python <3.10", subdir=subdir))
    builder.write_index()


def spec(envforge: Shell, builder: ChannelBuilder, conda: Sequence[str], platform: str = LINUX) -> None:
    (envforge.cwd / "environment.yml").write_text(specification(builder.url, platform, conda=conda))


def locked(envforge: Shell) -> Lockfile:
    return conda_lock.read((envforge.cwd / "conda-lock.yml").read_text(), source="x")


def names(lockfile: Lockfile, platform: str = LINUX) -> dict[str, str]:
    return {row.name: row.version for row in runtime_rows(lockfile, platform)}


def test_it_shares_the_environments_python(journey: Journey) -> None:
    lockfile = conda_lock.read(journey.lockfile.read_text(), source="x")
    platform = lockfile.platforms[0]
    (python,) = (row for row in lockfile.packages if row.name == "python")
    (mine,) = runtime_rows(lockfile, platform)
    assert (mine.url, mine.sha256, mine.md5) == (python.url, python.sha256, python.md5)
    text = lockfile.custom[runtime_key(platform)]
    assert text == json.dumps([[python.url, python.sha256, python.md5]], separators=(",", ":"))


def test_it_is_what_python_needs_and_no_more(envforge: Shell, builder: ChannelBuilder) -> None:
    pythons(builder, "3.12.1", "3.9.1")
    spec(envforge, builder, ("python 3.12.*", "tool"))
    envforge("lock")
    assert names(locked(envforge)) == {"python": "3.12.1", "libz": "1.0", "libdeep": "1.0"}


def test_an_environment_without_a_usable_python_has_one_beside_it(
    envforge: Shell, builder: ChannelBuilder
) -> None:
    pythons(builder, "3.12.1", "3.9.1")
    builder.add(package("python", "3.13.0", build="h0_cp313t"))
    builder.write_index()
    for conda in (("tool",), ("old-tool",), ("python 3.13.*",)):
        spec(envforge, builder, conda)
        run_all(envforge, [("lock", "-U")])
        lockfile = locked(envforge)
        assert "3.12.1" not in {row.version for row in lockfile.packages}
        assert names(lockfile)["python"] == "3.12.1", conda


def test_a_channel_without_python_is_no_trouble(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(package("tool"))
    builder.write_index()
    spec(envforge, builder, ("tool",))
    quiet, loud = run_all(envforge, [("lock",), ("lock", "-v")])
    assert (quiet.status, quiet.err) == (0, "")
    assert loud.err.count("no runtime for linux-64") == 1
    assert runtime_rows(locked(envforge), LINUX) == ()


def test_only_platforms_of_the_nodes_half_have_one(envforge: Shell, builder: ChannelBuilder) -> None:
    for platform in ("linux-aarch64", "linux-ppc64le", "osx-arm64"):
        pythons(builder, "3.12.1", subdir=platform)
    pythons(builder, "3.12.1")
    spec(envforge, builder, ("tool",), "linux-64\n  - linux-aarch64\n  - linux-ppc64le\n  - osx-arm64")
    envforge("lock")
    keys = [key for key in locked(envforge).custom if key.startswith("envforge.runtime.")]
    assert keys == ["envforge.runtime.linux-64", "envforge.runtime.linux-aarch64"]


def test_it_stays_when_something_newer_comes(envforge: Shell, builder: ChannelBuilder) -> None:
    pythons(builder, "3.11.1")
    spec(envforge, builder, ("tool",))
    envforge("lock")
    before = (envforge.cwd / "conda-lock.yml").read_text()
    pythons(builder, "3.11.1", "3.12.1")

    def text_after(*words: str) -> str:
        (done,) = run_all(envforge, [("lock", *words)])
        assert done.status == 0, done.err
        return (envforge.cwd / "conda-lock.yml").read_text()

    assert text_after() == before
    assert names(locked(envforge)) == {"python": "3.11.1", "libz": "1.0", "libdeep": "1.0"}
    digest = locked(envforge).digest()
    text_after("-P", "python")
    assert names(locked(envforge))["python"] == "3.12.1"
    assert locked(envforge).digest() == digest


def test_what_it_says_may_be_nonsense_and_is_locked_anew(envforge: Shell, builder: ChannelBuilder) -> None:
    pythons(builder, "3.12.1")
    spec(envforge, builder, ("tool",))
    envforge("lock")
    path = envforge.cwd / "conda-lock.yml"
    good = path.read_text()
    (line,) = (line for line in good.splitlines() if "envforge.runtime.linux-64" in line)
    path.write_text(good.replace(line, "    envforge.runtime.linux-64: nonsense"))
    mirrored, again = run_all(envforge, [("mirror", "conda-lock.yml", "m"), ("lock",)])
    mirrored.assert_error(2, "runtime", "envforge lock")
    assert again.status == 0
    assert path.read_text() == good


def mirrored(envforge: Shell, *words: str) -> Ended:
    (done,) = run_all(envforge, [("mirror", "conda-lock.yml", "mirror", *words)])
    assert done.status == 0, done.err
    return done


def test_a_mirror_has_it(envforge: Shell, builder: ChannelBuilder) -> None:
    pythons(builder, "3.12.1")
    spec(envforge, builder, ("tool",))
    envforge("lock")
    mirrored(envforge)
    root = envforge.cwd / "mirror"
    manifest = manifest_json.read((root / "manifest.json").read_text())
    artifacts = {file.path for file in manifest.files if file.path.endswith(".conda")}
    stems = ("libdeep-1.0-0", "libz-1.0-0", "python-3.12.1-h0_cpython", "tool-1.0-0")
    assert artifacts == {f"conda/channel/linux-64/{stem}.conda" for stem in stems}
    repodata = json.loads((root / "conda/channel/linux-64/repodata.json").read_text())
    records = repodata["packages.conda"]
    assert records["python-3.12.1-h0_cpython.conda"]["depends"] == ["libz >=1", "__glibc >=2.17"]
    before = (root / "manifest.json").read_bytes()
    mirrored(envforge, "--prune")
    assert (root / "manifest.json").read_bytes() == before
    (done,) = run_all(envforge, [("install", "mirror", "--prefix", envforge.cwd / "p")])
    assert done.status == 0, done.err
    assert not (envforge.cwd / "p" / "conda-meta" / "python-3.12.1-h0_cpython.json").exists()
    (done,) = run_all(envforge, [("verify", "mirror")])
    assert done.status == 0, done.err
