"""From a lockfile to a command on a node that has a shell, tar and gzip, in one file: by the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from envforge.edges.scratch import owner_mark
from envforge.model.bundle import HEADER_SIZE
from envforge.settings import FROM_BUNDLE
from tests.bundle.conftest import Carried
from tests.bundle.real import SMALL, publish
from tests.bundle.test_program import OTHER
from tests.bundle.world import Node
from tests.conftest import Journey, Shell
from tests.demo.support import conda_install
from tests.node.world import HERE, Artifact, conda, library, run_all, snapshot

BRINGS = re.compile(r"\.envforge/(runtime|bin)(/|$)")


def two(category: str = "dev") -> list[Artifact]:
    """A package, and another of a group."""
    return [
        conda(library("a", {"share/a": b"a"})),
        conda(library("b", {"share/b": b"b"}), category=category, optional=True),
    ]


def everything(place: Path) -> list[str]:
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*"))


# -- the whole way ---------------------------------------------------------------------------------------


def test_it_installs_and_looks_after_itself(carried: Carried) -> None:
    node, prefix = carried.node, carried.prefix
    own = f"{prefix}/.envforge/bin/envforge"
    assert [line for line in carried.told.splitlines() if line.startswith("next: ")] == [
        f"next: . {prefix}/.envforge/activate.sh",
        f"next: {own} verify {prefix}",
        f"next: {own} history {prefix}",
    ]
    script = f'"{own}" verify "{prefix}" && "{own}" run "{prefix}" -- greet'
    script += f' && . "{prefix}/.envforge/activate.sh" && greet && command -v greet'
    done = subprocess.run(
        [*node.program, "-c", script], env=node.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{prefix} is equal to its receipt" in done.stdout
    assert f"library {prefix.resolve()}" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{prefix.resolve()}/bin/greet"
    generation = prefix.readlink().name
    left = ["bin", "env", "env.generations", "greet.sh", "greet.sh.sha256"]
    assert carried.left == sorted([*left, generation, f"{generation}.json", "store"])


def test_it_is_proven_from_the_bundle(carried: Carried) -> None:
    done = carried.node(carried.bundle, "verify", carried.prefix, "--against", carried.bundle)
    assert done.status == 0, done.err
    assert f"equal to its receipt and the artifacts of {carried.bundle}" in done.out


def test_the_environment_is_the_one_that_the_mirror_gives(carried: Carried, journey: Journey) -> None:
    """But for the runtime, which a mirror does not have."""
    done = carried.laptop("verify", carried.prefix, "--against", journey.mirror, "--json")
    assert done.json["equal"]
    brought = [name for name in snapshot(carried.prefix.resolve()) if BRINGS.match(name)]
    assert f"note: {len(brought)} entries are of the runtime" in done.err


def test_what_it_says_of_itself(carried: Carried, journey: Journey) -> None:
    listed, verified, whole = run_all(
        carried.laptop,
        [
            ("list", carried.bundle, "--json"),
            ("verify", carried.bundle, "--json"),
            ("list", journey.lockfile, "--json"),
        ],
    )
    carried_rows, rows = listed.json["packages"], whole.json["packages"]
    sizes = {path.name: path.stat().st_size for path in journey.mirror.rglob("*.*") if path.is_file()}
    assert [row | {"size": sizes[row["url"].rpartition("/")[2]]} for row in rows] == carried_rows
    assert (verified.status, verified.json["equal"], verified.json["platform"]) == (0, True, HERE)
    for words, text in ((["list"], "greet-client"), (["verify"], "equal to its header and manifest")):
        done = carried.node(carried.bundle, *words)
        assert (done.status, text in done.out) == (0, True), done.err
    checked = subprocess.run(
        ["sha256sum", "-c", "greet.sh.sha256"], cwd=carried.bundle.parent, capture_output=True, text=True
    )
    assert checked.stdout == "greet.sh: OK\n"


def test_its_help_is_that_of_the_file(carried: Carried) -> None:
    """What was typed is what the lines of usage begin with."""
    name = carried.bundle.name
    stick = carried.bundle.parent
    told = carried.node(name, cwd=stick)
    assert (told.status, told.err) == (0, "")
    assert f"sh ./{name} --prefix PATH" in told.out
    told = carried.node(name, "install", "--help", cwd=stick)
    assert told.status == 0, told.err
    assert told.out.startswith(f"Usage: sh ./{name} install [OPTIONS] SOURCE")
    assert "--trusted-keys" in told.out
    assert told.out.rstrip().endswith("leave it out.")
    # The header says in a variable what was typed; unpacking the runtime for each would say no more.
    calls = [("rollback", "--help"), ("rollback", "--sideways")]
    told, wrong = run_all(carried.laptop, calls, env={FROM_BUNDLE: f"./{name}"})
    assert told.out.startswith(f"Usage: sh ./{name} rollback [OPTIONS]")
    wrong.assert_error(2, "--sideways", f"do: sh ./{name} rollback --help")


def test_its_tail_is_a_plain_tar(carried: Carried) -> None:
    command = f"tail -c +{HEADER_SIZE + 1} {carried.bundle} | tar tv"
    listed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    assert {(row[0], row[1], row[3]) for row in rows} == {("-rw-r--r--", "0/0", "1980-01-01")}
    names = [row[-1] for row in rows]
    assert names[:2] == ["runtime.tar.gz", "manifest.json"]
    assert names[2:] == sorted(names[2:])
    with carried.bundle.open("rb") as file:
        file.seek(HEADER_SIZE)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            manifest = tar.extractfile("manifest.json")
            assert manifest is not None
            assert [entry["path"] for entry in json.load(manifest)["files"]] == names[2:]
    assert {"bundle.json", "sbom.cdx.json", "licenses.txt", "locks/greet.conda-lock.yml"} <= set(names)


def test_what_is_extracted_is_a_mirror_for_everybody(carried: Carried, tmp_path: Path) -> None:
    place = tmp_path / "extracted"
    done = carried.node(carried.bundle, "extract", place)
    assert done.status == 0, done.err
    strict, again, installed = run_all(
        carried.laptop,
        [
            ("verify", place, "--strict"),
            ("extract", carried.bundle, place),
            ("install", place, "--dry-run", "--prefix", tmp_path / "p"),
        ],
    )
    assert (strict.status, installed.status) == (0, 0), strict.err + installed.err
    again.assert_error(2, "something of that name")
    (channel,) = (place / "conda").iterdir()
    found = conda_install(tmp_path / "conda", [channel.as_uri()], ["greet"], HERE)
    assert {"greet", "python", "libgreet"} <= set(found)
    index, wheels = (place / "pypi" / "simple").as_uri(), tmp_path / "wheels"
    words = ["-q", "--isolated", "--disable-pip-version-check", "--no-deps", "--index-url", index]
    argv = [sys.executable, "-m", "pip", "download", *words, "-d", str(wheels), "greet-client"]
    subprocess.run(argv, check=True)
    assert os.listdir(wheels) == ["greet_client-2.0-py3-none-any.whl"]


# -- the same bytes --------------------------------------------------------------------------------------


def test_the_same_bytes_on_two_laptops(
    carried: Carried, journey: Journey, runtime_lock: Path, tmp_path: Path
) -> None:
    """Another umask, time zone, order of directories, number of jobs; from the lockfile, not the mirror."""
    copy = tmp_path / "copy"
    for path in sorted(journey.mirror.rglob("*"), reverse=True):
        if path.is_file():
            target = copy / path.relative_to(journey.mirror)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    laptop = Shell(tmp_path, tmp_path)
    calls = [
        ("bundle", journey.lockfile, "--runtime-lock", runtime_lock, "-o", "one.sh", "-j", "1"),
        ("bundle", copy, "--no-runtime", "-o", "two.sh"),
    ]
    done = run_all(laptop, calls, env={"TZ": "Pacific/Kiritimati", "LC_ALL": "C"}, umask=0o077)
    assert [one.status for one in done] == [0, 0], done
    assert (tmp_path / "one.sh").read_bytes() == carried.bundle.read_bytes()
    (other,) = run_all(laptop, [("bundle", journey.lockfile, "--no-runtime", "-o", "three.sh")], umask=0)
    assert other.status == 0
    assert (tmp_path / "two.sh").read_bytes() == (tmp_path / "three.sh").read_bytes()
    assert {(tmp_path / f"{name}.sh").stat().st_mode & 0o777 for name in ("one", "two", "three")} == {0o755}
    assert (tmp_path / "one.sh.sha256").stat().st_mode & 0o777 == 0o644


# -- what goes in ----------------------------------------------------------------------------------------


def test_groups(envforge: Shell, tmp_path: Path) -> None:
    lock = publish(tmp_path / "site", *two())
    calls: list[Sequence[object]] = [
        (*SMALL, "main.sh", lock),
        (*SMALL, "both.sh", lock, "--group", "dev"),
        (*SMALL, "none.sh", lock, "--group", "test"),
        *((("list", name, "--json")) for name in ("main.sh", "both.sh")),
        ("install", "main.sh", "--prefix", "main"),
        ("install", "both.sh", "--prefix", "both"),
        ("install", "both.sh", "--prefix", "some", "--group", "main"),
        ("install", "main.sh", "--prefix", "more", "--group", "dev"),
    ]
    *done, no_group, listed, listed_both, main, both, some, more = run_all(envforge, calls)
    assert [one.status for one in (*done, main, both, some)] == [0] * 5
    no_group.assert_error(2, "no group test")
    assert [row["name"] for row in listed.json["packages"]] == ["a"]
    assert [row["name"] for row in listed_both.json["packages"]] == ["a", "b"]
    shares = {name: sorted(os.listdir(envforge.cwd / name / "share")) for name in ("main", "both", "some")}
    assert shares == {"main": ["a"], "both": ["a", "b"], "some": ["a"]}
    more.assert_error(3, "neither in the bundle nor in the store: b-1.0-0.conda")


def test_without_a_runtime_the_node_needs_an_envforge(envforge: Shell, tmp_path: Path) -> None:
    lock = publish(tmp_path / "site", *two())
    bundle = tmp_path / "small.sh"
    assert run_all(envforge, [(*SMALL, bundle, lock)])[0].status == 0
    node = Node(tmp_path / "node", ("sh",))
    node.place.mkdir()
    refused = node(bundle, "--prefix", "env", "--quiet")
    refused.assert_error(3, "no runtime, and this node no envforge", f"envforge install {bundle}")
    (node.place / "bin" / "envforge").write_text(f'#!/bin/sh\nexec {sys.executable} -m envforge "$@"\n')
    (node.place / "bin" / "envforge").chmod(0o755)
    done = node(bundle, "--prefix", "env")
    assert done.status == 0, done.err
    assert f"next: envforge verify {node.place}/env\n" in done.err
    assert (node.place / "env/share/a").read_text() == "a"
    assert not (node.place / "env/.envforge/runtime").exists()


def test_envforge_alone_for_a_site(
    carried: Carried, journey: Journey, runtime_lock: Path, tmp_path: Path
) -> None:
    laptop, node = Shell(tmp_path, tmp_path), Node(tmp_path / "node", ("sh",))
    node.place.mkdir()
    words = ("bundle", journey.mirror, "--runtime-lock", runtime_lock, "--runtime-only", "--json")
    made = laptop(*words, "-o", ".").json
    assert (made["packages"], made["groups"]) == (0, [])
    bundle = Path(made["path"])
    assert re.fullmatch(rf"greet-{HERE}-[0-9a-f]{{8}}\.sh", bundle.name)
    # The bytecode of its runtime is in the store already, which saves the time.
    store = carried.prefix.resolve().parent / "store"
    done = node(bundle, "--prefix", "tool", "--store", store)
    assert done.status == 0, done.err
    tool = node.place / "tool/bin/envforge"
    small = publish(tmp_path / "site", *two())
    laptop(*SMALL, tmp_path / "small.sh", small)
    script = '. "$1"/.envforge/activate.sh && exec envforge install "$2" --prefix env'
    for argv in (
        [str(tool), "verify", str(node.place / "tool")],
        [*node.program, "-c", script, "sh", str(node.place / "tool"), str(tmp_path / "small.sh")],
    ):
        ended = subprocess.run(argv, cwd=node.place, env=node.environment(), capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    assert (node.place / "env/share/a").read_text() == "a"
    # Without readlink, too, which is not among a node's programs.
    assert not (node.place / "bin/readlink").exists()


# -- refusals --------------------------------------------------------------------------------------------


def test_for_another_platform(envforge: Shell, tmp_path: Path) -> None:
    rows = [conda(library("a", {"share/a": b"a"}, subdir="noarch", noarch="generic"), platform=OTHER)]
    lock = publish(tmp_path / "site", *rows, conda(library("b", {"share/b": b"b"})))
    calls: list[Sequence[object]] = [
        (*SMALL, "which.sh", lock),
        (*SMALL, "mac.sh", lock, "-p", "osx-arm64"),
        (*SMALL, "other.sh", lock, "-p", OTHER),
        ("install", "other.sh", "--prefix", "p"),
        ("verify", "other.sh"),
        (*SMALL, "delta.sh", lock, "-p", HERE, "--since", "other.sh"),
    ]
    which, mac, made, refused, verified, since = run_all(envforge, calls)
    which.assert_error(2, "2 platforms that a bundle can be for", "say which: -p ")
    mac.assert_error(2, "a bundle cannot be for osx-arm64")
    assert (made.status, verified.status) == (0, 0), made.err
    refused.assert_error(2, f"the bundle is for {OTHER}, and this machine is {HERE}", f"-p {HERE}")
    since.assert_error(2, f"the older bundle is for {OTHER}", "--since other.sh")
    node = Node(envforge.cwd, ("sh",))
    node("other.sh", "--prefix", "p").assert_error(2, f"is for {OTHER}, and this node is {HERE}")
    assert everything(envforge.cwd) == sorted(
        ["other.sh", "other.sh.sha256", "bin", *(f"bin/{p.name}" for p in (envforge.cwd / "bin").iterdir())]
    )


def test_bound_to_its_lock(envforge: Shell, tmp_path: Path) -> None:
    lock = publish(tmp_path / "site", *two())
    (made,) = run_all(envforge, [(*SMALL, "b.sh", lock, "--json")])
    digest = subprocess.run(["sha256sum", lock], capture_output=True, text=True, check=True).stdout.split()[0]
    words = ("install", "b.sh", "--prefix", "p", "--dry-run", "--expect-lock")
    calls = [(*words, f"sha256:{text}") for text in (made.json["lock"], digest, "0" * 64)]
    rows, file, other = run_all(envforge, calls)
    assert (rows.status, file.status) == (0, 0), rows.err + file.err
    other.assert_error(2, "not the expected one")


def test_a_signature_is_asked_for_on_the_node(envforge: Shell, tmp_path: Path) -> None:
    lock = publish(tmp_path / "site", *two())
    install = ("install", "b.sh", "--prefix", "p", "--trusted-keys")
    calls: list[Sequence[object]] = [
        ("keygen", "-o", "my.key", "--name", "ada@example.org"),
        ("keygen", "-o", "other.key", "--name", "eve@example.org"),
        (*SMALL, "b.sh", lock),
        (*install, "my.key.pub"),
        (*SMALL, "b.sh", lock, "--sign", "my.key", "--json"),
        ("install", "b.sh", "--prefix", "p", "--require-signature"),
        (*install, "other.key.pub"),
        ("verify", "b.sh", "--trusted-keys", "my.key.pub"),
        (*install, "my.key.pub", "--require-signature"),
    ]
    *keys, plain, unsigned, signed, no_keys, foreign, verified, installed = run_all(envforge, calls)
    assert [one.status for one in (*keys, plain, signed, verified, installed)] == [0] * 6, signed.err
    assert signed.json["signature"].endswith("b.sh.dsse.json")
    for one in (unsigned, foreign):
        one.assert_error(2, "b.sh")
    no_keys.assert_error(2, "--trusted-keys FILE")
    assert "note: signed by ada@example.org" in installed.err
    (envforge.cwd / "b.sh").write_bytes((envforge.cwd / "b.sh").read_bytes()[:-1] + b"\1")
    own_voice, altered = (
        run_all(envforge, [(*install, "my.key.pub")], env=env)[0] for env in ({FROM_BUNDLE: "b.sh"}, {})
    )
    own_voice.assert_error(2, "cannot vouch for itself")
    altered.assert_error(2)


# -- nothing is left -------------------------------------------------------------------------------------


def test_an_artifact_that_was_altered_in_the_mirror(envforge: Shell, tmp_path: Path) -> None:
    lock = publish(tmp_path / "site", *two())
    assert run_all(envforge, [("mirror", lock, tmp_path / "mirror")])[0].status == 0
    (package,) = (tmp_path / "mirror/conda").rglob("a-1.0-0.conda")
    content = package.read_bytes()
    calls = [(*SMALL, "b.sh", tmp_path / "mirror")]
    for changed in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], content + b"\0", b""):
        package.write_bytes(changed)
        (ended,) = run_all(envforge, calls)
        assert ended.status in (2, 3)
        ended.assert_error(ended.status, "a-1.0-0.conda")
        assert everything(envforge.cwd) == []
    package.unlink()
    run_all(envforge, calls)[0].assert_error(3, "the mirror lacks a-1.0-0.conda")
    assert everything(envforge.cwd) == []


def test_a_disk_that_refuses(envforge: Shell, tmp_path: Path) -> None:
    lock = publish(tmp_path / "site", *two())
    done = run_all(
        envforge,
        [
            (*SMALL, "no/such/b.sh", lock),
            (*SMALL, "/proc/b.sh", lock),
            (*SMALL, "a\nb.sh", lock),
            ("mirror", lock, "mirror"),
        ],
    )
    done[0].assert_error(2, "no such directory", "mkdir -p")
    done[1].assert_error(3, "/proc")
    done[2].assert_error(2, "a file of this name gets no checksum")
    before = everything(envforge.cwd)
    small = ("prlimit", "--fsize=20000", "--")
    ended = envforge(*SMALL, "b.sh", "mirror", status=3, before=small)
    ended.assert_error(3, "b.sh")
    assert everything(envforge.cwd) == before


def test_what_a_killed_run_has_left_is_removed_by_the_next(envforge: Shell, tmp_path: Path) -> None:
    """And nothing else: the directory is the user's, and others may be at it."""
    lock = publish(tmp_path / "site", conda(library("big", {"share/big": os.urandom(40_000_000)})))
    envforge(*SMALL, "made.sh", lock)
    process = subprocess.Popen(
        [sys.executable, "-m", "envforge", *SMALL, "other.sh", str(lock)],
        cwd=envforge.cwd,
        env=envforge.environment(),
    )
    while process.poll() is None and not list(envforge.cwd.glob(".other.sh.*")):
        time.sleep(0.0002)
    process.kill()
    process.wait()
    left = [path.name for path in envforge.cwd.glob(".*")]
    assert {name.split(".")[1][:4] for name in left} == {"other"[:4], "work"}
    mark = owner_mark()  # of a living process
    host = mark.partition("-")[0]
    stays = [
        f".work-{mark}-abcdefgh", f".made.sh.{mark}", ".gone-fishing", ".notes.20240101-12-30", ".work-1",
        f".work-{'0' * 8}-1-1-abcdefgh", f"work-{host}-1-1-abcdefgh",
    ]  # fmt: skip
    for name in stays:
        (envforge.cwd / name).write_text("")
        os.utime(envforge.cwd / name, (0, 0))
    envforge(*SMALL, "made.sh", lock)
    assert {path.name for path in envforge.cwd.iterdir()} == {*stays, "made.sh", "made.sh.sha256"}


def test_an_interruption(envforge: Shell, journey: Journey) -> None:
    envforge(*SMALL, "greet.sh", journey.mirror)
    before = (envforge.cwd / "greet.sh").read_bytes()
    names = everything(envforge.cwd)
    struck = 0
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-m", "envforge", *SMALL, "greet.sh", str(journey.mirror)],
            cwd=envforge.cwd,
            env=envforge.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and not list(envforge.cwd.glob(".greet.sh.*")):
            time.sleep(0.0002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        if process.returncode == 130:
            struck += 1
            assert said.strip() == "envforge: interrupted; nothing half-made is left"
            break
        assert process.returncode == 0, said
    assert everything(envforge.cwd) == names
    assert (envforge.cwd / "greet.sh").read_bytes() == before
    assert struck
