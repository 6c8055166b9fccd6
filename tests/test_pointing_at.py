"""Requirements that point at something: repositories, source distributions by URL, files on the laptop."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from envforge.demo.index import IndexBuilder, Wheel
from envforge.formats import conda_lock
from envforge.model.built import BuiltWheel, built_wheels
from envforge.model.lockfile import LockedPackage
from tests.conftest import GLIBC, Ended, Shell
from tests.test_building import add_sdist, project

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


def git(directory: Path, *words: str) -> str:
    who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *words], cwd=directory, env={**os.environ, **who}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One project at the top, and one below ``inner``; the branch has a second version."""
    place = project(tmp_path / "repository", "from-git", requires="one")
    project(place / "inner", "from-inner")
    git(place, "init", "-q", "-b", "main")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "1")
    git(place, "tag", "-a", "v1", "-m", "1")
    return place


@pytest.fixture
def lock(envforge: Shell, tmp_path: Path, platform: str) -> Lock:
    index = IndexBuilder(tmp_path / "index")
    index.add(Wheel(name="one", version="1.0"))
    index.write_index()
    return Lock(envforge, index, platform)


class Lock:
    def __init__(self, envforge: Shell, index: IndexBuilder, platform: str) -> None:
        self.envforge, self.index, self.platform = envforge, index, platform

    def __call__(self, *pip: str, options: tuple[str, ...] = (), status: int = 0) -> Ended:
        lines = "".join(f"    - {json.dumps(line)}\n" for line in (f"--index-url {self.index.url}", *pip))
        (self.envforge.cwd / "environment.yml").write_text(
            f"name: x\ndependencies:\n  - pip:\n{lines}platforms: [{self.platform}]\n"
        )
        return self.envforge("lock", *GLIBC, "--python", "3.11", *options, status=status)

    def rows(self) -> dict[str, LockedPackage]:
        text = (self.envforge.cwd / "conda-lock.yml").read_text()
        return {row.name: row for row in conda_lock.read(text, source="x").packages}

    def built(self) -> dict[str, BuiltWheel]:
        text = (self.envforge.cwd / "conda-lock.yml").read_text()
        return {one.name: one for _, one in built_wheels(conda_lock.read(text, source="x"))}


@needs_git
def test_a_repository_is_locked_by_its_commit_and_kept_until_it_is_let_go(
    envforge: Shell, lock: Lock, repository: Path
) -> None:
    line = f"from-git @ git+{repository.as_uri()}@main"
    done = lock(line)
    assert "its own code runs on this machine" in done.err
    first = git(repository, "rev-parse", "HEAD")
    assert lock.rows()["from-git"].dependencies == {"one": "*"}
    assert lock.built()["from-git"].source == f"git+{repository.as_uri()}@{first}"
    assert lock.built()["from-git"].epoch == int(git(repository, "log", "-1", "--format=%ct"))
    # What is shared is what conda-lock writes of a repository.
    shared = yaml.safe_load((envforge.cwd / "conda-lock.yml").read_text())["package"]
    (row,) = [row for row in shared if row["name"] == "from-git"]
    assert (row["url"], row["hash"]) == (f"git+{repository.as_uri()}@{first}", {"sha256": first})

    (repository / "from_git.py").write_text("said = 'another'\n")
    git(repository, "commit", "-q", "-a", "-m", "2")
    assert "unchanged" in lock(line).out
    assert "satisfies" in envforge("lock", "--check").out
    lock(line, options=("-P", "from-git"))
    assert lock.built()["from-git"].source.endswith(git(repository, "rev-parse", "HEAD"))
    for revision in ("v1", first, first[:9]):
        lock(f"from-git @ git+{repository.as_uri()}@{revision}")
        assert lock.built()["from-git"].source.endswith(f"@{first}"), revision


@needs_git
def test_a_repository_is_built_again_on_another_laptop_and_installed(
    envforge: Shell, lock: Lock, repository: Path, tmp_path: Path
) -> None:
    lock(f"from-inner @ git+{repository.as_uri()}#subdirectory=inner")
    assert lock.built()["from-inner"].source.endswith("#subdirectory=inner")
    other = {"ENVFORGE_CACHE": str(tmp_path / "another-cache")}
    done = envforge("mirror", "conda-lock.yml", "mirror", env=other)
    assert "again: its own code runs" in done.err
    assert list((envforge.cwd / "mirror").rglob("from_inner-1.0-py3-none-any.whl"))


@needs_git
def test_what_a_repository_cannot_give(lock: Lock, repository: Path, tmp_path: Path) -> None:
    url = repository.as_uri()
    cases = {
        f"x @ git+{url}@nothing": (2, "the repository has no nothing"),
        f"x @ git+{url}#subdirectory=none": (2, "has no directory 'none'"),
        f"x @ git+{url}#subdirectory=../..": (2, "has no directory '../..'"),
        f"x @ git+{(tmp_path / 'none').as_uri()}": (3, "the repository cannot be read"),
        f"other @ git+{url}": (2, "is from-git"),
        f"x @ git+ext::sh%20-c%20date@{url}": (2, "is not the URL of a repository"),
        f"x @ hg+{url}": (2, "only git is known"),
        f"x @ git+{url}@--upload-pack=x": (2, "is no branch, tag or commit"),
    }
    for line, (status, what) in cases.items():
        done = lock(line, status=status)
        assert what in done.err, (line, done.err)


def test_a_source_distribution_by_url_has_the_hash_that_was_written(lock: Lock, tmp_path: Path) -> None:
    source = project(tmp_path / "src", "from-source", requires="one")
    sha256 = add_sdist(lock.index.directory, source, "from-source")
    url = (lock.index.directory / "simple/from-source/from_source-1.0.tar.gz").as_uri()
    lock(f"from-source @ {url}#sha256={sha256}")
    built = lock.built()["from-source"]
    assert (built.source, built.source_sha256) == (url, sha256)
    assert lock.rows()["from-source"].dependencies == {"one": "*"}
    assert "unchanged" in lock(f"from-source @ {url}#sha256={sha256}").out
    done = lock(f"from-source @ {url}#sha256={'0' * 64}", status=1)
    done.assert_error(1, "has a hash that was asked for", sha256)
    done = lock(f"something-else @ {url}", status=2)
    assert "is from-source" in done.err


def test_files_on_the_laptop(envforge: Shell, lock: Lock, tmp_path: Path) -> None:
    wheel = IndexBuilder(tmp_path / "loose").add(Wheel(name="two", version="2.0"))
    shutil.copy(wheel, envforge.cwd / wheel.name)
    source = project(tmp_path / "src", "from-source")
    add_sdist(tmp_path / "archive", source, "from-source")
    shutil.copy(tmp_path / "archive/simple/from-source/from_source-1.0.tar.gz", envforge.cwd)
    lock(f"./{wheel.name}", "./from_source-1.0.tar.gz")
    rows = lock.rows()
    assert rows["two"].url == (envforge.cwd / wheel.name).as_uri()
    assert rows["from-source"].url == "built:from_source-1.0-py3-none-any.whl"
    assert "satisfies" in envforge("lock", "--check").out
    lock("./nothing-1.0-py3-none-any.whl", status=2).assert_error(
        2, "nothing-1.0-py3-none-any.whl is not there"
    )


def test_what_does_not_count_for_the_target_is_not_built(lock: Lock, envforge: Shell) -> None:
    lock("one", "other @ git+https://127.0.0.1:9/nobody ; sys_platform == 'win32'")
    assert set(lock.rows()) == {"one"}
    assert "satisfies" in envforge("lock", "--check").out
