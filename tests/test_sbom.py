"""The bill of materials: valid by the schema, the same each time, and what the packages themselves say."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from envforge.demo.index import Wheel, wheel_bytes
from envforge.edges.licenses import TEXT_LIMIT, TEXTS_LIMIT, read_facts
from envforge.errors import InputError
from envforge.formats import cyclonedx_json, licenses_txt
from envforge.model.bill import PackageFacts
from envforge.model.lockfile import LockedPackage, Lockfile
from tests.conftest import Journey, Shell
from tests.node.world import HERE, Artifact, conda, library, mirror, pip, run_all

BSD = b"Redistribution and use in source and binary forms\n"


def validate(text: str) -> dict[str, Any]:
    """The document, once the schema of CycloneDX 1.6 takes it."""
    from cyclonedx.validation.json import JsonStrictValidator  # takes a second, in every worker

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document: dict[str, Any] = json.loads(text)
    return document


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in document["components"]}


def facts_of(tmp_path: Path, artifact: Artifact) -> PackageFacts:
    path = tmp_path / artifact.row.filename
    path.write_bytes(artifact.data)
    return read_facts(path, artifact.row.filename)


def test_a_mirror_a_prefix_and_a_lockfile(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    out = tmp_path / "x.json"
    calls = [
        ("sbom", journey.mirror),
        ("sbom", journey.mirror, "-o", out),
        ("install", journey.lockfile, "--prefix", prefix, "--store", tmp_path / "store"),
        ("sbom", prefix, "-q"),
        ("sbom", journey.lockfile),
        ("sbom", journey.mirror, "--licenses"),
        ("sbom", prefix, "--group", "dev"),
        ("sbom", journey.mirror, "-p", "osx-arm64"),
        ("sbom", journey.mirror, "--json"),
        ("sbom", journey.lockfile, "--store", tmp_path / "store"),
    ]
    first, written, _, installed, locked, texts, group, other, as_json, stored = run_all(envforge, calls)
    assert out.read_text() == first.out
    assert "packages for" in written.out
    of_mirror, of_prefix, of_lock = (validate(ended.out) for ended in (first, installed, locked))
    assert of_mirror == of_prefix
    assert stored.out == first.out
    assert as_json.json["text"] == first.out
    assert as_json.json["without_license"] == 0
    assert of_mirror["serialNumber"] == of_lock["serialNumber"]
    assert "timestamp" not in of_mirror["metadata"]
    assert "no licence is known of" in locked.err
    for part in of_mirror["components"]:
        assert part.pop("licenses")
    assert of_mirror["components"] == of_lock["components"]
    rows = by_name(of_lock)
    assert rows["greet-client"]["purl"].startswith("pkg:pypi/greet-client@")
    where = PackageURL.from_string(rows["python"]["purl"])
    assert where.type == "conda"
    assert set(where.qualifiers) == {"build", "channel", "subdir", "type"}
    assert {one["alg"] for one in rows["python"]["hashes"]} == {"SHA-256", "MD5"}
    graph = {node["ref"]: node.get("dependsOn", []) for node in of_lock["dependencies"]}
    assert rows["greet-core"]["bom-ref"] in graph[rows["greet"]["bom-ref"]]
    assert len(graph[of_lock["metadata"]["component"]["bom-ref"]]) == len(of_lock["components"])
    assert "greet-client" in texts.out
    assert "LICENCE" in texts.out
    group.assert_error(2, "leave it out")
    other.assert_error(2, "no packages for osx-arm64")


def test_an_artifact_that_is_not_the_locked_one_is_not_asked(envforge: Shell, tmp_path: Path) -> None:
    there = mirror(tmp_path / "mirror", one := conda(library("one", {"lib/one": b"1"})))
    path = there / one.path
    path.write_bytes(conda(library("one", {"lib/one": b"2"}, license="MIT")).data)
    (ended,) = run_all(envforge, [("sbom", there)])
    ended.assert_error(2, "not what was locked", str(path))


@pytest.mark.parametrize("archive", [".conda", ".tar.bz2"])
def test_what_a_conda_package_says(tmp_path: Path, archive: Any) -> None:
    info = {
        "licenses/LICENSE.txt": BSD,
        "licenses/third/COPYING": b"\x1b[31mred\x9b \xff\r\nline\r\n\xe2\x80\xaeright to left",
        "about.json": b"{}",
        "test/run.py": b"",
    }
    facts = facts_of(tmp_path, conda(library("one", {"a": b"1"}, license="MIT OR  X", info=info), archive))
    assert facts.license == "MIT OR X"
    assert [name for name, _ in facts.texts] == ["info/licenses/LICENSE.txt", "info/licenses/third/COPYING"]
    assert facts.texts[0][1].encode() == BSD
    assert facts.texts[1][1] == " [31mred\ufffd \ufffd\nline\n right to left"


def other_metadata(*lines: str, files: dict[str, bytes] | None = None) -> Artifact:
    """A wheel whose metadata says ``lines`` about its licence, in the places where wheels say it."""
    wheel = Wheel(name="some", version="1", files={"some.py": b""})
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(wheel_bytes(wheel))) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith("/METADATA"):
                content = "\n".join(
                    ["Metadata-Version: 2.1", "Name: some", "Version: 1", *lines, ""]
                ).encode()
            new.writestr(info, content)
        for name, content in (files or {}).items():
            new.writestr(f"some-1.dist-info/{name}", content)
    return pip(wheel, data=buffer.getvalue())


@pytest.mark.parametrize(
    ("lines", "license"),
    [
        (["License-Expression: Apache-2.0 OR MIT", "License: something"], "Apache-2.0 OR MIT"),
        (["License: MIT"], "MIT"),
        (["License: Lizenz für alle"], "Lizenz für alle"),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], "MIT License"),
        (
            [
                "License: The whole text",
                "        of it",
                "Classifier: License :: OSI Approved :: BSD License",
            ],
            "BSD License",
        ),
        (["Classifier: License :: OSI Approved", "Classifier: Topic :: License"], None),
        (["License: " + "x" * 400], None),
        ([], None),
    ],
)
def test_what_a_wheel_says(tmp_path: Path, lines: list[str], license: str | None) -> None:  # noqa: A002
    assert facts_of(tmp_path, other_metadata(*lines)).license == license


def test_the_texts_of_a_wheel_and_their_limits(tmp_path: Path) -> None:
    files = {
        "licenses/LICENSE": BSD,
        "licenses/vendored/x/LICENSE.txt": b"x" * (TEXT_LIMIT + 5),
        "LICENCE.md": b"old style",
        "top_level.txt": b"some",
    }
    facts = facts_of(tmp_path, other_metadata(files=files))
    texts = {name.removeprefix("some-1.dist-info/"): text for name, text in facts.texts}
    assert set(texts) == set(files) - {"top_level.txt"}
    assert texts["licenses/vendored/x/LICENSE.txt"].endswith("x\n[cut here]\n")
    many = {f"licenses/{number:02}": bytes([number]) * TEXT_LIMIT for number in range(48, 60)}
    facts = facts_of(tmp_path, other_metadata(files=many))
    assert sum(len(text) for _, text in facts.texts) <= TEXTS_LIMIT + 100


def test_what_is_no_archive_is_an_error(tmp_path: Path) -> None:
    for name in ("x-1-0.conda", "x-1-0.tar.bz2", "x-1-py3-none-any.whl"):
        path = tmp_path / name
        path.write_bytes(b"no archive")
        with pytest.raises(InputError):
            read_facts(path, name)
    assert read_facts(path, "x-1.tar.gz") == PackageFacts()


def test_the_list_of_licences(tmp_path: Path) -> None:
    one, two, three = (conda(library(name, {"a": b"1"})).row for name in ("one", "two", "three"))
    facts = {
        one.sha256 or "": PackageFacts(license="MIT", texts=(("info/licenses/A", "same\n"),)),
        two.sha256 or "": PackageFacts(license="MIT", texts=(("info/licenses/B", "same\n"), ("C", "other"))),
    }
    assert len(facts) == 2
    text = licenses_txt.write([two, replace(three, sha256="0" * 64), one], facts)
    lines = text.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["PACKAGE", "VERSION", "FROM", "LICENCE"],
        ["one", "1.0", "conda", "MIT"],
        ["three", "1.0", "conda", "-"],
        ["two", "1.0", "conda", "MIT"],
    ]
    assert text.count("same") == 1
    assert "one 1.0: info/licenses/A\ntwo 1.0: info/licenses/B\n" in text


def test_the_list_of_licences_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licenses_txt, "LIMIT", 2000)
    row = conda(library("one", {"a": b"1"})).row
    texts = tuple((str(number), str(number) * 500) for number in range(9))
    text = licenses_txt.write([row], {row.sha256 or "": PackageFacts(texts=texts)})
    assert len(text) < 3000
    assert "left out" in text


LICENSES = {
    "MIT": ("license", "id"),
    "apache-2.0": ("license", "id"),
    "BSD 3-Clause": ("license", "name"),
    "MIT OR Apache-2.0": ("expression", None),
    "(MIT AND (BSD-3-Clause OR Zlib)) OR GPL-3.0-or-later WITH GCC-exception-3.1": ("expression", None),
    "LicenseRef-IntelSimplifiedSoftwareOct2022 AND MIT": ("expression", None),
    "GPL-2.0+ AND MIT": ("expression", None),
    "MIT OR": ("license", "name"),
    "MIT WITH": ("license", "name"),
    "(MIT": ("license", "name"),
    "MIT AND My-Own": ("license", "name"),
    "MIT, BSD": ("license", "name"),
    ")(": ("license", "name"),
}


@pytest.mark.parametrize("text", LICENSES)
def test_ids_expressions_and_names(text: str) -> None:
    from license_expression import get_spdx_licensing

    row = conda(library("one", {"a": b"1"})).row
    lockfile = Lockfile(packages=(row,), channels=(), platforms=(HERE,))
    written = cyclonedx_json.write(lockfile, HERE, [row], {row.sha256 or "": PackageFacts(license=text)})
    (license_,) = by_name(validate(written))["one"]["licenses"]
    kind, inner = LICENSES[text]
    assert kind in license_
    assert inner is None or inner in license_["license"]
    if kind == "expression" and "LicenseRef" not in text:
        assert not get_spdx_licensing().validate(text).errors


def test_no_secret_and_no_virtual_package_gets_in() -> None:
    row = replace(
        conda(library("one", {"a": b"1"})).row,
        url=f"https://me:word@conda.example.org/t/to-ken/chan/{HERE}/one-1.0-0.conda",
        dependencies={"__glibc": ">=2.17", "two": "*"},
    )
    text = cyclonedx_json.write(Lockfile(packages=(row,), channels=(), platforms=(HERE,)), HERE, [row], {})
    document = validate(text)
    assert "to-ken" not in text
    assert "word" not in text
    assert "channel=chan" in document["components"][0]["purl"]
    assert all(not node.get("dependsOn") for node in document["dependencies"] if node["ref"] != "environment")


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,12}", fullmatch=True)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.dictionaries(names, st.tuples(names, st.text(max_size=30)), min_size=1, max_size=6), st.randoms())
def test_any_rows_make_a_valid_document_in_any_order(found: dict[str, tuple[str, str]], random: Any) -> None:
    rows = [
        LockedPackage(
            name=name,
            version=version,
            manager="pip",
            platform=HERE,
            url=f"https://files.example.org/{name}-{version}-py3-none-any.whl",
            sha256=f"{number:064x}",
            dependencies=dict.fromkeys(found, "*"),
        )
        for number, (name, (version, _)) in enumerate(found.items())
    ]
    facts = {
        row.sha256 or "": PackageFacts(license=" ".join(text.split()) or None)
        for row, (_, text) in zip(rows, found.values(), strict=True)
    }
    lockfile = Lockfile(packages=tuple(rows), channels=(), platforms=(HERE,))
    first = cyclonedx_json.write(lockfile, HERE, rows, facts)
    validate(first)
    random.shuffle(rows)
    assert cyclonedx_json.write(lockfile, HERE, rows, facts) == first
