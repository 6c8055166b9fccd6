"""PyTorch's indexes follow the CUDA of the target; all are directories here, set as a site's mirrors."""

from __future__ import annotations

from pathlib import Path

import pytest

from envforge.errors import CouldNotError, UnsatisfiableError
from envforge.model.access import Access
from envforge.model.lockfile import LockedPackage
from envforge.resolvers.pypi.places import PYPI, Places
from envforge.resolvers.pypi.request import PypiRequest
from envforge.resolvers.pypi.resolver import PypiPorts, resolve
from envforge.resolvers.pypi.torch import BASE, backend_of, torch_backends, with_torch

from ._index import Index, Wheel
from ._resolving import Ask, lines, target, versions

TAG = "cp311-cp311-linux_x86_64"


@pytest.mark.parametrize(
    ("platform", "cuda", "found"),
    [
        ("linux-64", None, ("cpu",)),
        ("linux-aarch64", None, ("cpu",)),
        ("linux-64", "12.4", ("cu124", "cu126", "cu128", "cu129", "cu121", "cu118")),
        ("linux-64", "12.5", ("cu124", "cu126", "cu128", "cu129", "cu121", "cu118")),
        ("win-64", "12", ("cu121", "cu124", "cu126", "cu128", "cu129", "cu118", "cu117")),
        ("linux-64", "13.1", ("cu130", "cu132", "cu129", "cu128")),
        ("linux-64", "99.9", ("cu132", "cu130")),
        ("osx-arm64", "12.4", ()),
        ("linux-ppc64le", None, ()),
    ],
)
def test_which_indexes_fit(platform: str, cuda: str | None, found: tuple[str, ...]) -> None:
    where = target(platform, *([f"__cuda={cuda}"] if cuda else []))
    backends = torch_backends(where)
    assert backends[: len(found)] == found
    assert len(set(backends)) == len(backends)
    assert bool(backends) == bool(found)


@pytest.fixture
def request_of(ask: Ask, tmp_path: Path) -> Torch:
    pypi = Index(tmp_path / "pypi").add(
        Wheel(name="torch", version="2.9.0", requires=("nvidia-cublas",)),
        Wheel(name="light", version="1.0", requires=("torch>=2", "torchmetrics")),
        Wheel(name="torchmetrics", version="1.0", requires=("torch",)),
        Wheel(name="nvidia-cublas", version="1.0"),
    )
    for backend, offered in (("cpu", ("2.9.0",)), ("cu124", ("2.6.0",)), ("cu128", ("2.8.0", "2.9.0"))):
        Index(tmp_path / "whl" / backend).add(
            *(
                Wheel(name="torch", version=f"{version}+{backend}", tag=TAG, requires=("nvidia-cublas",))
                for version in offered
            )
        )
    for backend in ("cu126", "cu129", "cu121", "cu118"):
        Index(tmp_path / "whl" / backend).add(Wheel(name="unrelated", version="1.0"))
    mirrors = {PYPI: (pypi.file_url,)}
    for place in (tmp_path / "whl").iterdir():
        mirrors[f"{BASE}/{place.name}"] = ((place / "simple").as_uri(),)
        mirrors[f"https://download.pytorch.org/files/{place.name}"] = ((place / "files").as_uri(),)
    return Torch(ask, Access(mirrors=mirrors))


class Torch:
    def __init__(self, ask: Ask, access: Access) -> None:
        self.ask, self.access = ask, access

    def __call__(self, *texts: str, cuda: str | None = None, **places: object) -> tuple[LockedPackage, ...]:
        request = PypiRequest(
            requirements=lines(*texts),
            target=target("linux-64", *([f"__cuda={cuda}"] if cuda else [])),
            python_version="3.11.14",
            places=Places(access=self.access, **places),  # type: ignore[arg-type]
        )
        ports = PypiPorts(metadata_of=self._metadata, hashes_of=lambda _: {})
        return with_torch(request, lambda one: resolve(one, cache=self.ask.cache, ports=ports))

    def _metadata(self, url: str, sha256: str) -> str:
        from envforge.edges.fetch import Fetcher
        from envforge.resolvers.pypi.metadata import wheel_metadata

        return wheel_metadata(Fetcher(offline=True, access=self.access), url, sha256)


def test_the_index_is_that_of_the_targets_cuda_and_the_url_the_public_one(request_of: Torch) -> None:
    for cuda, version in ((None, "2.9.0+cpu"), ("12.4", "2.6.0+cu124"), ("12.8", "2.9.0+cu128")):
        rows = {row.name: row for row in request_of("torch", cuda=cuda)}
        backend = version.partition("+")[2]
        assert rows["torch"].version == version
        assert rows["torch"].url.startswith(f"https://download.pytorch.org/files/{backend}/torch-")
        assert backend_of(rows.values()) == backend
        assert set(rows) == {"torch", "nvidia-cublas"}


def test_torch_that_another_needs_is_taken_from_there_too(request_of: Torch) -> None:
    found = versions(request_of("light", cuda="12.4"))
    assert found == {"light": "1.0", "nvidia-cublas": "1.0", "torch": "2.6.0+cu124", "torchmetrics": "1.0"}


def test_another_index_of_the_same_major_version_where_the_first_has_none_that_fits(
    request_of: Torch,
) -> None:
    assert versions(request_of("torch>=2.8", cuda="12.4"))["torch"] == "2.9.0+cu128"
    with pytest.raises(UnsatisfiableError):
        request_of("torch>=3", cuda="12.4")


def test_what_a_person_says_counts_more(request_of: Torch) -> None:
    assert versions(request_of("torch", cuda="12.4", indexes=(PYPI,)))["torch"] == "2.9.0"
    assert versions(request_of("torch", cuda="12.4", index_of=(("torch", PYPI),)))["torch"] == "2.9.0"
    own = (("torch", f"{BASE}/cpu"),)
    assert versions(request_of("torch", cuda="12.4", index_of=own))["torch"] == "2.9.0+cpu"


def test_without_torch_nothing_of_it_is_asked(request_of: Torch) -> None:
    rows = request_of("nvidia-cublas", cuda="12.4")
    assert versions(rows) == {"nvidia-cublas": "1.0"}
    assert backend_of(rows) is None


def test_where_the_chosen_index_is_not_reached_there_is_another_way() -> None:
    def unreached(request: PypiRequest) -> None:
        raise CouldNotError("no connection", at=request.places.pinned["torch"], do="check the network")

    def asked(**places: object) -> str | None:
        request = PypiRequest(
            requirements=lines("torch"),
            target=target(),
            python_version="3.11.14",
            places=Places(**places),  # type: ignore[arg-type]
        )
        with pytest.raises(CouldNotError) as caught:
            with_torch(request, unreached)
        return caught.value.do

    way = f"check the network; or take what PyPI has: envforge lock --index-url {PYPI}"
    assert (asked(), asked(index_of=(("torch", PYPI),))) == (way, "check the network")
