from __future__ import annotations

import hashlib
import io
import random
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.edges.fetch import Fetcher
from envforge.errors import CouldNotError
from envforge.resolvers.pypi import metadata
from envforge.resolvers.pypi.hashes import artifact_hashes
from envforge.resolvers.pypi.metadata import parse_metadata, wheel_metadata

from ._index import Index, Wheel

ALPHA = Wheel(name="alpha", version="1.0", requires=("beta",))


def fetch(index: Index, wheel: Wheel = ALPHA, sha256: str | None = None) -> str:
    with index.served() as url:
        address = f"{url.removesuffix('/simple')}/files/{wheel.filename}#fragment"
        return wheel_metadata(Fetcher(retries=0), address, sha256 or wheel.sha256)


def test_metadata_from_beside_the_wheel(index: Index) -> None:
    index.add(ALPHA)
    assert fetch(index) == ALPHA.metadata
    assert index.asked == [f"/files/{ALPHA.filename}.metadata"]


@pytest.mark.parametrize("beside", [404, 403, 500, "page", "other", "other version"])
def test_metadata_from_the_wheel(index: Index, beside: int | str) -> None:
    index.add(ALPHA)
    path = f"/files/{ALPHA.filename}.metadata"
    if isinstance(beside, int):
        index.statuses = {path: beside}
    else:
        texts = {
            "page": "<html>sign in</html>",
            "other": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
            "other version": "Metadata-Version: 2.1\nName: alpha\nVersion: 2.0\n",
        }
        index.bodies = {path: ("text/html", texts[beside].encode())}
    assert fetch(index) == ALPHA.metadata


def part(span: str, body: bytes) -> tuple[int, bytes]:
    first, _, last = span.partition("-")
    start = int(first) if first else max(0, len(body) - int(last))
    return start, body[start : int(last) + 1 if first else None]


@pytest.fixture
def large(index: Index) -> tuple[Index, Wheel]:
    """A wheel whose METADATA lies far from its end, on a server that gives away parts."""
    buffer = io.BytesIO(ALPHA.content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("alpha/data", random.Random(0).randbytes(1 << 20))
    wheel = Wheel(name="alpha", version="1.0")
    wheel.__dict__["content"] = buffer.getvalue()
    index.metadata, index.parts = False, part
    index.add(wheel)
    return index, wheel


def test_of_a_large_wheel_only_parts_are_fetched(large: tuple[Index, Wheel]) -> None:
    assert fetch(*large) == ALPHA.metadata
    assert large[0].sent < 300_000


@pytest.mark.parametrize("fault", ["another part", "only the end", "not what was there", "too much"])
def test_of_a_server_that_is_wrong_about_parts_all_is_fetched(large: tuple[Index, Wheel], fault: str) -> None:
    def wrong(span: str, body: bytes) -> tuple[int, bytes]:
        start, content = part(span, body)
        return {
            "another part": (start, content[::-1]),
            "only the end": (start, content if span.startswith("-") else content[:10]),
            "not what was there": (start, content.replace(b"Version: 1.0", b"Version: 2.0")),
            "too much": (start, content if span.startswith("-") else body),
        }[fault]

    large[0].parts = wrong
    assert fetch(*large) == ALPHA.metadata
    assert large[0].sent > 1 << 20


@pytest.mark.parametrize("beside", [True, False])
def test_metadata_of_a_file_url(index: Index, *, beside: bool) -> None:
    index.metadata = beside
    index.add(ALPHA)
    url = (index.root / "files" / ALPHA.filename).as_uri()
    assert wheel_metadata(Fetcher(offline=True), url, ALPHA.sha256) == ALPHA.metadata
    assert artifact_hashes(Fetcher(offline=True), url) == {
        kind: hashlib.new(kind, ALPHA.content).hexdigest() for kind in ("sha256", "sha384", "sha512")
    }


def test_a_wheel_with_another_hash_is_not_read(index: Index) -> None:
    index.metadata = False
    index.add(ALPHA)
    with pytest.raises(CouldNotError, match="wrong sha256"):
        fetch(index, sha256="0" * 64)


def write(path: Path, members: dict[str, bytes]) -> tuple[str, str]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"alpha.py": b""}, "has no METADATA"),
        ({"other-1.0.dist-info/METADATA": b"Name: other"}, "has no METADATA"),
        ({"x/alpha-1.0.dist-info/METADATA": b"Name: alpha"}, "has no METADATA"),
        ({"alpha-1.0.dist-info/METADATA": b"x" * 2000}, "METADATA of more than 1000 bytes"),
    ],
)
def test_a_wheel_that_is_not_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes], what: str
) -> None:
    monkeypatch.setattr(metadata, "_LIMIT", 1000)
    url, sha256 = write(tmp_path / ALPHA.filename, members)
    with pytest.raises(CouldNotError, match=what):
        wheel_metadata(Fetcher(), url, sha256)


def test_a_wheel_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / ALPHA.filename).write_bytes(b"garbage")
    with pytest.raises(CouldNotError, match="cannot be read"):
        wheel_metadata(
            Fetcher(), (tmp_path / ALPHA.filename).as_uri(), hashlib.sha256(b"garbage").hexdigest()
        )


def test_a_url_that_is_no_wheel(tmp_path: Path) -> None:
    with pytest.raises(CouldNotError, match="not the name of a wheel"):
        wheel_metadata(Fetcher(), (tmp_path / "alpha-1.0.tar.gz").as_uri(), "0" * 64)


def test_odd_metadata_is_read_as_far_as_it_goes() -> None:
    metadata = parse_metadata(
        "Name: alpha\nRequires-Dist: beta (>=1.0)\nRequires-Dist: ??\n"
        "Requires-Dist: gamma; 'Undeclared_One' == extra\nProvides-Extra: Other.One\n\nRequires-Dist: body\n"
    )
    assert [str(requirement) for requirement in metadata.requires][:1] == ["beta>=1.0"]
    assert metadata.extras == {"undeclared-one", "other-one"}
    assert [r.name for r in metadata.only_for_extras] == ["gamma"]


@given(st.text())
def test_any_text_is_read_without_a_traceback(text: str) -> None:
    parse_metadata(text)
    parse_metadata(f"Name: alpha\nRequires-Dist: {text}\nProvides-Extra: {text}\n")
