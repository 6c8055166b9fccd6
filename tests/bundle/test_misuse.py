"""What people do to bundles that they should not, what they are told, and that nothing is harmed by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from envforge.model.bundle import BUNDLE_PLATFORMS
from tests.conftest import Journey, Shell
from tests.node import world
from tests.node.world import run_all

pytestmark = pytest.mark.skipif(world.HERE not in BUNDLE_PLATFORMS, reason="no bundle is for this platform")


@pytest.fixture(scope="module")
def made(journey: Journey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without a runtime, made once."""
    home = tmp_path_factory.mktemp("made")
    Shell(home, home)("bundle", journey.mirror, "--no-runtime", "-o", home / "made.sh")
    return home / "made.sh"


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """One to do anything with."""
    return Path(shutil.copyfile(made, tmp_path / "greet.sh"))


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_else(
    envforge: Shell, journey: Journey, bundle: Path, tmp_path: Path
) -> None:
    lockfile = tmp_path / "mine.yml"
    shutil.copyfile(journey.lockfile, lockfile)
    said = [
        (lockfile, "it is no bundle"),
        (tmp_path / "none" / "x.sh", f"mkdir -p {tmp_path / 'none'}"),
        (tmp_path / "ü.sh", "give it a name in ASCII"),
    ]
    calls = [("bundle", lockfile, "--no-runtime", "-o", place) for place, _ in said]
    for ended, (_, words) in zip(run_all(envforge, calls), said, strict=True):
        ended.assert_error(2, words)
    assert lockfile.read_bytes() == journey.lockfile.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".sh") == ["greet.sh"]


def test_an_older_bundle_of_that_name_is_replaced(envforge: Shell, journey: Journey, bundle: Path) -> None:
    before = bundle.read_bytes()
    envforge("bundle", journey.mirror, "--no-runtime", "-o", bundle)
    assert bundle.read_bytes() == before


def test_a_key_that_cannot_sign_is_refused_before_anything_is_written(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("no key\n")
    out = tmp_path / "signed.sh"
    for key, words in ((tmp_path / "none", "there is no key"), (text, "not a private key")):
        ended = envforge("bundle", journey.mirror, "--no-runtime", "--sign", key, "-o", out, status=None)
        ended.assert_error(2, words)
        assert not out.exists()


def test_what_makes_no_sense_together(
    envforge: Shell, journey: Journey, bundle: Path, tmp_path: Path
) -> None:
    calls = [
        ("bundle", bundle),
        ("bundle", journey.lockfile, "--lock", "x"),
        ("bundle", journey.lockfile, "--runtime-only", "--group", "dev"),
        ("bundle", journey.lockfile, "--runtime-only", "--since", bundle),
        ("bundle", journey.lockfile, "--runtime-only", "--no-runtime"),
    ]
    words = ("envforge extract", "--lock x", "--runtime-only", "--runtime-only", "--no-runtime")
    for ended, word in zip(run_all(envforge, calls), words, strict=True):
        ended.assert_error(2, word)


def test_names_that_are_no_bundles(envforge: Shell, bundle: Path, tmp_path: Path) -> None:
    calls = [
        ("extract", tmp_path / "none", "x"),
        ("extract", tmp_path, "x"),
        ("extract", __file__, "x"),
        ("extract", bundle, tmp_path),
    ]
    words = (
        "there is no such bundle",
        "a directory, and no bundle",
        "not a bundle",
        "something of that name",
    )
    for ended, word in zip(run_all(envforge, calls), words, strict=True):
        ended.assert_error(2, word)


def test_a_file_that_may_not_be_read(envforge: Shell, bundle: Path) -> None:
    bundle.chmod(0)
    for command in ("list", "verify"):
        # Root may read everything; then there is nothing to refuse.
        ended = envforge(command, bundle, status=None)
        if ended.status:
            ended.assert_error(2, "you may not read this", f"ls -ld {bundle}")


def test_a_bundle_says_what_is_in_it(envforge: Shell, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    calls = [
        ("extract", bundle, tmp_path / "extracted"),
        ("sbom", bundle),
        ("sbom", bundle, "--licenses"),
        ("sbom", bundle, "--json"),
        ("sbom", bundle, "-o", out),
        ("sbom", bundle, "-p", "osx-arm64"),
        ("sbom", bundle, "--group", "dev"),
    ]
    extracted, bill, licenses, document, written, platform, group = run_all(envforge, calls)
    assert extracted.status == 0, extracted.err
    assert bill.out == (tmp_path / "extracted" / "sbom.cdx.json").read_text() == out.read_text()
    assert licenses.out == (tmp_path / "extracted" / "licenses.txt").read_text()
    assert document.json["packages"] == len(json.loads(bill.out)["components"]) > 1
    assert written.out == f"{out}: {document.json['packages']} packages for {world.HERE}\n"
    platform.assert_error(2, f"the bundle is of {world.HERE}")
    group.assert_error(2, "--group")


def test_what_a_bundle_counts_is_not_called_unknown(envforge: Shell, bundle: Path, tmp_path: Path) -> None:
    ended = envforge("install", bundle, "--prefix", tmp_path / "p", "--dry-run", "--json")
    assert ended.json["unknown"] == 0
    assert ended.json["bytes"] > bundle.stat().st_size


def test_a_dry_run_writes_and_fetches_nothing(
    envforge: Shell, journey: Journey, bundle: Path, tmp_path: Path
) -> None:
    place = tmp_path / "extracted"
    calls = [
        ("bundle", journey.lockfile, "--dry-run", "--json"),
        ("bundle", journey.mirror, "--since", bundle, "-o", tmp_path / "x.sh", "--dry-run", "--json"),
        ("bundle", journey.mirror, "--dry-run"),
        ("extract", bundle, place, "--dry-run", "--json"),
        ("extract", bundle, place, "--json"),
    ]
    fetched, delta, text, would, did = run_all(envforge, calls)
    whole, rest = fetched.json, delta.json
    assert (whole["path"], whole["omitted"], whole["missing"] > 0) == (None, 0, True)
    assert (rest["omitted"], rest["missing"]) == (rest["packages"], 0)
    assert rest["path"] == str(tmp_path / "x.sh")
    assert text.out.startswith(f"would write greet-{world.HERE}-….sh for {rest['packages']} packages")
    assert would.json == {**did.json, "dry_run": True}
    assert did.json["files"] == sum(path.is_file() for path in place.rglob("*"))
    assert sorted(path.name for path in tmp_path.glob("*.sh")) == [bundle.name]
    assert not (envforge.home / ".cache/envforge/mirrors").exists()
