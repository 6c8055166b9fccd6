"""What other tools wrote becomes a lockfile: the packages that the tool would install on the target."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from envforge.formats.recognise import recognise
from envforge.importing import read_lock
from envforge.importing.selecting import members
from envforge.model.platforms import default_target
from tests.foreign.support import GOLDEN, PLAIN, call, held, read

MAIN = {"click": "8.1.8", "markupsafe": "3.0.2", "pysocks": "1.7.1"}
TOMLI = {"tomli": "2.0.1"}
WINDOWS = {"colorama": "0.4.6"}

KINDS = {
    "environment-conda-lock.yml": "environment",
    "explicit-conda-lock.txt": "explicit",
    "Pipfile-2023.12.1.lock": "pipfile",
    "Pipfile-2026.10.3.lock": "pipfile",
    "pixi-6.lock": "pixi",
    "pixi-7.lock": "pixi",
    "poetry-1.1.15.lock": "poetry",
    "poetry-1.4.2.lock": "poetry",
    "poetry-1.8.5.lock": "poetry",
    "poetry-2.5.1.lock": "poetry",
    "pylock.pip.toml": "pylock",
    "pylock.uv.toml": "pylock",
    "requirements-pip-compile.txt": "requirements",
    "requirements-uv-export.txt": "requirements",
    "requirements-uv.txt": "requirements",
    "uv-0.13.lock": "uv",
    "uv-0.4.30.lock": "uv",
}


def test_every_golden_file_is_listed_here_and_described_there() -> None:
    names = {path.name for path in GOLDEN.iterdir()} - {"README.md"}
    assert names == set(KINDS)
    described = set(re.findall(r"^\| `([^`]+)`", (GOLDEN / "README.md").read_text(), re.MULTILINE))
    assert described == names


@pytest.mark.parametrize("name", KINDS)
def test_the_content_shows_what_it_is_whatever_it_is_called(name: str) -> None:
    assert recognise((GOLDEN / name).read_text(), source="mystery") == KINDS[name]


def imported(name: str, tmp_path: Path, *options: object) -> Path:
    output = tmp_path / "conda-lock.yml"
    ended = call("import", GOLDEN / name, "-o", output, "--force", *options)
    assert ended.status == 0, ended.err
    return output


@pytest.mark.parametrize("name", ["uv-0.13.lock", "uv-0.4.30.lock"])
@pytest.mark.parametrize(
    ("platform", "python", "more"),
    [
        ("linux-64", "3.10", TOMLI),
        ("linux-64", "3.12", {}),
        ("win-64", "3.12", WINDOWS),
        ("osx-arm64", "3.11", {}),
    ],
)
def test_a_universal_lock_is_resolved_for_the_target(
    name: str, platform: str, python: str, more: dict[str, str], tmp_path: Path
) -> None:
    lockfile = read(imported(name, tmp_path, "-p", platform, "--python", python, "--offline"))
    assert held(lockfile, platform) == MAIN | more
    assert held(lockfile, platform, "dev") == {"iniconfig": "2.0.0"}
    assert held(lockfile, platform, "text") == {"idna": "3.10"}
    wheel = next(row for row in lockfile.packages if row.name == "markupsafe")
    tags = {
        "linux-64": "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "win-64": "win_amd64",
        "osx-arm64": "macosx_11_0_arm64",
    }
    short = "cp" + python.replace(".", "")
    assert wheel.filename.endswith(f"{short}-{short}-{tags[platform]}.whl")
    assert all(row.sha256 for row in lockfile.packages)


def test_several_platforms_at_once(tmp_path: Path) -> None:
    lockfile = read(
        imported("uv-0.13.lock", tmp_path, "-p", "linux-64", "-p", "win-64", "--python", "3.12", "--offline")
    )
    assert lockfile.platforms == ("linux-64", "win-64")
    assert held(lockfile, "win-64").keys() - held(lockfile, "linux-64").keys() == {"colorama"}


def test_without_a_python_the_lowest_one_that_the_file_allows_is_taken_and_said(tmp_path: Path) -> None:
    ended = call(
        "import", GOLDEN / "uv-0.13.lock", "-o", tmp_path / "x-lock.yml", "-p", "linux-64", "--offline"
    )
    assert "Python 3.10 is assumed" in ended.err
    assert "tomli" in held(read(tmp_path / "x-lock.yml"))


def test_wheels_for_one_python_need_nobody_to_name_it(tmp_path: Path) -> None:
    """What was exported from a lock of PyPI packages alone comes back without a question."""
    path = imported("uv-0.13.lock", tmp_path, "-p", "linux-64", "--python", "3.12", "--offline")
    for name in ("pylock", "requirements", "explicit"):
        exported = tmp_path / f"{name}.txt"
        assert call("export", name, path, "-o", exported).status == 0
        back = tmp_path / f"{name}-lock.yml"
        ended = call("import", exported, "-o", back, "--offline")
        assert ended.status == 0, ended.err
        assert held(read(back)) == held(read(path))


def test_a_python_that_only_the_wheels_tell(tmp_path: Path) -> None:
    def package(name: str, *minors: int) -> str:
        files = [f"{name}-1.0-cp3{minor}-cp3{minor}-manylinux_2_17_x86_64.whl" for minor in minors]
        return f"[[packages]]\nname = '{name}'\nversion = '1.0'\n" + "".join(
            f"[[packages.wheels]]\nname = '{file}'\nurl = 'https://h/{file}'\n"
            f"hashes = {{ sha256 = '{f'{minor}' * 32}' }}\n"
            for file, minor in zip(files, minors, strict=True)
        )

    head = "lock-version = '1.0'\ncreated-by = 'x'\n"
    path, output = tmp_path / "pylock.toml", tmp_path / "x-lock.yml"
    words = ("import", path, "-o", output, "-p", "linux-64", "--offline")
    path.write_text(head + package("one", 11, 12))
    call(*words).assert_error(2, "nothing says which Python", str(path))
    path.write_text(head + package("one", 11, 12) + package("two", 12))
    ended = call(*words)
    assert ended.status == 0, ended.err
    assert {row.sha256 for row in read(output).packages} == {"12" * 32}


def test_a_python_that_the_file_is_not_for_is_refused(tmp_path: Path) -> None:
    options = ["-o", tmp_path / "x-lock.yml", "-p", "linux-64", "--offline", "--python", "3.13"]
    ended = call("import", GOLDEN / "uv-0.13.lock", *options)
    ended.assert_error(2, "the file is for Python", "--python 3.13")


def test_what_the_project_asked_for_is_the_specification(tmp_path: Path) -> None:
    spec = tmp_path / "environment.yml"
    imported("uv-0.13.lock", tmp_path, "-p", "linux-64", "--python", "3.12", "--offline", "--spec", spec)
    text = spec.read_text()
    assert "- python=3.12\n" in text
    assert "- click==8.1.8\n" in text
    assert "- tomli==2.0.1 ; python_full_version < '3.11'\n" in text


def test_a_pylock_of_uv_has_groups_and_extras(tmp_path: Path) -> None:
    lockfile = read(imported("pylock.uv.toml", tmp_path, "-p", "linux-64", "--python", "3.12", "--offline"))
    # uv wrote all groups into it without saying which is which.
    assert held(lockfile) == MAIN | {"idna": "3.10", "iniconfig": "2.0.0"}


def test_a_pylock_of_pip(tmp_path: Path) -> None:
    lockfile = read(imported("pylock.pip.toml", tmp_path, "-p", "linux-64", "--python", "3.11", "--offline"))
    assert held(lockfile) == MAIN


@pytest.mark.parametrize("name", ["pixi-6.lock", "pixi-7.lock"])
def test_a_pixi_lock_of_rattler_holds_what_conda_lock_held(name: str, tmp_path: Path) -> None:
    lockfile, plain = read(imported(name, tmp_path, "--offline")), read(PLAIN)
    for platform in ("linux-64", "osx-arm64"):
        ours = {row.url: (row.sha256, row.md5) for row in lockfile.packages if row.platform == platform}
        theirs = {row.url: (row.sha256, row.md5) for row in plain.packages if row.platform == platform}
        assert ours == theirs
    python = next(row for row in lockfile.packages if row.name == "python")
    assert python.dependencies["libzlib"] == ">=1.3.1,<2.0a0"


def test_a_pipfile_lock_says_sections_and_hashes() -> None:
    for name in ("Pipfile-2023.12.1.lock", "Pipfile-2026.10.3.lock"):
        lock = read_lock((GOLDEN / name).read_text(), source=name)
        groups = {package.name: package.groups for package in lock.pypi}
        assert groups["click"] == ("main",)
        assert groups["iniconfig"] == ("dev",)
        assert groups["idna"] == ("docs",)
        assert lock.python == "3.11"
        assert all(package.files for package in lock.pypi)


def test_an_explicit_file_of_conda_lock_holds_its_pip_comments() -> None:
    lock = read_lock((GOLDEN / "explicit-conda-lock.txt").read_text(), source="x")
    assert [one.name for one in lock.conda] == ["libzlib", "tzdata", "python", "pytest"]
    assert {one.platform for one in lock.conda} == {"linux-64"}
    assert all(one.md5 and one.sha256 is None for one in lock.conda)
    assert [one.name for one in lock.pypi] == ["einops"]


def test_an_environment_of_conda_lock_is_pins() -> None:
    lock = read_lock((GOLDEN / "environment-conda-lock.yml").read_text(), source="x")
    assert ("python", "3.12.11", "h9e4cc4f_0_cpython") in {(o.name, o.version, o.build) for o in lock.conda}
    assert [(one.name, one.version) for one in lock.pypi] == [("einops", "0.8.1")]
    assert lock.platforms == ("linux-64",)


@pytest.mark.internet
@pytest.mark.parametrize(
    ("name", "main", "groups"),
    [
        ("poetry-1.1.15.lock", MAIN | TOMLI, {"dev": {"iniconfig"}, "text": {"idna"}}),
        ("poetry-1.4.2.lock", MAIN | TOMLI, {"dev": {"iniconfig"}, "text": {"idna"}}),
        ("poetry-1.8.5.lock", MAIN | TOMLI | {"iniconfig": "2.0.0"}, {"text": {"idna"}}),
        ("poetry-2.5.1.lock", MAIN, {"dev": {"iniconfig"}, "text": {"idna"}}),
        ("Pipfile-2026.10.3.lock", MAIN, {"dev": {"iniconfig"}, "docs": {"idna"}}),
        ("requirements-uv.txt", MAIN, {}),
        ("requirements-uv-export.txt", MAIN | {"iniconfig": "2.0.0"}, {}),
        ("requirements-pip-compile.txt", MAIN, {}),
    ],
)
def test_what_gives_hashes_and_no_urls_is_found_on_the_index(
    name: str, main: dict[str, str], groups: dict[str, set[str]], tmp_path: Path, pypi: None
) -> None:
    lockfile = read(imported(name, tmp_path, "-p", "linux-64", "--python", "3.12"))
    assert held(lockfile) == main
    for group, names in groups.items():
        assert held(lockfile, group=group).keys() == names
    text = (GOLDEN / name).read_text()
    for row in lockfile.packages:
        assert row.url.startswith("https://files.pythonhosted.org/")
        assert row.sha256 is not None
        assert row.sha256 in text


@pytest.mark.internet
def test_poetry_2_says_per_group_where_a_package_counts(tmp_path: Path, pypi: None) -> None:
    windows = read(imported("poetry-2.5.1.lock", tmp_path, "-p", "win-64", "--python", "3.12"))
    assert held(windows, "win-64") == MAIN | WINDOWS
    linux = read(imported("poetry-2.5.1.lock", tmp_path, "-p", "linux-64", "--python", "3.12"))
    assert "colorama" not in held(linux, group=None)


@pytest.fixture(scope="module")
def pypi() -> None:
    from envforge.edges.fetch import Fetcher

    if not Fetcher().reachable("https://pypi.org/simple/click/"):
        pytest.skip("PyPI is not reached")


def test_poetry_locks_no_setuptools_whatever_needs_it() -> None:
    text = (
        '[[package]]\nname = "jsonschema"\nversion = "3.2.0"\ncategory = "main"\noptional = false\n'
        '[package.dependencies]\nsetuptools = "*"\nsix = ">=1.11.0"\n'
        '[[package]]\nname = "six"\nversion = "1.15.0"\ncategory = "main"\noptional = false\n'
        '[metadata]\nlock-version = "1.0"\npython-versions = "^3.7"\ncontent-hash = "x"\n[metadata.files]\n'
    )
    lock = read_lock(text, source="poetry.lock")
    found = members(lock, default_target("linux-64"), "3.8")
    assert [one.package.name for one in found] == ["jsonschema", "six"]
    assert lock.requires_python == "<4,>=3.7"


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    text = (GOLDEN / "uv-0.13.lock").read_text()
    head, *packages = text.split("[[package]]")
    shuffled = tmp_path / "shuffled.lock"
    shuffled.write_text(head + "".join(f"[[package]]{one.rstrip()}\n\n" for one in reversed(packages)))
    first = imported("uv-0.13.lock", tmp_path, "-p", "linux-64", "--python", "3.12", "--offline")
    one = read(first).packages
    ended = call(
        "import", shuffled, "-o", first, "--force", "-p", "linux-64", "--python", "3.12", "--offline"
    )
    assert ended.status == 0, ended.err
    assert read(first).packages == one


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("uv-0.13.lock", "version = 1\n", "version = 2\n", "has version 2"),
        ("poetry-2.5.1.lock", 'lock-version = "2.1"', 'lock-version = "3.0"', "has version 3.0"),
        ("pixi-7.lock", "version: 7", "version: 8", "has version 8"),
        ("pylock.pip.toml", 'lock-version = "1.0"', 'lock-version = "2.0"', "is not supported"),
        ("Pipfile-2026.10.3.lock", '"pipfile-spec": 6', '"pipfile-spec": 7', "specification 6"),
    ],
)
def test_a_newer_version_is_refused_in_words(
    name: str, old: str, new: str, words: str, tmp_path: Path
) -> None:
    text = (GOLDEN / name).read_text()
    assert old in text
    path = tmp_path / name
    path.write_text(text.replace(old, new, 1))
    call("import", path, "-o", tmp_path / "x-lock.yml").assert_error(2, words, "use a newer envforge")


def test_a_later_revision_with_unknown_keys_is_read(tmp_path: Path) -> None:
    path = tmp_path / "uv.lock"
    text = (GOLDEN / "uv-0.13.lock").read_text().replace("revision = 5", 'revision = 99\nnovelty = ["x"]')
    path.write_text(text.replace('\nname = "click"\n', '\nname = "click"\nshiny = { deep = true }\n'))
    ended = call(
        "import", path, "-o", tmp_path / "x-lock.yml", "-p", "linux-64", "--python", "3.12", "--offline"
    )
    assert ended.status == 0, ended.err


def test_a_lockfile_that_is_one_already_is_told_so(tmp_path: Path) -> None:
    shutil.copy(PLAIN, tmp_path / "x.yml")
    ended = call("import", tmp_path / "x.yml", "-o", tmp_path / "y-lock.yml")
    ended.assert_error(2, "a conda-lock.yml already", "envforge install")


def test_a_package_of_poetry_1_0_says_itself_where_it_counts() -> None:
    text = (
        '[[package]]\nname = "portalocker"\nversion = "1.7.1"\ncategory = "main"\noptional = false\n'
        '[package.dependencies]\npywin32 = ">=1.0"\n'
        '[[package]]\nname = "pywin32"\nversion = "228"\ncategory = "main"\noptional = false\n'
        "marker = \"sys_platform == 'win32'\"\n"
        '[metadata]\npython-versions = "*"\ncontent-hash = "x"\n'
    )
    lock = read_lock(text, source="poetry.lock")
    for platform, names in (("linux-64", ["portalocker"]), ("win-64", ["portalocker", "pywin32"])):
        found = members(lock, default_target(platform), "3.8")
        assert [one.package.name for one in found] == names


def test_a_pixi_lock_with_several_platforms_of_one_subdir(tmp_path: Path) -> None:
    """Pixi may lock one subdir twice, for machines with and without a GPU: the first is taken."""
    text = (GOLDEN / "pixi-7.lock").read_text()
    first = re.search(r"^- name: linux-64\n(?:  .*\n)*", text, re.MULTILINE)
    assert first is not None
    more = "- name: gpu\n  subdir: linux-64\n  virtual-packages:\n  - __cuda=12.9\n"
    text = text.replace(first[0], first[0] + more, 1)
    begin = text.index("      linux-64:\n")
    body = re.match(r"      linux-64:\n(?:      - .*\n(?:        .*\n)*)*", text[begin:])
    assert body is not None
    text = text.replace(body[0], body[0].replace("linux-64:\n", "gpu:\n", 1) + body[0], 1)
    path, output = tmp_path / "pixi.lock", tmp_path / "x-lock.yml"
    path.write_text(text)
    ended = call("import", path, "-o", output, "--offline")
    assert ended.status == 0, ended.err
    assert "a second platform for linux-64 is not imported: gpu" in ended.err
    assert set(read(output).platforms) == {"linux-64", "osx-arm64"}
