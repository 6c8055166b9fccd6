"""What is locked in a lesser variant only because of what was assumed, and what a change of that changes."""

from __future__ import annotations

from envforge.model.platforms import Target
from envforge.resolvers.conda import LesserVariant
from tests.conda.world import Asking, Records, rows, target

GPU = target("linux-64", "__cuda=12.4")


def told(found: list[LesserVariant]) -> list[tuple[str, str, str, str]]:
    return [(one.name, one.locked, one.better, str(one.package)) for one in found]


def add_torch(channel: Records, version: str = "2.0") -> None:
    """As conda-forge has it: the builds for GPUs have the higher number."""
    channel.add("cuda-version", "12.2", constrains=["__cuda >=12"])
    channel.add("libtorch", version, build="cpu_h0123456_0")
    channel.add("libtorch", version, "cuda-version 12.*", build="cuda12_h0123456_200")
    channel.add("torch", version, f"libtorch {version} cpu_*", build="cpu_py312h0123456_0")
    channel.add("torch", version, f"libtorch {version} cuda12_*", "__cuda", build="cuda12_py312h0123456_200")
    channel.add("vision", "1.0", "torch * cpu*", build="cpu_py312_0")
    channel.add("vision", "1.0", "torch * cuda*", build="cuda_py312_1")


def test_a_build_for_gpus_is_on_offer(channel: Records, ask: Asking) -> None:
    add_torch(channel)
    assert told(ask.lesser("vision")) == [
        ("vision", "1.0 cpu_py312", "1.0 cuda_py312", "__cuda=12.0"),
        ("torch", "2.0 cpu_py312", "2.0 cuda12_py312", "__cuda=12.0"),
    ]
    assert ask.lesser("vision", on=GPU) == []
    assert ask.lesser("torch=*=cpu*") == []


def test_a_build_for_newer_processors_is_on_offer(channel: Records, ask: Asking) -> None:
    for level, archs in {"1": ("x86_64", "x86_64_v3", "x86_64_v4"), "3": ("x86_64_v3", "x86_64_v4")}.items():
        for number, arch in enumerate(archs):
            channel.add("_level", level, f"__archspec 1 {arch}", build=f"{arch}_{number}")
    channel.add("fast", "1.0", "_level >=1", build="v1_0")
    channel.add("fast", "1.0", "_level >=3", build="v3_1")
    assert told(ask.lesser("fast")) == [("fast", "1.0 v1", "1.0 v3", "__archspec=1=x86_64_v3")]
    assert ask.lesser("fast", on=target("linux-64", "__archspec=1=x86_64_v4")) == []


def test_a_newer_version_of_what_was_asked_for(channel: Records, ask: Asking) -> None:
    channel.add("a", "1.0", "below")
    channel.add("a", "2.0", "__glibc >=2.34,<3.0.a0", "below")
    channel.add("below", "1.0")
    channel.add("below", "2.0", "__glibc >=2.34")
    assert told(ask.lesser("a")) == [("a", "1.0 0", "2.0 0", "__glibc=2.34")]


def test_nothing_is_said_where_it_would_change_nothing(channel: Records, ask: Asking) -> None:
    channel.add("a", "1.0", "__glibc >=2.17,<3.0.a0", "__unix", build="0_5")
    channel.add("a", "1.0", "__cuda", build="cuda_1")  # the solver takes the higher number, GPU or not
    channel.add("mac", "1.0")
    channel.add("mac", "1.0", "__osx >=11", build="osx_9")
    assert ask.lesser("a", "mac") == []


def locked(ask: Asking, on: Target, *specs: str) -> dict[str, str]:
    return {name: record.build for name, record in ask.solve(*specs, on=on).items()}


