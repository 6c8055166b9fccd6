"""Installing: offline, for the very path, the same each time, all or nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envforge.edges.store import Store
from envforge.node.install import InstallOptions, InstallResult, install
from envforge.node.sources.source import MirrorSource
from envforge.node.verify import verify_prefix
from envforge.reporting import Recorder
from tests.conftest import Journey, Shell, Warmed

ROOT = os.geteuid() == 0
OFFLINE = ("unshare", "--map-root-user", "--net")


def can_isolate() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*OFFLINE, "true"], capture_output=True, check=False).returncode == 0
    )


def tree(directory: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every entry with its mode and content."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            found[name] = (0, str(path.readlink()))
        else:
            found[name] = (path.stat().st_mode, path.read_bytes() if path.is_file() else "")
    return found


def generation(prefix: Path) -> Path:
    return prefix.parent / prefix.readlink()


def test_the_environment_runs_from_its_own_path(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    prefix = tmp_path / "envs" / "greet"
    done = envforge("install", journey.mirror, "--prefix", prefix)
    assert "installed 6 packages" in done.out
    assert prefix.is_symlink()
    assert generation(prefix).parent.name == "greet.generations"
    said = subprocess.run([prefix / "bin" / "greet"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["core 1.4", f"library {generation(prefix)}", f"text {generation(prefix)}"]
    said = subprocess.run(
        [prefix / "bin" / "greet-client"], capture_output=True, text=True, check=True
    ).stdout
    assert "core 1.4 from conda" in said


@pytest.mark.skipif(not can_isolate(), reason="no network namespace can be made here")
def test_no_network_is_needed(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    envforge("install", journey.mirror, "--prefix", prefix, before=OFFLINE)
    envforge("verify", prefix, "--against", journey.mirror, before=OFFLINE)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
@pytest.mark.parametrize("words", [("install",), ("verify",), ("verify", "--against")])
def test_no_socket_is_opened(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed, words: tuple[str, ...]
) -> None:
    prefix, trace = tmp_path / "p", tmp_path / "trace"
    traced = ("strace", "-f", "-e", "trace=socket", "-o", str(trace))
    if words == ("install",):
        envforge("install", journey.mirror, "--prefix", prefix, before=traced)
    else:
        envforge("install", journey.mirror, "--prefix", warmed(prefix))
        more = ("--against", journey.mirror) if "--against" in words else ()
        envforge("verify", prefix, *more, before=traced)
    families = trace.read_text()
    assert "AF_INET" not in families
    assert "AF_NETLINK" not in families


def test_two_runs_give_the_same_generation_byte_for_byte(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    prefix, kept = tmp_path / "envs" / "p", tmp_path / "kept"
    envforge("install", journey.mirror, "--prefix", prefix, umask=0o022)
    (tmp_path / "envs").rename(kept)
    elsewhere = tmp_path / "another" / "mirror"
    shutil.copytree(journey.mirror, elsewhere)
    day = {"TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"}
    envforge(
        "install", elsewhere, "--prefix", prefix, "--store", tmp_path / "store", "-j", 1, umask=0o077, env=day
    )
    assert prefix.readlink() == (kept / "p").readlink()
    one, other = tree(kept / prefix.readlink()), tree(generation(prefix))
    assert one == other
    assert len(one) > 500


def test_nothing_names_the_place_where_it_was_made(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    envforge("install", journey.mirror, "--prefix", prefix)
    for name, (_, content) in tree(generation(prefix)).items():
        text = content if isinstance(content, bytes) else content.encode()
        assert b".work-" not in text, name
        assert str(journey.mirror).encode() not in text, name


def test_bytecode_is_there_for_every_source_and_never_written_again(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    prefix = tmp_path / "p"
    envforge("install", journey.mirror, "--prefix", prefix)
    before = tree(generation(prefix))
    program = "import json, email.mime.text, greet_client.cli, greet, ctypes.util"
    subprocess.run([prefix / "bin" / "python", "-c", program], check=True)
    for path in generation(prefix).rglob("*.py"):
        os.utime(path)  # times do not matter
    subprocess.run([prefix / "bin" / "python", "-c", program], check=True)
    assert tree(generation(prefix)) == before
    sources = [name for name in before if name.startswith("lib/python") and name.endswith(".py")]
    compiled = {name for name in before if name.endswith(".pyc")}
    assert len(compiled) >= len(sources) - 5
    flags = {int.from_bytes(before[name][1][4:8], "little") for name in compiled}  # type: ignore[arg-type]
    assert flags == {1}


def test_nothing_to_do_says_so_and_changes_nothing(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    prefix = warmed(tmp_path / "p")
    envforge("install", journey.mirror, "--prefix", prefix)
    before = sorted((tmp_path / "p.generations").iterdir())
    again = envforge("install", journey.mirror, "--prefix", prefix, "--json")
    assert again.json["changed"] is False
    assert sorted((tmp_path / "p.generations").iterdir()) == before


def test_scripts_work_from_a_path_with_blanks_and_from_a_long_one(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    for parent in (tmp_path / "a b", tmp_path / ("x" * 60) / ("y" * 60)):
        prefix = warmed(parent / "p")
        envforge("install", journey.mirror, "--prefix", prefix)
        for script in ("greet", "greet-client"):
            done = subprocess.run([prefix / "bin" / script], capture_output=True, text=True, check=True)
            assert "core 1.4" in done.stdout
        envforge("verify", prefix, "--against", journey.mirror)


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
def test_another_user_can_verify_although_the_umask_was_strict(envforge: Shell, journey: Journey) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        envforge("install", journey.mirror, "--prefix", place / "p", umask=0o077)
        done = subprocess.run(
            [place / "p" / "bin" / "greet"], capture_output=True, text=True, check=True, user=65534
        )
        assert "core" in done.stdout
        unreadable = [p for p in place.rglob("*") if not p.is_symlink() and not p.stat().st_mode & 0o004]
        assert not unreadable


def test_a_lockfile_installs_directly_where_there_is_a_network(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    prefix = tmp_path / "p"
    envforge("install", journey.lockfile, "--prefix", prefix)
    envforge("verify", prefix, "--against", journey.lockfile)
    other = tmp_path / "q"
    envforge("install", journey.mirror, "--prefix", other)
    assert (generation(prefix) / ".envforge/lock.json").read_bytes() == (
        generation(other) / ".envforge/lock.json"
    ).read_bytes()


def test_stores_are_layered_and_the_lower_one_is_only_read(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    site, mine = tmp_path / "site", tmp_path / "mine"
    envforge("install", journey.mirror, "--prefix", tmp_path / "p", "--store", site)
    before = tree(site)
    envforge("install", journey.mirror, "--prefix", tmp_path / "q", "--store", site, "--store", mine)
    assert tree(site) == before
    assert not list((mine / "trees").glob("*/*"))


# -- what is refused ---------------------------------------------------------------------------------


def test_a_real_directory_is_refused_before_a_byte_is_written(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    prefix = tmp_path / "here"
    prefix.mkdir()
    done = envforge("install", journey.mirror, "--prefix", prefix, status=None)
    done.assert_error(2, "real directory", str(prefix))
    assert not (tmp_path / "here.generations").exists()


def test_a_mount_point_is_refused(envforge: Shell, journey: Journey) -> None:
    envforge("install", journey.mirror, "--prefix", "/proc", status=None).assert_error(2, "mount point")


def test_a_foreign_symlink_and_a_file_are_refused(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").write_text("mine")
    envforge("install", journey.mirror, "--prefix", tmp_path / "link", status=None).assert_error(2, "symlink")
    envforge("install", journey.mirror, "--prefix", tmp_path / "file", status=None).assert_error(2, "file")
    envforge("install", journey.mirror, "--prefix", tmp_path / "file/p", status=None).assert_error(
        2, "below a file"
    )
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not ROOT, reason="needs a user who may not write")
def test_a_parent_that_cannot_be_written_to_is_refused(envforge: Shell, journey: Journey) -> None:
    done = envforge("install", journey.mirror, "--prefix", "/proc/sys/p", status=None)
    assert done.status in (2, 3)
    assert len(done.err.splitlines()) == 3


def test_an_altered_artifact_is_refused_and_nothing_is_left(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    for pattern in ("conda/**/greet-1*.conda", "pypi/files/**/greet_client*.whl"):
        mirror = tmp_path / "mirror"
        shutil.copytree(journey.mirror, mirror)
        artifact = next(mirror.glob(pattern))
        content = bytearray(artifact.read_bytes())
        content[len(content) // 2] ^= 1
        artifact.write_bytes(content)
        prefix = tmp_path / "p"
        done = envforge("install", mirror, "--prefix", prefix, status=None)
        done.assert_error(3, artifact.name, "not the file that was locked")
        assert not prefix.exists()
        assert not prefix.is_symlink()
        assert not [p for p in (tmp_path / "p.generations").glob("*") if p.name not in ("store", "log.txt")]
        shutil.rmtree(mirror)


def test_a_missing_artifact_is_named(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(journey.mirror, mirror)
    next(mirror.glob("conda/**/libgreet*.conda")).unlink()
    done = envforge("install", mirror, "--prefix", tmp_path / "p", status=None)
    done.assert_error(3, "libgreet", "lacks")


@pytest.mark.parametrize("victim", ["lib/**/greet/__init__.py", "info/index.json", "info/paths.json"])
def test_an_altered_store_is_found_before_it_is_linked(
    envforge: Shell, journey: Journey, tmp_path: Path, victim: str
) -> None:
    store = tmp_path / "store"
    envforge("install", journey.mirror, "--prefix", tmp_path / "p", "--store", store)
    candidates = [p for p in (store / "trees").rglob("*.py") if p.parent.name == "greet"]
    target = (
        candidates[0]
        if victim.startswith("lib")
        else next(
            p
            for p in (store / "trees").glob(f"*/*/{victim}")
            if b"greet-core" in p.read_bytes() or "paths" in victim
        )
    )
    target.chmod(0o644)
    target.write_bytes(target.read_bytes() + b" ")
    done = envforge("install", journey.mirror, "--prefix", tmp_path / "q", "--store", store, status=None)
    done.assert_error(3, "altered", target.name, "rm -rf")
    assert not (tmp_path / "q").exists()


def test_a_platform_that_is_not_locked_is_refused(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    text = journey.lockfile.read_text()
    other = "linux-aarch64" if "linux-64" in text else "linux-64"
    here = "linux-64" if "linux-64" in text else "linux-aarch64"
    (tmp_path / "other-lock.yml").write_text(text.replace(here, other))
    done = envforge("install", tmp_path / "other-lock.yml", "--prefix", tmp_path / "p", status=None)
    done.assert_error(2, here)
    assert not (tmp_path / "p.generations").exists()


def test_the_expected_lock_is_checked(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    import hashlib

    digest = hashlib.sha256(journey.lockfile.read_bytes()).hexdigest()
    wrong = envforge(
        "install",
        journey.mirror,
        "--prefix",
        tmp_path / "p",
        "--expect-lock",
        f"sha256:{'0' * 64}",
        status=None,
    )
    wrong.assert_error(2, digest)
    envforge(
        "install", journey.mirror, "--prefix", warmed(tmp_path / "p"), "--expect-lock", f"sha256:{digest}"
    )


def test_killed_at_any_time_there_is_no_third_state(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    prefix = tmp_path / "p"
    argv = [sys.executable, "-m", "envforge", "install", str(journey.mirror), "--prefix", str(prefix)]
    for delay in (0.2, 0.4, 0.6, 0.8, 1.0):
        process = subprocess.Popen(
            argv, env=envforge.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if prefix.is_symlink():
            envforge("verify", prefix)
            break
        assert not prefix.exists()
    envforge("install", journey.mirror, "--prefix", prefix)
    envforge("verify", prefix, "--against", journey.mirror)
    assert not list((tmp_path / "p.generations").glob(".work-*"))


def test_two_at_once_do_no_harm(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    argv = [sys.executable, "-m", "envforge", "install", str(journey.mirror), "--prefix", str(prefix)]
    running = [
        subprocess.Popen(argv, env=envforge.environment(), stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    envforge("verify", prefix, "--against", journey.mirror)


def test_an_interrupted_command_leaves_nothing(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    argv = [sys.executable, "-m", "envforge", "install", str(journey.mirror), "--prefix", str(prefix)]
    process = subprocess.Popen(
        argv, env=envforge.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert "Traceback" not in said
    assert not list((tmp_path / "p.generations").glob(".work-*"))


def test_the_lock_for_nodes_must_say_what_the_expected_lockfile_says(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    import hashlib
    import json

    mirror = tmp_path / "mirror"
    shutil.copytree(journey.mirror, mirror)
    (file,) = (mirror / "locks").glob("*.json")
    document = json.loads(file.read_text())
    document["packages"] = [row for row in document["packages"] if row["name"] != "greet-wire"]
    file.write_text(json.dumps(document))
    digest = hashlib.sha256(journey.lockfile.read_bytes()).hexdigest()
    done = envforge(
        "install", mirror, "--prefix", tmp_path / "p", "--expect-lock", f"sha256:{digest}", status=None
    )
    done.assert_error(2, "does not say what")
    assert not (tmp_path / "p").exists()


def test_the_digest_that_lock_prints_is_expected_too(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    check = ("lock", "--check", "--json")
    digest = envforge(*check, cwd=journey.directory).json["digest"]
    envforge("install", journey.mirror, "--prefix", warmed(tmp_path / "p"), "--expect-lock", digest)


def test_a_dry_run_writes_nothing(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    for source in (journey.mirror, journey.lockfile):
        done = envforge("install", source, "--prefix", tmp_path / "p", "--dry-run")
        assert "would install" in done.out
        assert not (tmp_path / "p.generations").exists()


def test_a_group_that_is_not_locked_is_refused(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    done = envforge("install", journey.mirror, "--prefix", tmp_path / "p", "--group", "dev", status=None)
    done.assert_error(2, "no group dev")


def test_a_relative_store_gives_the_same(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    envforge("install", journey.mirror, "--prefix", prefix, "--store", "store")
    envforge("verify", prefix, "--against", journey.mirror, "--store", "other")


def test_a_lockfile_of_ones_own_is_installed_from_a_mirror(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    mine = tmp_path / "mine-lock.yml"
    lines = journey.lockfile.read_text()
    mine.write_text(lines.replace("envforge.name: greet", "envforge.name: mine"))
    done = envforge("install", journey.mirror, "--lock", mine, "--prefix", warmed(tmp_path / "p"))
    assert "installed 6 packages" in done.out
    envforge("verify", tmp_path / "p", "--against", journey.mirror, "--lock", mine)
    envforge(
        "install", journey.mirror, "--lock", "none", "--prefix", tmp_path / "q", status=None
    ).assert_error(2, "none")


def test_somebody_who_was_faster_with_the_same(
    journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another install makes the generation in the very instant before ours would take its name."""
    others: list[InstallResult] = []
    racing = [True]

    def one() -> InstallResult:
        return install(
            MirrorSource(journey.mirror),
            tmp_path / "p",
            store=Store(tmp_path / "store"),
            options=InstallOptions(jobs=1),
            reporter=Recorder(),
        )

    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if target.parent.name == "p.generations" and path.name == "tree" and racing:
            racing.clear()
            others.append(one())
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    result = one()
    assert result.generation == others[0].generation
    assert verify_prefix(tmp_path / "p", jobs=1, reporter=Recorder()).differences == ()
    assert not list((tmp_path / "p.generations").glob(".work*"))
