"""Locking through the command line: what it writes, what it keeps, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from envforge.demo.channel import ChannelBuilder, DemoChannel, greet_core_package
from envforge.demo.index import DemoIndex, IndexBuilder, Wheel
from envforge.demo.packages import File, Package
from envforge.formats import conda_lock, profile_json
from envforge.model.lockfile import Lockfile
from envforge.model.profile import ClusterProfile
from tests.conftest import GLIBC, Journey, Shell, specification


def small(name: str, version: str = "1.0", **more: object) -> Package:
    """A noarch package with one file."""
    given = {"subdir": "noarch", "noarch": "generic", "files": {f"share/{name}": File(data=b"x")}, **more}
    return Package(name=name, version=version, **given)  # type: ignore[arg-type]


def write_spec(envforge: Shell, *lines: str) -> Path:
    path = envforge.cwd / "environment.yml"
    path.write_text("\n".join([*lines, ""]))
    return path


def locked(path: Path) -> Lockfile:
    return conda_lock.read(path.read_text(), source=str(path))


def versions(path: Path, platform: str = "linux-64") -> dict[str, str]:
    return {row.name: row.version for row in locked(path).packages if row.platform == platform}


# -- what it writes --------------------------------------------------------------------------------------


def test_every_row_has_url_and_hashes_and_pip_rows_their_dependencies(journey: Journey) -> None:
    lockfile = locked(journey.lockfile)
    for row in lockfile.packages:
        assert row.url
        assert row.sha256
        assert (row.md5 is not None) == (row.manager == "conda")
    by_name = {row.name: row for row in lockfile.packages}
    assert by_name["greet-client"].manager == "pip"
    assert by_name["greet-client"].dependencies == {"greet-core": ">=1", "greet-wire": "*"}
    assert by_name["greet-core"].manager == "conda"
    assert sum(row.name == "greet-core" for row in lockfile.packages) == 1


def test_the_same_specification_gives_the_same_bytes(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "environment.yml").write_text(journey.spec.read_text())
    day = {"TZ": "Asia/Tokyo", "ENVFORGE_CACHE": str(tmp_path / "cache"), "PYTHONHASHSEED": "7"}
    envforge("lock", "environment.yml", *GLIBC, cwd=other, env=day, umask=0o077)
    assert (other / "conda-lock.yml").read_bytes() == journey.lockfile.read_bytes()


def test_conda_lock_parses_and_renders_it(journey: Journey, platform: str, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from conda_lock.lockfile import parse_conda_lock_file as read;"
        "content = read(pathlib.Path(sys.argv[1])); print(sorted(p.name for p in content.package))"
    )
    argv = [sys.executable, "-W", "ignore", "-c", program, str(journey.lockfile)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "greet-client" in done.stdout
    words = ["-m", "conda_lock", "render", "--kind", "explicit", "-p", platform, str(journey.lockfile)]
    subprocess.run([sys.executable, "-W", "ignore", *words], cwd=tmp_path, check=True, capture_output=True)
    explicit = (tmp_path / f"conda-{platform}.lock").read_text()
    assert "@EXPLICIT" in explicit
    assert "greet-core-1.4" in explicit


def test_the_host_is_not_the_target(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(small("old", depends=("__glibc >=2.17",)))
    builder.add(small("gpu", depends=("__cuda >=12",)))
    builder.add(small("new", depends=("__glibc >=2.40",)))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [old]")
    envforge("lock", "-p", "linux-aarch64", "-p", "linux-64")
    lockfile = locked(envforge.cwd / "conda-lock.yml")
    assert lockfile.platforms == ("linux-64", "linux-aarch64")
    assert str(lockfile.target("linux-64")) == "__archspec=1=x86_64 __glibc=2.28 __linux=4.18 __unix=0"
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [new]")
    envforge("lock", "-p", "linux-64", status=None).assert_error(1, "new", "--glibc")
    envforge("lock", "-p", "linux-64", "--glibc", "2.40")
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [gpu]")
    envforge("lock", "-p", "linux-64", status=None).assert_error(1, "gpu", "--cuda")
    envforge("lock", "-p", "linux-64", "--cuda", "12.4")


def test_what_was_assumed_is_kept_and_a_change_is_said(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(small("a"))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a]", "platforms: [linux-64]")
    envforge("lock", "--glibc", "2.34", "--cuda", "12.4")
    again = envforge("lock")
    assert "unchanged" in again.out
    assert "__cuda=12.4" in again.out
    changed = envforge("lock", "--glibc", "2.28")
    assert "was locked for" in changed.err


def test_the_whole_matchspec_is_kept(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(small("a", depends=("b 1.* x_*", "b >=1,<2", "__glibc >=2.17,<3.0.a0")))
    builder.add(small("b", build="x_0"))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a]", "platforms: [linux-64]")
    envforge("lock")
    row = next(row for row in locked(envforge.cwd / "conda-lock.yml").packages if row.name == "a")
    assert row.dependencies == {"b": "1.* x_*,>=1,<2", "__glibc": ">=2.17,<3.0.a0"}


def test_a_channel_without_hashes_has_them_computed(envforge: Shell, builder: ChannelBuilder) -> None:
    import hashlib

    path = builder.add(small("a"), hotfix={"md5": None, "sha256": None})
    builder.write_index()
    for file in builder.directory.rglob("repodata.json"):
        document = json.loads(file.read_text())
        for record in document["packages.conda"].values():
            record.pop("md5", None)
            record.pop("sha256", None)
        file.write_text(json.dumps(document))
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a]", "platforms: [linux-64]")
    envforge("lock")
    (row,) = locked(envforge.cwd / "conda-lock.yml").packages
    assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert row.md5 == hashlib.md5(path.read_bytes()).hexdigest()


# -- locking again -----------------------------------------------------------------------------------------


def test_versions_are_kept_until_they_are_let_go(envforge: Shell, builder: ChannelBuilder) -> None:
    for name in ("a", "b"):
        builder.add(small(name))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a, b]", "platforms: [linux-64]")
    envforge("lock")
    for name in ("a", "b"):
        builder.add(small(name, "2.0"))
    builder.write_index()
    output = envforge.cwd / "conda-lock.yml"
    envforge("lock")
    assert versions(output) == {"a": "1.0", "b": "1.0"}
    envforge("lock", "-P", "a")
    assert versions(output) == {"a": "2.0", "b": "1.0"}
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a, b>=2]", "platforms: [linux-64]")
    envforge("lock")
    assert versions(output) == {"a": "2.0", "b": "2.0"}
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a, b<2]", "platforms: [linux-64]")
    envforge("lock")
    assert versions(output) == {"a": "2.0", "b": "1.0"}
    envforge("lock", "-U", "--dry-run")
    assert versions(output) == {"a": "2.0", "b": "1.0"}


def test_check_names_the_first_requirement_that_does_not_hold(
    envforge: Shell, builder: ChannelBuilder
) -> None:
    builder.add(small("a"))
    builder.add(small("b"))
    builder.write_index()
    head = (f"channels: [{builder.url}]", "platforms: [linux-64]", "dependencies:")
    write_spec(envforge, *head, "  - a")
    envforge("lock", "--check", status=None).assert_error(1, "no lockfile")
    envforge("lock")
    assert "satisfies" in envforge("lock", "--check").out
    before = (envforge.cwd / "conda-lock.yml").read_bytes()
    write_spec(envforge, *head, "  - a>=2")
    envforge("lock", "--check", status=None).assert_error(1, "a>=2", "environment.yml:4", "1.0")
    write_spec(envforge, *head, "  - a", "  - b")
    envforge("lock", "--check", status=None).assert_error(1, "b is not locked")
    write_spec(envforge, *head, "  - a=1.0=other*")
    envforge("lock", "--check", status=None).assert_error(1, "a=1.0=other*")
    envforge("lock", "--check", "-p", "linux-aarch64", status=None).assert_error(1, "linux-aarch64")
    assert (envforge.cwd / "conda-lock.yml").read_bytes() == before


def test_check_counts_what_conda_provides_for_the_pip_part(envforge: Shell, journey: Journey) -> None:
    text = journey.spec.read_text()
    (envforge.cwd / "environment.yml").write_text(text)
    (envforge.cwd / "conda-lock.yml").write_bytes(journey.lockfile.read_bytes())
    envforge("lock", "--check")
    (envforge.cwd / "environment.yml").write_text(
        text.replace("- greet-client\n", "- greet-client\n      - greet-core>=1.4\n")
    )
    envforge("lock", "--check")
    (envforge.cwd / "environment.yml").write_text(text.replace("- greet-client\n", "- greet-client>=3\n"))
    envforge("lock", "--check", status=None).assert_error(1, "greet-client>=3")


# -- conda and PyPI --------------------------------------------------------------------------------------


def test_a_conflict_between_the_halves_names_both(
    envforge: Shell, channel: DemoChannel, index: DemoIndex, platform: str
) -> None:
    text = specification(channel.url, platform, index_url=index.url, pip=("greet-core>=1.9",))
    (envforge.cwd / "environment.yml").write_text(text)
    done = envforge("lock", *GLIBC, status=None)
    done.assert_error(1, "greet-core>=1.9", "1.4")
    assert not (envforge.cwd / "conda-lock.yml").exists()


def test_an_extra_of_what_conda_provides_comes_from_its_metadata(
    envforge: Shell, channel: DemoChannel, platform: str, tmp_path: Path
) -> None:
    index = IndexBuilder(tmp_path / "index")
    index.add(Wheel(name="alpha", version="1.0", requires=("greet-core",), files={"alpha.py": b""}))
    index.write_index()
    text = specification(channel.url, platform, index_url=index.url, pip=("greet-core[nope]",))
    (envforge.cwd / "environment.yml").write_text(text)
    envforge("lock", *GLIBC, status=None).assert_error(1, "nope", "greet-core")


def test_a_pip_part_needs_python(envforge: Shell, builder: ChannelBuilder, index: DemoIndex) -> None:
    builder.add(small("a"))
    builder.write_index()
    text = specification(builder.url, "linux-64", index_url=index.url, conda=("a",))
    (envforge.cwd / "environment.yml").write_text(text)
    envforge("lock", status=None).assert_error(2, "python")


@pytest.mark.internet
def test_a_wheel_of_the_real_pypi_for_another_platform(envforge: Shell, channel: DemoChannel) -> None:
    from envforge.edges.fetch import Fetcher

    if not Fetcher(retries=0).reachable("https://pypi.org/simple/six/"):
        pytest.skip("PyPI is not reached")
    text = specification(channel.url, "linux-64", conda=("python",)) + ""
    text = text.replace("platforms:", "  - pip:\n      - numpy<2.3\nplatforms:")
    (envforge.cwd / "environment.yml").write_text(text)
    envforge("lock", "--glibc", "2.17")
    (row,) = [row for row in locked(envforge.cwd / "conda-lock.yml").packages if row.manager == "pip"]
    assert "manylinux2014" in row.filename or "manylinux_2_17" in row.filename


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("dependencies: [a\n", 2, ["environment.yml"]),
        ("", 2, ["environment.yml"]),
        ("- a\n", 2, ["environment.yml"]),
        ("channels: [X]\ndependancies: [a]\n", 2, ["dependancies", "dependencies"]),
        ("channels: [X]\ndependencies: [a]\ndependencies: [b]\n", 2, ["dependencies"]),
        ("channels: [X]\ndependencies: ['==']\n", 2, ["=="]),
        ("channels: [X]\ndependencies: [a b c d e]\n", 2, ["a b c d e"]),
        ("channels: [X]\ndependencies: [3.12]\n", 2, ["environment.yml:2"]),
        ("channels: [X]\ndependencies: [a]\nplatforms: [linux]\n", 2, ["linux"]),
        ("channels: [X]\ndependencies: [nothing-of-that-name]\n", 1, ["nothing-of-that-name"]),
        ("channels: [X]\ndependencies: [a>=9]\n", 1, ["a>=9"]),
        ("dependencies: [a]\n", 2, ["channel"]),
        ("channels: [X]\ndependencies: [a, pip: ['--frobnicate']]\n", 2, ["--frobnicate"]),
        ("channels: [X]\ndependencies: [a, pip: ['not a requirement !!']]\n", 2, ["not a requirement"]),
        ("channels: ['file:///no/such/channel']\ndependencies: [a]\n", 2, ["file:///no/such/channel"]),
        ("\0\1\2", 2, ["environment.yml"]),
        ("channels: [X]\ndependencies: !!python/object:os.system [a]\n", 2, ["environment.yml"]),
    ],
)
def test_a_bad_specification_ends_in_three_lines_and_no_lockfile(
    envforge: Shell, builder: ChannelBuilder, text: str, status: int, words: list[str]
) -> None:
    builder.add(small("a"))
    builder.write_index()
    (envforge.cwd / "environment.yml").write_text(text.replace("X", builder.url))
    done = envforge("lock", "-p", "linux-64", status=None)
    if "platforms" in text:
        done = envforge("lock", status=None)
    done.assert_error(status, *words)
    assert sorted(path.name for path in envforge.cwd.iterdir()) == ["environment.yml"]


def test_the_old_lockfile_stays_when_locking_fails(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(small("a"))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a]", "platforms: [linux-64]")
    envforge("lock")
    before = (envforge.cwd / "conda-lock.yml").read_bytes()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a>=9]", "platforms: [linux-64]")
    envforge("lock", status=1)
    assert (envforge.cwd / "conda-lock.yml").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [("version: 1\n", ["conda-lock.yml"]), ("version: 7\n", ["newer"]), ("{", ["conda-lock.yml"])],
)
def test_an_unreadable_lockfile_is_refused_and_not_replaced(
    envforge: Shell, builder: ChannelBuilder, content: str, words: list[str]
) -> None:
    builder.add(small("a"))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [a]", "platforms: [linux-64]")
    (envforge.cwd / "conda-lock.yml").write_text(content)
    envforge("lock", status=None).assert_error(2, *words)
    assert (envforge.cwd / "conda-lock.yml").read_text() == content


@pytest.mark.parametrize(
    "words",
    [("frobnicate",), ("lock", "--frobnicate"), ("lock", "nowhere.yml"), ("lock", "a.yml", "b.yml"),
     ("mirror",), ("install", "x"), ("verify",), ("lock", "--glibc", "new")],
)  # fmt: skip
def test_wrong_usage_ends_in_three_lines(envforge: Shell, words: tuple[str, ...]) -> None:
    (envforge.cwd / "environment.yml").write_text("channels: [x]\ndependencies: [a]\n")
    envforge(*words, status=None).assert_error(2)
    done = envforge(*words, "--json", status=2)
    assert done.json["error"]["exit_code"] == 2


def test_no_secret_reaches_the_lockfile_or_a_message(envforge: Shell, channel: DemoChannel) -> None:
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, directory=str(channel.path), **more)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://me:s3cret@127.0.0.1:{server.server_port}"
    write_spec(
        envforge, f"channels: ['{url}']", "dependencies: [greet-core, python]", "platforms: [linux-64]"
    )
    done = envforge("lock", *GLIBC)
    server.shutdown()
    server.server_close()
    assert "s3cret" not in (envforge.cwd / "conda-lock.yml").read_text() + done.out + done.err
    failed = envforge("lock", "-U", "-c", "http://me:s3cret@127.0.0.1:9/none", status=None)
    failed.assert_error(3, "127.0.0.1")
    assert "s3cret" not in failed.err


def test_a_newer_package_is_locked_when_the_channel_has_one(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(greet_core_package("1.4"))
    builder.add(greet_core_package("1.5"))
    builder.add(small("python", "3.12.1"))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [greet-core]", "platforms: [linux-64]")
    envforge("lock")
    assert versions(envforge.cwd / "conda-lock.yml")["greet-core"] == "1.5"


# -- found by trying it out ------------------------------------------------------------------------------


def test_several_platforms_with_a_pip_part_are_resolved_at_once(
    envforge: Shell, builder: ChannelBuilder, tmp_path: Path
) -> None:
    for platform in ("linux-64", "linux-aarch64", "osx-arm64"):
        builder.add(small("python", "3.12.1", subdir=platform, noarch=None))
    builder.write_index()
    index = IndexBuilder(tmp_path / "index")
    index.add(Wheel(name="alpha", version="1.0", files={"alpha.py": b""}))
    index.write_index()
    text = specification(builder.url, "linux-64", index_url=index.url, conda=("python",), pip=("alpha",))
    (envforge.cwd / "environment.yml").write_text(text)
    for _ in range(3):
        envforge("lock", "-p", "linux-64", "-p", "linux-aarch64", "-p", "osx-arm64")
    lockfile = locked(envforge.cwd / "conda-lock.yml")
    assert [row.platform for row in lockfile.packages if row.name == "alpha"] == list(lockfile.platforms)


def test_channels_and_indexes_of_the_command_line_are_locked_with_again(
    envforge: Shell, builder: ChannelBuilder, tmp_path: Path
) -> None:
    builder.add(small("python", "3.12.1"))
    builder.write_index()
    index = IndexBuilder(tmp_path / "index")
    index.add(Wheel(name="alpha", version="1.0", files={"alpha.py": b""}))
    index.write_index()
    write_spec(
        envforge,
        "channels: ['http://127.0.0.1:9/none']",
        "platforms: [linux-64]",
        "dependencies: [python, {pip: [alpha]}]",
    )
    envforge("lock", "-c", builder.url, "--index-url", index.url)
    before = (envforge.cwd / "conda-lock.yml").read_bytes()
    envforge("lock", "--check")
    envforge("lock", "-U")
    assert (envforge.cwd / "conda-lock.yml").read_bytes() == before


def test_a_category_is_the_group_of_every_row(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(small("a"))
    builder.write_index()
    write_spec(
        envforge, f"channels: [{builder.url}]", "platforms: [linux-64]", "category: dev", "dependencies: [a]"
    )
    envforge("lock")
    (row,) = locked(envforge.cwd / "conda-lock.yml").packages
    assert (row.category, row.optional) == ("dev", True)


def test_a_date_that_is_none_is_refused_before_anything_is_fetched(envforge: Shell) -> None:
    write_spec(envforge, "channels: ['http://127.0.0.1:9/none']", "dependencies: [a]")
    done = envforge("lock", "-p", "linux-64", "--exclude-newer", "tomorrow", status=None)
    done.assert_error(2, "tomorrow")


def test_conda_s_own_variables_count_and_are_said(envforge: Shell, builder: ChannelBuilder) -> None:
    builder.add(small("a"))
    builder.write_index()
    write_spec(
        envforge, f"channels: [{builder.url}]", "dependencies: [a]", "platforms: [linux-64, osx-arm64]"
    )
    env = {"CONDA_OVERRIDE_GLIBC": "2.34", "CONDA_OVERRIDE_CUDA": "", "CONDA_OVERRIDE_ARCHSPEC": "x86_64_v3"}
    said = envforge("lock", "--cuda", "12.4", env=env)
    target = "__archspec=1=x86_64_v3 __cuda=12.4 __glibc=2.34 __linux=4.18 __unix=0"
    assert str(locked(envforge.cwd / "conda-lock.yml").target("linux-64")) == target
    assert "CONDA_OVERRIDE_GLIBC is set: __glibc=2.34 is assumed" in said.err
    assert "CONDA_OVERRIDE_CUDA" not in said.err  # the command line comes first
    said = envforge("lock", env={"CONDA_OVERRIDE_CUDA": ""})
    assert "CONDA_OVERRIDE_CUDA is set: no __cuda is assumed" in said.err
    assert locked(envforge.cwd / "conda-lock.yml").target("linux-64") is not None
    envforge("lock", env={"CONDA_OVERRIDE_CUDA": "twelve"}, status=None).assert_error(
        2, "CONDA_OVERRIDE_CUDA"
    )


def test_a_lesser_variant_is_said_and_the_option_changes_it(
    envforge: Shell, builder: ChannelBuilder, tmp_path: Path
) -> None:
    builder.add(small("torch", "2.0", build="cpu_0"))
    builder.add(small("torch", "2.0", build="cuda_1", build_number=1, depends=("__cuda >=12.2",)))
    builder.write_index()
    write_spec(envforge, f"channels: [{builder.url}]", "dependencies: [torch]", "platforms: [linux-64]")
    first = envforge("lock", "--json")
    assert first.json["platforms"]["linux-64"]["lesser"] == [
        {
            "name": "torch",
            "locked": "2.0 cpu",
            "better": "2.0 cuda",
            "option": "--cuda 12.2",
            "instead": None,
        }
    ]
    assert "no __cuda is assumed, so torch is 2.0 cpu and not 2.0 cuda" in first.err
    assert "envforge lock --cuda 12.2" in first.err
    node = tmp_path / "node.json"
    profile = ClusterProfile(platform="linux-64", glibc="2.34", cuda="12.4")
    node.write_text(profile_json.write(profile))
    again = envforge("lock", "--profile", node, "--json")
    assert again.json["platforms"]["linux-64"]["lesser"] == []
    rows = locked(envforge.cwd / "conda-lock.yml").packages
    assert [(row.version, row.build_string) for row in rows] == [("2.0", "cuda_1")]


def test_the_priority_of_channels_is_kept(envforge: Shell, builder: ChannelBuilder, tmp_path: Path) -> None:
    later = ChannelBuilder(tmp_path / "later")
    builder.add(small("x", "1.0"))
    builder.write_index()
    later.add(small("x", "2.0"))
    later.write_index()
    write_spec(
        envforge, f"channels: [{builder.url}, {later.url}]", "dependencies: [x]", "platforms: [linux-64]"
    )
    path = envforge.cwd / "conda-lock.yml"
    envforge("lock")
    assert versions(path) == {"x": "1.0"}
    envforge("lock", "-U", "--channel-priority", "disabled")
    assert versions(path) == {"x": "2.0"}
    envforge("lock", "-U")
    assert versions(path) == {"x": "2.0"}
    envforge("lock", "--check")