def test_locking_again_for_more_changes_the_variant_and_not_the_version(
    channel: Records, ask: Asking
) -> None:
    add_torch(channel)
    first = ask.solve("vision")
    add_torch(channel, "2.1")
    kept = rows(tuple(first.values()))
    same = ask.solve("vision", preferred=kept, before=target())
    assert {name: record.url for name, record in same.items()} == {n: r.url for n, r in first.items()}
    more = ask.solve("vision", preferred=kept, before=target(), on=GPU)
    assert (more["torch"].version, more["torch"].build) == ("2.0", "cuda12_py312h0123456_200")
    assert more["libtorch"].build == "cuda12_h0123456_200"
    back = ask.solve("vision", preferred=rows(tuple(more.values())), before=GPU)
    assert {name: record.url for name, record in back.items()} == {n: r.url for n, r in first.items()}
    assert [one.better for one in ask.lesser("vision", preferred=kept, before=target())] == [
        "1.0 cuda_py312",
        "2.0 cuda12_py312",
    ]


def test_a_variant_that_goes_with_other_versions_of_what_came_along(channel: Records, ask: Asking) -> None:
    """Their versions were nobody's wish; that of what was asked for was."""
    for version in ("1.0", "2.0"):
        channel.add("blas", version)
    for version in ("1.0", "1.1"):
        channel.add("torch", version, "blas", build="cpu_0")
        channel.add("torch", version, "blas <2", "__cuda", build="cuda_200")
    kept = rows(tuple(ask.solve("torch=1.0", "blas").values()))
    assert {row.name: row.version for row in kept} == {"torch": "1.0", "blas": "2.0"}
    more = ask.solve("torch", preferred=kept, before=target(), on=GPU)
    assert {name: (one.version, one.build) for name, one in more.items()} == {
        "torch": ("1.0", "cuda_200"),
        "blas": ("1.0", "0"),
    }
    assert ask.solve("torch", "blas", preferred=kept, before=target(), on=GPU) == more


def test_a_newer_version_makes_no_use_of_what_is_offered(channel: Records, ask: Asking) -> None:
    add_torch(channel)
    channel.add("torch", "2.1", build="cpu_py312h0123456_0")
    (found,) = ask.lesser("torch", on=GPU)
    assert told([found]) == [("torch", "2.1 cpu_py312", "2.0 cuda12_py312", "__cuda=12.4")]
    assert found.instead == "torch=2.0=cuda12_py312*"
    # Nothing is said where it is used, where nobody wants it, and where it cannot be had.
    for specs in (("torch=2.0",), ("torch=*=cpu*",), ("torch", "vision=*=cpu*")):
        assert ask.lesser(*specs, on=GPU) == []


def test_a_version_that_has_no_other_variant_moves(channel: Records, ask: Asking) -> None:
    channel.add("a", "1.0", "__cuda")
    channel.add("a", "0.9")
    kept = rows(tuple(ask.solve("a", on=GPU).values()))
    assert ask.solve("a", preferred=kept, before=GPU)["a"].version == "0.9"


# -- real channels -----------------------------------------------------------------------------------------


def test_a_real_torch_and_a_real_jax(real: Asking) -> None:
    for on in (target(), target("linux-64", "__archspec=1=x86_64_v3")):
        assert told(real.lesser("python=3.12", "pytorch=2.10", "transformers", on=on)) == [
            ("pytorch", "2.10.0 cpu_mkl_py312", "2.10.0 cuda129_mkl_py312", "__cuda=12.0")
        ]
    assert told(real.lesser("python=3.12", "jax", "jaxlib=0.7.0")) == [
        ("jaxlib", "0.7.0 cpu_py312", "0.7.0 cuda129py312", "__cuda=12.0")
    ]
    assert real.lesser("python=3.12", "pytorch=2.10", "transformers", on=GPU) == []


def test_nothing_is_said_of_real_environments_that_lack_nothing(real: Asking) -> None:
    for specs in (
        ("python=3.12", "openmpi=5", "mpi4py>=4", "h5py=*=mpi_openmpi*", "numpy", "scipy", "matplotlib-base"),
        ("python=3.12", "xarray", "dask", "netcdf4", "zarr", "cartopy", "jupyterlab"),
    ):
        assert real.lesser(*specs) == []
        assert real.lesser(*specs, on=GPU) == []
