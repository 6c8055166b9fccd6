"""The second file is small: what the other side has already is left out, and found there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bundle.conftest import Carried
from tests.bundle.real import SMALL, publish
from tests.bundle.world import Node
from tests.conftest import Ended, Journey, Shell
from tests.node.world import Artifact, conda, library, run_all

BIG = conda(library("big", {"share/big": bytes(range(256)) * 2000}))


def packages(text: str) -> list[Artifact]:
    """A large package that stays, and a small one of which there are two."""
    return [BIG, conda(library("a", {"share/a": text.encode()}, version=text))]


@pytest.fixture
def locks(tmp_path: Path) -> tuple[Path, Path]:
    """The lockfiles of last week and of today."""
    return tuple(publish(tmp_path / text, *packages(text)) for text in ("1.0", "2.0"))  # type: ignore[return-value]


def all_well(envforge: Shell, calls: Sequence[Sequence[object]]) -> list[Ended]:
    done = run_all(envforge, calls)
    assert [one.status for one in done] == [0] * len(done), [one.err for one in done]
    return done


def commit(place: Path, lock: Path) -> None:
    """Put a lockfile into a repository, as the version before the next one."""
    (place / "made.conda-lock.yml").write_bytes(lock.read_bytes())
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "lock")):
        subprocess.run(["git", *words], cwd=place, check=True)


def test_whatever_tells_of_the_older_one(envforge: Shell, locks: tuple[Path, Path]) -> None:
    old, new = locks
    commit(envforge.cwd, old)
    all_well(envforge, [(*SMALL, "old.sh", old), (*SMALL, "new.sh", new), ("mirror", old, "mirror")])
    names = ("old.sh", "mirror", "mirror/manifest.json", old, "HEAD:made.conda-lock.yml")
    made = all_well(
        envforge, [(*SMALL, f"{at}.sh", new, "--since", name, "--json") for at, name in enumerate(names)]
    )
    whole = (envforge.cwd / "new.sh").stat().st_size
    for one in made:
        assert (one.json["packages"], one.json["omitted"]) == (2, 1)
        assert one.json["size"] < whole - len(BIG.data) + 2048
        assert one.json["lock"] == made[0].json["lock"]
    # What was left out, and since what, is all that they say of it.
    since = [one.json["since"] for one in made]
    assert since[1] == since[2]
    assert since[3] == since[4]
    assert (envforge.cwd / "3.sh").read_bytes() == (envforge.cwd / "4.sh").read_bytes()
    refused = run_all(
        envforge,
        [(*SMALL, "no.sh", new, "--since", name) for name in ("nothing", "HEAD~7:x", "HEAD:x", "/bin/true")],
    )
    for one, words in zip(
        refused, ("nothing of that name", "git has no", "git has no", "neither"), strict=True
    ):
        one.assert_error(2, words)
    assert not (envforge.cwd / "no.sh").exists()


def test_it_completes_itself_from_the_store(envforge: Shell, locks: tuple[Path, Path]) -> None:
    old, new = locks
    calls: list[Sequence[object]] = [
        (*SMALL, "old.sh", old),
        (*SMALL, "new.sh", new),
        (*SMALL, "delta.sh", new, "--since", "old.sh"),
        ("verify", "delta.sh"),
        ("install", "old.sh", "--prefix", "p"),
        ("install", "delta.sh", "--prefix", "p", "--json"),
        ("verify", "p", "--against", "delta.sh"),
        ("verify", "p", "--against", "new.sh"),
        ("install", "new.sh", "--prefix", "p", "--json"),
        ("list", "delta.sh", "--json"),
    ]
    *_, first, _, _, again, listed = all_well(envforge, calls)
    assert (envforge.cwd / "p/share/a").read_text() == "2.0"
    # The environment is that of the whole bundle, and so nothing was to do for it.
    assert not again.json["changed"]
    assert first.json["generation"] == again.json["generation"]
    assert [row["name"] for row in listed.json["packages"]] == ["a", "big"]


def test_elsewhere_it_says_what_is_missing(envforge: Shell, locks: tuple[Path, Path]) -> None:
    old, new = locks
    all_well(
        envforge,
        [
            (*SMALL, "old.sh", old),
            (*SMALL, "delta.sh", new, "--since", "old.sh"),
            ("install", "old.sh", "--prefix", "p"),
        ],
    )
    before = sorted(path.name for path in envforge.cwd.iterdir())
    missing, dry, with_store = run_all(
        envforge,
        [
            ("install", "delta.sh", "--prefix", "q"),
            ("install", "delta.sh", "--prefix", "q", "--dry-run"),
            ("install", "delta.sh", "--prefix", "q", "--store", "p.generations/store", "--store", "mine"),
        ],
    )
    for one in (missing, dry):
        one.assert_error(3, "neither in the bundle nor in the store: big-1.0-0.conda", "--store DIR", "delta")
    assert with_store.status == 0, with_store.err
    # The store of another prefix is read and not written to.
    assert sorted(path.name for path in envforge.cwd.iterdir()) == sorted(
        [*before, "mine", "q", "q.generations"]
    )


def test_groups_of_a_lockfile_are_those_that_are_asked_for(envforge: Shell, tmp_path: Path) -> None:
    """Whoever has a lockfile has installed of it what is asked for now, and not all groups of it."""
    extra = conda(library("b", {"share/b": b"b"}), category="dev", optional=True)
    lock = publish(tmp_path / "site", BIG, extra)
    main, both = all_well(
        envforge,
        [
            (*SMALL, "main.sh", lock, "--since", lock, "--json"),
            (*SMALL, "both.sh", lock, "--since", lock, "--group", "dev", "--json"),
        ],
    )
    assert (main.json["omitted"], both.json["omitted"]) == (1, 2)


def test_the_same_runtime_is_left_out(carried: Carried, runtime_lock: Path, tmp_path: Path) -> None:
    """``sh DELTA --prefix P`` is done by the envforge of the old environment; the new one has it, too."""
    laptop = Shell(tmp_path, tmp_path)
    lock = publish(tmp_path / "site", *packages("2.0"))
    words = ("bundle", lock, "--runtime-lock", runtime_lock, "--since", carried.bundle, "--json", "-o")
    made = laptop(*words, "delta.sh").json
    assert made["size"] < 200_000 + len(BIG.data)
    node = Node(tmp_path / "node", ("sh",))
    node.place.mkdir()
    delta = tmp_path / "delta.sh"
    stores = ("--store", str(carried.prefix.resolve().parent / "store"), "--store", str(tmp_path / "store"))
    refused = node(delta, "--prefix", "env", "--quiet")
    refused.assert_error(3, "no runtime, and this node no envforge")
    done = node(carried.bundle, "--prefix", "env", *stores)
    assert done.status == 0, done.err
    done = node(delta, "--prefix", "env", *stores)
    assert done.status == 0, done.err
    own = f"{node.place}/env/.envforge/bin/envforge"
    assert f"next: {own} verify {node.place}/env\n" in done.err
    checked = subprocess.run([own, "verify", f"{node.place}/env", "--json"], capture_output=True, text=True)
    assert json.loads(checked.stdout)["equal"]
    assert (node.place / "env/share/a").read_text() == "2.0"
    # Where the runtime is in no store, that is what is said, before anything is made.
    laptop("install", delta, "--prefix", "q", "--store", "empty", status=3).assert_error(
        3, "neither in the bundle nor in the store: runtime.tar.gz"
    )


@pytest.fixture
def of_a_mirror(envforge: Shell, locks: tuple[Path, Path]) -> Shell:
    """An environment that was installed from a mirror, and a delta since that: the store has no artifacts."""
    old, new = locks
    all_well(
        envforge,
        [
            ("mirror", old, "old"),
            ("mirror", new, "new"),
            (*SMALL, "delta.sh", "new", "--since", "old"),
            (*SMALL, "whole.sh", "new"),
            ("install", "old", "--prefix", "p"),
        ],
    )
    return envforge


def test_what_was_installed_from_a_mirror_is_completed(of_a_mirror: Shell) -> None:
    store = of_a_mirror.cwd / "p.generations/store"
    assert not (store / "artifacts").exists()
    shutil.rmtree(of_a_mirror.cwd / "old")
    delta, proof, whole, verified = run_all(
        of_a_mirror,
        [
            ("install", "delta.sh", "--prefix", "p", "--json"),
            ("verify", "p", "--against", "delta.sh"),
            ("install", "whole.sh", "--prefix", "p", "--json"),
            ("verify", "p", "--against", "whole.sh"),
        ],
    )
    assert delta.status == 0, delta.err
    assert (of_a_mirror.cwd / "p/share/a").read_text() == "2.0"
    assert (of_a_mirror.cwd / "p/share/big").stat().st_ino == next(
        store.glob("trees/*/*/share/big")
    ).stat().st_ino
    # The environment is that of the whole bundle.
    assert (whole.status, whole.json["changed"]) == (0, False)
    assert verified.status == 0, verified.err
    # What a store says of itself is no proof of the lock.
    proof.assert_error(3, "neither in the bundle nor in the store: big-1.0-0.conda")


def test_wheels_and_commands_are_completed_too(envforge: Shell, journey: Journey) -> None:
    """Python, packages for any platform and wheels: all of it out of the store of another environment."""
    all_well(
        envforge,
        [
            ("bundle", journey.mirror, "--since", journey.mirror, "--no-runtime", "-o", "delta.sh"),
            ("install", journey.mirror, "--prefix", "p"),
            ("install", "delta.sh", "--prefix", "q", "--store", "p.generations/store", "--store", "own"),
            ("verify", "q", "--against", journey.mirror),
        ],
    )
    assert not list((envforge.cwd / "own").glob("trees/*/*"))


@pytest.mark.parametrize("how", ["content", "mode", "gone", "info"])
def test_a_tree_that_was_altered_does_not_complete_a_delta(of_a_mirror: Shell, how: str) -> None:
    (tree,) = (path.parent.parent for path in of_a_mirror.cwd.glob("p.generations/store/trees/*/*/share/big"))
    name = "info/index.json" if how == "info" else "share/big"
    if how == "mode":
        (tree / name).chmod(0o755)
    elif how == "gone":
        (tree / name).unlink()
    else:
        with (tree / name).open("r+b") as file:
            file.write(b"{ ")
    refused = of_a_mirror("install", "delta.sh", "--prefix", "p", status=3)
    refused.assert_error(3, f"the store's copy of big-1.0-0.conda was altered: {name}")
    assert (of_a_mirror.cwd / "p/share/a").read_text() == "1.0"


def test_a_list_is_believed_from_its_owner_alone(of_a_mirror: Shell) -> None:
    """A list in which others could write, one of a newer version, and none at all: as if there were none."""
    for path in of_a_mirror.cwd.glob("p.generations/store/lists/*/*"):
        path.chmod(0o664)
    words = ("install", "delta.sh", "--prefix", "p")
    lacking = "neither in the bundle nor in the store: big-1.0-0.conda"
    of_a_mirror(*words, status=3).assert_error(3, lacking)
    for path in of_a_mirror.cwd.glob("p.generations/store/lists/*/*"):
        path.chmod(0o644)
        path.write_text(path.read_text().replace('"envforge_list": 1', '"envforge_list": 2'))
    of_a_mirror(*words, status=3).assert_error(3, lacking)
    shutil.rmtree(of_a_mirror.cwd / "p.generations/store/lists")
    of_a_mirror(*words, status=3).assert_error(3, lacking)


def test_the_store_that_was_named_before_is_looked_into(envforge: Shell, locks: tuple[Path, Path]) -> None:
    old, new = locks
    *_, done = all_well(
        envforge,
        [
            ("mirror", old, "old"),
            (*SMALL, "delta.sh", new, "--since", "old"),
            ("install", "old", "--prefix", "p", "--store", "site"),
            ("install", "delta.sh", "--prefix", "p", "--json"),
        ],
    )
    assert done.json["changed"]
    before = {path.name for path in (envforge.cwd / "site/trees").glob("*/*")}
    assert len(before) == 2  # nothing was written there
