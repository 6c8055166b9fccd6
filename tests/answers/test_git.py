"""Git shows and merges lockfiles by what they mean: in real repositories, with a real channel."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from envforge.demo.channel import ChannelBuilder
from envforge.formats import conda_lock
from tests.answers.conftest import Ask
from tests.answers.world import commit, conda, git, lock, write
from tests.conftest import Ended
from tests.lock.world import package

OLD = ("python", "numpy")


class Repository:
    """A specification, its lockfile, and git, set up by ``git-setup``; the channel has versions 1 and 2."""

    def __init__(self, ask: Ask, root: Path, folder: str = "") -> None:
        self.ask, self.root, self.place = ask, root, root / folder
        self.channel = ChannelBuilder(root.parent / "channel")
        self.place.mkdir(parents=True, exist_ok=True)
        for name in ("a", "b", "c", "d"):
            for version in ("1", "2"):
                self.channel.add(package(name, version))
        self.channel.add(package("needs-old-a", "1", "a <2"))
        self.channel.write_index()
        git(root, "init", "-q", "-b", "main")
        ask("git-setup")

    @property
    def lockfile(self) -> Path:
        return self.place / "conda-lock.yml"

    def lock(self, *words: str, asks: Sequence[str], on: str = "") -> None:
        """Write the specification, lock it, and commit both, on a new branch if one is named."""
        if on:
            git(self.root, "checkout", "-q", "-b", on, "main")
        lines = [f"channels: [{self.channel.url}]", "platforms: [linux-64]", "dependencies:"]
        text = "\n".join([*lines, *(f"- {one}" for one in asks), ""])
        (self.place / "environment.yml").write_text(text)
        self.ask("lock", self.place / "environment.yml", "-o", self.lockfile, *words)
        commit(self.root, on or "first")

    def versions(self) -> dict[str, str]:
        locked = conda_lock.read(self.lockfile.read_text(), source="conda-lock.yml")
        return {row.name: row.version for row in locked.packages}

    def merge(self, *words: str, status: int = 0) -> Ended:
        """``git merge`` and the like, with what it says."""
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        done = subprocess.run(
            ["git", *who, *(words or ("merge", "--no-edit", "other"))],
            cwd=self.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done
        return Ended(done.returncode, done.stdout, done.stderr)

    def check(self) -> None:
        """The lockfile is what the specification asks for, and nothing is left of a conflict."""
        self.ask("lock", "--check", self.place / "environment.yml", "-o", self.lockfile)
        assert git(self.root, "status", "--porcelain") == ""


@pytest.fixture
def repository(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.chdir(root)
    return Repository(ask, root)


def test_each_adds_a_package(repository: Repository) -> None:
    repository.lock(asks=["a =1", "d"])
    repository.lock(asks=["b", "a =1", "d"], on="other")
    repository.lock(asks=["a =1", "d", "c =1"], on="ours")
    told = repository.merge().out
    assert "conda-lock.yml: the merged specification is locked" in told
    assert repository.versions() == {"a": "1", "b": "2", "c": "1", "d": "2"}
    repository.check()


def test_versions_that_either_side_chose_are_kept(repository: Repository) -> None:
    """One upgrades a, the other b, both c; what nobody touched stays, although there is a newer one."""
    repository.lock(asks=["a =1", "b =1", "c =1", "d =1"])
    repository.lock(asks=["a", "b", "c", "d"])
    assert set(repository.versions().values()) == {"1"}
    repository.lock("-P", "a", "-P", "c", asks=["a", "b", "c", "d"], on="other")
    repository.lock("-P", "b", "-P", "c", asks=["a", "b", "c", "d"], on="ours")
    repository.merge()
    assert repository.versions() == {"a": "2", "b": "2", "c": "2", "d": "1"}
    repository.check()


def test_one_removes_what_the_other_upgrades(repository: Repository) -> None:
    repository.lock(asks=["a =1", "b =1"])
    repository.lock(asks=["a", "b"])
    repository.lock("-P", "a", asks=["a", "b"], on="other")
    repository.lock(asks=["b", "d"], on="ours")
    repository.merge()
    assert repository.versions() == {"b": "1", "d": "2"}
    repository.check()


def test_what_one_side_needs_decides_what_the_other_keeps(repository: Repository) -> None:
    repository.lock(asks=["a =1", "d"])
    repository.lock(asks=["a", "d"])
    repository.lock("-U", asks=["a", "d"], on="other")
    assert repository.versions()["a"] == "2"
    repository.lock(asks=["needs-old-a", "a", "d"], on="ours")
    repository.merge()
    assert repository.versions() == {"a": "1", "d": "2", "needs-old-a": "1"}
    repository.check()


@pytest.mark.parametrize("words", [("rebase", "other"), ("cherry-pick", "other")])
def test_rebasing_and_picking(repository: Repository, words: tuple[str, ...]) -> None:
    repository.lock(asks=["a =1", "d"])
    repository.lock(asks=["b", "a =1", "d"], on="other")
    repository.lock(asks=["a =1", "d", "c =1"], on="ours")
    repository.merge(*words)
    assert repository.versions() == {"a": "1", "b": "2", "c": "1", "d": "2"}
    repository.check()


def test_taking_out_of_the_stash(repository: Repository) -> None:
    repository.lock(asks=["a =1", "d"])
    place = repository.place / "environment.yml"
    before = place.read_text()
    place.write_text(before + "- c =1\n")
    repository.ask("lock", place, "-o", repository.lockfile)
    repository.merge("stash")
    repository.lock(asks=["b", "a =1", "d"])
    repository.merge("stash", "pop")
    assert repository.versions() == {"a": "1", "b": "2", "c": "1", "d": "2"}
    repository.ask("lock", "--check", place, "-o", repository.lockfile)
    repository.ask("diff", "main", status=2).assert_error(2, "a revision of git", "main:./conda-lock.yml")


def test_in_a_folder_of_the_repository(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "repository"
    (root / "env" / "deep").mkdir(parents=True)
    monkeypatch.chdir(root)
    repository = Repository(ask, root, "env/deep")
    repository.lock(asks=["a =1", "d"])
    repository.lock(asks=["b", "a =1", "d"], on="other")
    repository.lock(asks=["a =1", "d", "c =1"], on="ours")
    monkeypatch.chdir(root / "env")
    repository.merge()
    repository.check()


def test_several_specifications_of_other_formats(repository: Repository) -> None:
    """A pixi manifest with environments, of which one was locked; each side changed another part of it."""
    root = repository.root
    head = f'[workspace]\nchannels = ["{repository.channel.url}"]\nplatforms = ["linux-64"]\n'
    text = (
        f'{head}[dependencies]\na = "1"\n\n[feature.x.dependencies]\nd = "*"\n\n[environments]\nx = ["x"]\n'
    )

    def locked(branch: str, changed: str, *words: str) -> None:
        if branch:
            git(root, "checkout", "-q", "-b", branch, "main")
        (root / "pixi.toml").write_text(changed)
        repository.ask("lock", "pixi.toml", *words)
        commit(root, branch or "first")

    locked("", text, "--environment", "x")
    locked("other", text.replace('a = "1"', 'a = "1"\nb = "1"'))
    locked("ours", text.replace('d = "*"', 'd = "1"'))
    repository.merge()
    assert repository.versions() == {"a": "1", "b": "1", "d": "1"}
    repository.ask("lock", "--check", "pixi.toml")
    assert git(root, "status", "--porcelain") == ""


def test_both_ask_for_it_in_the_same_line(repository: Repository) -> None:
    """Git cannot merge the specification; the lock is that of both, whichever line is taken then."""
    repository.lock(asks=["a =1"])
    repository.lock(asks=["a =1", "b"], on="other")
    repository.lock(asks=["a =1", "c"], on="ours")
    told = repository.merge(status=1).out
    assert "CONFLICT (content): Merge conflict in environment.yml" in told
    assert git(repository.root, "diff", "--name-only", "--diff-filter=U") == "environment.yml\n"
    assert repository.versions() == {"a": "1", "b": "2", "c": "2"}


def in_conflict(repository: Repository, told: Ended, *words: str) -> None:
    assert "CONFLICT (content): Merge conflict in conda-lock.yml" in told.out, told
    said = told.out + told.err
    assert all(word in said for word in ("envforge: ", "  at: ", "  do: ", *words)), said
    text = repository.lockfile.read_text()
    assert "<<<<<<< ours\n" in text
    assert ">>>>>>> theirs\n" in text


def test_nothing_satisfies_what_both_ask_for(repository: Repository) -> None:
    repository.lock(asks=["d", "a =1"])
    repository.lock(asks=["needs-old-a", "d", "a =1"], on="other")
    repository.lock(asks=["d", "a =2"], on="ours")
    in_conflict(repository, repository.merge(status=1), "needs-old-a")


def test_one_removes_what_the_other_asks_for_otherwise(repository: Repository) -> None:
    repository.lock(asks=["d", "b", "a =1"])
    repository.lock(asks=["d", "b", "a =2"], on="other")
    repository.lock(asks=["d", "b"], on="ours")
    in_conflict(repository, repository.merge(status=1), "a =2, and the other does not ask for it any more")


def test_the_channel_cannot_be_reached(repository: Repository) -> None:
    repository.lock(asks=["a =1", "d"])
    repository.lock(asks=["b", "a =1", "d"], on="other")
    repository.lock(asks=["a =1", "d", "c =1"], on="ours")
    (repository.channel.directory / "noarch" / "repodata.json").unlink()
    for path in repository.channel.directory.rglob("repodata*"):
        path.unlink()
    in_conflict(repository, repository.merge(status=1), "channel")


def test_a_lockfile_that_was_changed_by_hand(repository: Repository) -> None:
    repository.lock(asks=["a =1", "d"])
    repository.lock(asks=["b", "a =1", "d"], on="other")
    repository.lock(asks=["a =1", "d", "c =1"], on="ours")
    text = repository.lockfile.read_text()
    repository.lockfile.write_text(text.replace("version: 1\n", "version: 1\nkey: x\n", 1))
    commit(repository.root, "by hand")
    in_conflict(repository, repository.merge(status=1), "unknown key 'key'")


# -- showing -------------------------------------------------------------------------------------------


def test_what_git_shows(ask: Ask, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    ask("git-setup")
    path = write(tmp_path / "conda-lock.yml", lock(conda("a 1"), conda("z 1", "a")))
    commit(tmp_path)
    write(path, lock(conda("a 2"), conda("z 1", "a")))
    assert git(tmp_path, "diff").splitlines() == [
        "lockfile conda-lock.yml: 1 upgraded",
        "upgraded  a  1 → 2",
    ]
    commit(tmp_path, "second")
    log = git(tmp_path, "log", "-1", "-p").splitlines()
    assert (
        [line for line in log if line[:2] in ("-a", "+a")]
        == [
            f"-a 1 h008_0 linux-64 https://conda.anaconda.org/conda-forge {conda('a 1')[0].sha256[:12]}",  # type: ignore[index]
            f"+a 2 h008_0 linux-64 https://conda.anaconda.org/conda-forge {conda('a 2')[0].sha256[:12]}",  # type: ignore[index]
        ]
    )
    path.unlink()
    assert git(tmp_path, "diff") == "lockfile conda-lock.yml removed: 2 packages\n"
    path.write_text("no lockfile: [\n")
    assert "+no lockfile: [" in git(tmp_path, "diff")
    commit(tmp_path, "third")
    assert "+no lockfile: [" in git(tmp_path, "log", "-1", "-p")
    write(path, lock(conda("a 3")))
    git(tmp_path, "mv", "conda-lock.yml", "other-conda-lock.yml")
    assert "lockfile" in git(tmp_path, "diff", "HEAD")


def test_setting_up_and_taking_away(ask: Ask, tmp_path: Path) -> None:
    ask("git-setup", status=2).assert_error(2, "no git repository with a working tree here")
    git(tmp_path, "init", "-q")
    before = (tmp_path / ".git" / "config").read_text()
    attributes = tmp_path / ".gitattributes"
    attributes.write_bytes(b"*.txt text\r\n*.png binary")
    assert ask("git-setup", "--dry-run", "--json").json["written"] is False
    assert (tmp_path / ".git" / "config").read_text() == before
    assert ask("git-setup", "--json").json["changed"] is True
    assert ask("git-setup", "--json").json["changed"] is False
    assert attributes.read_bytes().splitlines(keepends=True) == [
        b"*.txt text\r\n",
        b"*.png binary\n",
        b"*conda-lock.yml diff=envforge merge=envforge\n",
        b"*conda-lock.yaml diff=envforge merge=envforge\n",
    ]
    assert git(tmp_path, "check-attr", "merge", "x/gpu.conda-lock.yml").endswith(": merge: envforge\n")
    assert ask("git-setup", "--remove", "--json").json["changed"] is True
    assert ask("git-setup", "--remove", "--json").json["changed"] is False
    assert attributes.read_bytes() == b"*.txt text\r\n*.png binary\n"
    assert (tmp_path / ".git" / "config").read_text() == before


def test_for_every_repository(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Ada\n")
    ask("git-setup", "--global")
    assert '[diff "envforge"]' in (tmp_path / ".gitconfig").read_text()
    assert (tmp_path / "config" / "git" / "attributes").is_file()
    ask("git-setup", "--global", "--remove")
    assert (tmp_path / ".gitconfig").read_text() == "[user]\n\tname = Ada\n"
    assert not (tmp_path / "config" / "git" / "attributes").exists()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "other"))
    (tmp_path / "other").write_text("[core]\n\tattributesFile = ~/mine\n")
    ask("git-setup", "--global")
    assert (tmp_path / "mine").is_file()
