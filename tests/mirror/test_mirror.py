"""The verb: layout, order, repetition, naming, pruning."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from envforge.errors import InputError
from envforge.formats import conda_lock, lock_json, manifest_json
from envforge.mirror import LockfileInput
from envforge.model.lockfile import LockedChannel
from envforge.node.sources.mirrors import check_files, read_manifest
from envforge.reporting import Recorder
from tests.mirror.world import Site, input_of, lock, mirrored, serve, tree


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def loose_umask() -> Iterator[None]:
    old = os.umask(0o000)
    yield
    os.umask(old)


def test_the_layout(site: Site, directory: Path) -> None:
    one = site.conda("one", depends=["two >=1"], subdir="linux-64", suffix=".tar.bz2")
    two = site.conda("two")
    pure = site.wheel("Some_Project", requires_python=">=3.9")
    sdist = site.pip("other", "other-1.0.tar.gz", b"an sdist")
    given = input_of(lock(one, two, pure, sdist, channels=[f"{site.url}/forge"]), "cfd.conda-lock.yml")
    result = mirrored(directory, given)
    files = {name for name, (_, _) in tree(directory).items() if (directory / name).is_file()}
    assert files == {
        "manifest.json",
        "locks/cfd.conda-lock.yml",
        "locks/cfd.json",
        "conda/forge/linux-64/one-1.0-0.tar.bz2",
        "conda/forge/linux-64/repodata.json",
        "conda/forge/linux-64/repodata.json.zst",
        "conda/forge/noarch/two-1.0-0.conda",
        "conda/forge/noarch/repodata.json",
        "conda/forge/noarch/repodata.json.zst",
        "pypi/simple/index.html",
        "pypi/simple/some-project/index.html",
        "pypi/simple/some-project/index.json",
        "pypi/simple/other/index.html",
        "pypi/simple/other/index.json",
        f"pypi/files/{pure.sha256}/Some_Project-1.0-py3-none-any.whl",
        f"pypi/files/{pure.sha256}/Some_Project-1.0-py3-none-any.whl.metadata",
        f"pypi/files/{sdist.sha256}/other-1.0.tar.gz",
    }
    manifest = read_manifest(directory)
    assert {file.path for file in manifest.files} == files - {"manifest.json"}
    assert {file.url for file in manifest.files if file.url} == {r.url for r in (one, two, pure, sdist)}
    assert [(c.name, c.url) for c in manifest.channels] == [("forge", f"{site.url}/forge")]
    assert manifest.locks == result.locks == ("cfd",)
    assert (directory / "locks/cfd.conda-lock.yml").read_bytes() == given.content
    assert lock_json.read((directory / "locks/cfd.json").read_text()) == (
        given.lockfile,
        hashlib.sha256(given.content).hexdigest(),
    )
    assert result.digest == hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()
    assert (result.downloaded, result.kept, result.removed) == (4, 0, ())
    assert result.bytes == sum(f.size for f in manifest.files if f.url)
    assert check_files(directory, manifest) == ()


def test_nothing_is_done_twice(site: Site, directory: Path) -> None:
    given = lock(site.conda("one"), site.wheel("pure"))
    mirrored(directory, given)
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    result = mirrored(directory, given)
    assert (result.downloaded, result.kept, result.bytes) == (0, 2, 0)
    assert before == {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_same_locks_same_bytes(site: Site, tmp_path: Path, umask: int) -> None:
    shared = site.conda("shared", depends=["python >=3"], locked=["python >=3,<4"])
    older = dataclasses.replace(shared, dependencies={"python": ">=3"})
    a = input_of(
        lock(shared, site.conda("one"), site.wheel("pure"), channels=["conda-forge"]), "a.conda-lock.yml"
    )
    rows = [older, site.conda("one", channel="other/forge", build="1"), site.wheel("pure", version="2.0")]
    rows += [dataclasses.replace(row, platform="osx-arm64") for row in rows[:1]]
    b = input_of(lock(*rows, platforms=["linux-64", "osx-arm64"]), "b.conda-lock.yml")
    mirrored(tmp_path / "first", a, b)
    old = os.umask(umask)
    try:
        mirrored(tmp_path / "elsewhere/second", b, jobs=1)
        mirrored(tmp_path / "elsewhere/second", a)
        mirrored(tmp_path / "third", a)
        mirrored(tmp_path / "third", b)
        mirrored(tmp_path / "third", a, b)
    finally:
        os.umask(old)
    first = tree(tmp_path / "first")
    assert tree(tmp_path / "elsewhere/second") == first
    assert tree(tmp_path / "third") == first
    assert {mode for path, (mode, _) in first.items() if (tmp_path / "first" / path).is_dir()} == {0o755}
    assert {mode for path, (mode, _) in first.items() if (tmp_path / "first" / path).is_file()} == {0o644}


def test_a_hotfix_survives_whatever_lock_came_first(site: Site, directory: Path) -> None:
    fixed = site.conda("one", depends=["python >=3"], locked=["python >=3,<3.13"])
    plain = dataclasses.replace(fixed, dependencies={"python": ">=3"})
    for name, row in [("b", fixed), ("a", plain)]:
        mirrored(directory, input_of(lock(row), f"{name}.conda-lock.yml"))
    repodata = json.loads((directory / "conda/forge/noarch/repodata.json").read_text())
    assert repodata["packages.conda"]["one-1.0-0.conda"]["depends"] == ["python >=3,<3.13"]


def test_a_lock_of_the_same_name_replaces_the_older_one(site: Site, directory: Path) -> None:
    one, two = site.conda("one"), site.wheel("two")
    mirrored(directory, lock(one, two, name="env"))
    result = mirrored(directory, lock(one, name="env"))
    wheel = f"pypi/files/{two.sha256}/{two.filename}"
    manifest = read_manifest(directory)
    assert manifest.locks == ("env",)
    assert wheel not in {file.path for file in manifest.files}
    assert (directory / wheel).exists()
    assert not (directory / "pypi/simple").exists()  # not indexed any more
    assert "pypi/simple/two/index.html" in result.removed
    assert {d.kind for d in check_files(directory, manifest)} == {"added"}

    result = mirrored(directory, lock(one, name="env"), prune=True)
    assert wheel in result.removed
    assert not (directory / "pypi").exists()
    assert check_files(directory, read_manifest(directory)) == ()


def test_prune_keeps_what_other_locks_need_and_what_is_not_ours(site: Site, directory: Path) -> None:
    mirrored(directory, lock(site.conda("one"), name="a"))
    mirrored(directory, lock(site.conda("two"), name="b"))
    (directory / "README").write_text("mine")
    result = mirrored(directory, lock(site.conda("two"), name="b"), prune=True)
    assert result.removed == ()
    assert (directory / "conda/forge/noarch/one-1.0-0.conda").exists()
    assert (directory / "README").exists()


def test_channels_that_share_a_name_are_told_apart_whoever_came_first(site: Site, tmp_path: Path) -> None:
    here, there = site.conda("one", channel="here/forge"), site.conda("two", channel="there/Forge")
    urls = [f"{site.url}/there/Forge", f"{site.url}/here/forge"]
    a, b = input_of(lock(here), "a.conda-lock.yml"), input_of(lock(there, channels=urls), "b.conda-lock.yml")
    mirrored(tmp_path / "x", a)
    assert [c.name for c in read_manifest(tmp_path / "x").channels] == ["forge"]
    result = mirrored(tmp_path / "x", b)
    assert (result.downloaded, result.kept) == (1, 1)  # moved within the mirror, not fetched again
    names = [f"{Path(url).name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}" for url in urls]
    assert [c.name for c in read_manifest(tmp_path / "x").channels] == names
    assert sorted(path.name for path in (tmp_path / "x/conda").iterdir()) == sorted(names)
    mirrored(tmp_path / "y", b)
    mirrored(tmp_path / "y", a)
    assert tree(tmp_path / "x") == tree(tmp_path / "y")


def test_channels_keep_their_priority(site: Site, directory: Path) -> None:
    rows = [site.conda(name, channel=name) for name in ("alpha", "beta", "gamma")]
    order = [f"{site.url}/gamma", f"{site.url}/alpha/"]
    mirrored(directory, lock(*rows, channels=order))
    assert [c.name for c in read_manifest(directory).channels] == ["gamma", "alpha", "beta"]


def test_wheels_of_one_name_and_different_content_do_not_clash(site: Site, directory: Path) -> None:
    one = site.wheel("pure", body="a = 1")
    two = site.wheel("pure", body="a = 2", place="other")
    mirrored(directory, lock(one, name="a"))
    mirrored(directory, lock(two, name="b"))
    page = json.loads((directory / "pypi/simple/pure/index.json").read_text())
    assert {file["hashes"]["sha256"] for file in page["files"]} == {one.sha256, two.sha256}


def test_only_the_platforms_asked_for(site: Site, directory: Path) -> None:
    common = site.conda("common")
    rows = [common, dataclasses.replace(common, platform="osx-arm64")]
    rows += [
        site.conda("thing", subdir=platform, platform=platform) for platform in ("linux-64", "osx-arm64")
    ]
    given = input_of(lock(*rows, name="env"))
    mirrored(directory, given, platforms=("linux-64",))
    assert sorted(path.name for path in (directory / "conda/forge").iterdir()) == ["linux-64", "noarch"]
    assert (directory / "locks/env.conda-lock.yml").read_bytes() == given.content
    first = tree(directory)
    mirrored(directory, lock(site.conda("else"), name="other"))
    assert not (directory / "conda/forge/osx-arm64").exists()
    mirrored(directory, given, platforms=("linux-64",), prune=True)
    (directory / "locks/other.conda-lock.yml").unlink()
    result = mirrored(directory, given, platforms=("linux-64",), prune=True)
    assert tree(directory) == first
    assert "conda/forge/noarch/else-1.0-0.conda" in result.removed
    mirrored(directory, given, platforms=("osx-arm64",))
    assert (directory / "conda/forge/linux-64/thing-1.0-0.conda").exists()
    assert (directory / "conda/forge/osx-arm64/thing-1.0-0.conda").exists()
    mirrored(directory.with_name("whole"), given)
    assert tree(directory) == tree(directory.with_name("whole"))


def test_a_platform_that_no_lock_has_is_refused(site: Site, directory: Path) -> None:
    with pytest.raises(InputError, match="no packages for win-64"):
        mirrored(directory, lock(site.conda("one")), platforms=("win-64",))
    assert not directory.exists()


def test_a_mirror_is_remade_from_its_locks_alone(site: Site, directory: Path) -> None:
    mirrored(directory, lock(site.conda("one"), site.wheel("two")))
    before = tree(directory)
    (directory / "conda/forge/noarch/repodata.json").write_text("{}")
    (directory / "pypi/simple/two/index.html").unlink()
    (directory / "locks/default.json").write_text("broken")
    (directory / "conda/forge/noarch/one-1.0-0.conda").chmod(0o600)
    result = mirrored(directory)
    assert tree(directory) == before
    assert (result.downloaded, result.kept) == (0, 2)


def test_a_dry_run_writes_nothing(site: Site, directory: Path) -> None:
    one, two = lock(site.conda("one"), name="a"), lock(site.conda("two"), name="b")
    result = mirrored(directory, one, dry_run=True)
    assert not directory.exists()
    assert (result.missing, result.digest) == (("conda/forge/noarch/one-1.0-0.conda",), "")
    digest = mirrored(directory, one).digest
    before = tree(directory)
    result = mirrored(directory, two, dry_run=True)
    assert tree(directory) == before
    assert (result.missing, result.kept, result.digest) == (
        ("conda/forge/noarch/two-1.0-0.conda",),
        1,
        digest,
    )


def test_variables_of_a_channel_are_filled_in_and_never_written(
    site: Site, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = site.conda("one", channel="t/s3cret/lab")
    with serve(site.root) as (url, faults):
        row = dataclasses.replace(
            row,
            url=row.url.replace(site.url, url.replace("://", "://$LAB_USER:${LAB_PASS}@")).replace(
                "s3cret", "$LAB_TOKEN"
            ),
        )
        given = dataclasses.replace(
            lock(row),
            channels=(
                LockedChannel(
                    url=f"{url}/t/$LAB_TOKEN/lab", used_env_vars=("LAB_TOKEN", "LAB_USER", "LAB_PASS")
                ),
            ),
        )
        monkeypatch.setenv("LAB_USER", "me")
        monkeypatch.setenv("LAB_PASS", "pa55")
        with pytest.raises(InputError, match="needs the variable LAB_TOKEN"):
            mirrored(directory, given)
        assert not directory.exists()
        monkeypatch.setenv("LAB_TOKEN", "s3cret")
        mirrored(directory, given)
        assert faults.requests == ["/t/s3cret/lab/noarch/one-1.0-0.conda"]
        manifest = read_manifest(directory)
        assert [(c.name, c.url) for c in manifest.channels] == [("lab", f"{url}/lab")]
    for _, content in tree(directory).values():
        assert b"s3cret" not in content
        assert b"pa55" not in content


@pytest.mark.parametrize("secret", ["me:pw@host/forge", "host/t/tk-123/forge", "tok@host/forge"])
@pytest.mark.parametrize("where", ["url: https://host/forge/noarch", "- url: https://host/forge\n"])
def test_a_lock_with_a_secret_in_it_is_refused(site: Site, directory: Path, secret: str, where: str) -> None:
    """The reader drops it; the file would still show it to everyone who can read the mirror."""
    row = dataclasses.replace(site.conda("one"), url="https://host/forge/noarch/one-1.0-0.conda")
    text = input_of(lock(row, channels=["https://host/forge"])).content.decode()
    assert where in text
    text = text.replace(where, where.replace("host/forge", secret))
    given = LockfileInput(
        content=text.encode(), filename="conda-lock.yml", lockfile=conda_lock.read(text, source="x")
    )
    with pytest.raises(InputError, match="holds a password or token") as caught:
        mirrored(directory, given)
    line = next(n for n, line in enumerate(text.splitlines(), start=1) if secret in line)
    assert caught.value.at == f"conda-lock.yml:{line}"
    assert not directory.exists()


def test_a_path_of_pypi_is_no_token(site: Site, directory: Path) -> None:
    row = site.pip("toml", "toml-1.0.tar.gz", b"", place="packages/source/t/toml")
    mirrored(directory, lock(row))
    assert [file.url for file in read_manifest(directory).files if file.url] == [row.url]


def test_rows_that_cannot_be_mirrored_are_named_before_anything_happens(site: Site, directory: Path) -> None:
    good = site.wheel("good")
    for bad, text in [
        (
            dataclasses.replace(good, name="bad", sha256=None, url="git+https://host/bad.git"),
            "without a sha256",
        ),
        (dataclasses.replace(good, name="bad", url="ftp://host/bad-1.0.zip"), "by a ftp link"),
        (dataclasses.replace(good, name="bad", sha256=None, url="file:///home/me/bad"), "without a sha256"),
    ]:
        with pytest.raises(InputError, match=text) as caught:
            mirrored(directory, lock(good, bad))
        assert caught.value.at == "lock default: package bad (pip, linux-64)"
        assert not directory.exists()


def test_git_rows_of_other_platforms_are_no_obstacle(site: Site, directory: Path) -> None:
    bad = dataclasses.replace(
        site.wheel("bad"), sha256=None, url="git+https://host/bad.git@abc", platform="win-64"
    )
    mirrored(directory, lock(site.conda("one"), bad), platforms=("linux-64",))
    assert mirrored(directory).kept == 1


def test_two_locks_that_disagree_about_one_file_are_refused(site: Site, directory: Path) -> None:
    one = site.conda("one")
    other = dataclasses.replace(one, sha256="0" * 64)
    mirrored(directory, lock(one, name="a"))
    before = tree(directory)
    with pytest.raises(InputError, match="two different hashes, by the locks a and b"):
        mirrored(directory, lock(other, name="b"))
    assert tree(directory) == before


@pytest.mark.parametrize(
    ("filename", "inner", "name"),
    [
        ("cfd.conda-lock.yml", None, "cfd"),
        ("conda-lock.yml", "inner", "inner"),
        ("conda-lock.yml", None, "default"),
        ("whatever.yml", "inner", "inner"),
    ],
)
def test_the_name_of_a_lock(site: Site, directory: Path, filename: str, inner: str | None, name: str) -> None:
    assert mirrored(directory, input_of(lock(site.conda("one"), name=inner), filename)).locks == (name,)


def test_a_lock_whose_name_is_no_file_name_is_refused(site: Site, directory: Path) -> None:
    with pytest.raises(InputError, match="cannot be the name of a lock"):
        mirrored(directory, lock(site.conda("one"), name="../evil"))


def test_two_lockfiles_of_one_name_are_refused(site: Site, directory: Path) -> None:
    with pytest.raises(InputError, match="two lockfiles are both called 'default'"):
        mirrored(directory, lock(site.conda("one")), lock(site.conda("two")))


def test_any_order_of_rows_and_threads(site: Site, tmp_path: Path) -> None:
    rows = [site.conda(f"p{n}", depends=[f"p{n - 1}"] if n else []) for n in range(12)]
    rows += [site.wheel(f"w{n}") for n in range(6)]
    trees = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        mirrored(tmp_path / str(seed), lock(*rows), jobs=seed + 1)
        trees.append(tree(tmp_path / str(seed)))
    assert trees[0] == trees[1] == trees[2]


# -- places ------------------------------------------------------------------------------------------


def test_a_file_is_no_mirror(site: Site, directory: Path) -> None:
    directory.write_text("mine")
    with pytest.raises(InputError, match="this is a file"):
        mirrored(directory, lock(site.conda("one")))


def test_a_directory_with_something_else_in_it_is_no_mirror(site: Site, directory: Path) -> None:
    (directory / "conda").mkdir(parents=True)
    before = tree(directory)
    with pytest.raises(InputError, match="not empty and holds no mirror") as caught:
        mirrored(directory, lock(site.conda("one")))
    assert "envforge mirror" in (caught.value.do or "")
    assert tree(directory) == before


def test_somebody_elses_manifest_is_refused(site: Site, directory: Path) -> None:
    directory.mkdir()
    (directory / "manifest.json").write_text('{"version": 99}')
    with pytest.raises(InputError):
        mirrored(directory, lock(site.conda("one")))
    assert [path.name for path in directory.iterdir()] == ["manifest.json"]


def test_an_empty_directory_will_do(site: Site, directory: Path) -> None:
    directory.mkdir()
    mirrored(directory, lock(site.conda("one")))
    assert not (directory / ".envforge-mirror").exists()


# -- reading -----------------------------------------------------------------------------------------


def test_no_mirror_here(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no mirror here") as caught:
        read_manifest(tmp_path)
    assert caught.value.do is not None


def test_check_files_names_every_difference(site: Site, directory: Path) -> None:
    mirrored(directory, lock(site.conda("one"), site.conda("two"), site.conda("three"), site.wheel("w")))
    noarch = directory / "conda/forge/noarch"
    (noarch / "one-1.0-0.conda").unlink()
    content = (noarch / "two-1.0-0.conda").read_bytes()
    (noarch / "two-1.0-0.conda").write_bytes(content[:-1] + b"?")
    (noarch / "three-1.0-0.conda").write_bytes(b"x")
    (noarch / "repodata.json").rename(noarch / "elsewhere")
    (noarch / "repodata.json").symlink_to("elsewhere")
    (directory / "new").write_text("x")
    found = {(d.kind, d.path, d.detail) for d in check_files(directory, read_manifest(directory), jobs=2)}
    size = len(content) + len("three") - len("two")
    assert {(kind, path.rpartition("/")[2]) for kind, path, _ in found} == {
        ("missing", "one-1.0-0.conda"),
        ("changed", "two-1.0-0.conda"),
        ("changed", "three-1.0-0.conda"),
        ("changed", "repodata.json"),
        ("added", "elsewhere"),
        ("added", "new"),
    }
    details = {path.rpartition("/")[2]: detail for _, path, detail in found}
    assert details["two-1.0-0.conda"] == "content"
    assert details["three-1.0-0.conda"].startswith("1 bytes instead of ")
    assert size
    assert details["repodata.json"] == "not a regular file"


def test_progress_is_told(site: Site, directory: Path) -> None:
    recorder = Recorder()
    mirrored(directory, lock(site.conda("one")), recorder=recorder)
    assert recorder.steps == ["downloading 1 files", "writing the indexes"]
    assert recorder.details == ["downloaded conda/forge/noarch/one-1.0-0.conda"]


def test_manifest_is_what_the_format_says(site: Site, directory: Path) -> None:
    mirrored(directory, lock(site.conda("one")))
    text = (directory / "manifest.json").read_text()
    assert manifest_json.write(manifest_json.read(text)) == text


def test_inputs_are_plain_values(site: Site) -> None:
    given = input_of(lock(site.conda("one")))
    assert given == LockfileInput(content=given.content, filename="conda-lock.yml", lockfile=given.lockfile)
