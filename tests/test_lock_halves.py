"""The two halves of a lock: a clash is explained, and what conda brings may be said by a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from envforge.demo.channel import ChannelBuilder
from envforge.demo.index import IndexBuilder, Wheel
from envforge.demo.packages import noarch_python
from tests.conftest import Shell, specification
from tests.test_lock import locked, small

PYTHON = small("python", "3.12.1")
_WHEELS = "learn (environment.yml:9) → scikit → num>=2"
LEARN = f"{_WHEELS}; conda: bind (environment.yml:6) → frame → num >=1.22,<2.0a0"


def world(
    tmp_path: Path, builder: ChannelBuilder, envforge: Shell, conda: tuple[str, ...], pip: tuple[str, ...]
) -> None:
    """num of two versions in conda; scikit needs the newer one on PyPI, and frame the older one in conda."""
    builder.add(PYTHON)
    for version in ("1.26", "2.1"):
        builder.add(noarch_python("num", version, {}))
    builder.add(noarch_python("frame", "2.2", {}, depends=("python", "num >=1.22,<2.0a0")))
    builder.add(noarch_python("bind", "1.0", {}, depends=("python", "frame")))
    builder.add(noarch_python("scikit", "1.5", {}, depends=("python", "num <2")))
    builder.write_index()
    index = IndexBuilder(tmp_path / "index")
    index.add(Wheel(name="learn", version="1.0", requires=("scikit",)))
    index.add(Wheel(name="scikit", version="1.9", requires=("num>=2",)))
    index.add(Wheel(name="plain", version="1.0", requires=("num>=2",)))
    index.write_index()
    text = specification(builder.url, "linux-64", index_url=index.url, conda=("python", *conda), pip=pip)
    (envforge.cwd / "environment.yml").write_text(text)


@pytest.mark.parametrize(
    ("conda", "pip", "at", "do"),
    [
        (
            ("bind",),
            "learn",
            LEARN,
            "write scikit among the conda dependencies",
        ),
        (
            ("num <2",),
            "scikit",
            "scikit (environment.yml:9) → num>=2; conda: num <2 (environment.yml:6)",
            "write scikit among the conda dependencies, in place of the one below pip:",
        ),
        (
            ("num=1.26",),
            "plain",
            "plain (environment.yml:9) → num>=2; conda: num=1.26 (environment.yml:6)",
            "ask conda for a num that fits, take both from conda, or relax the requirement",
        ),
    ],
)
def test_both_ways_to_a_clash_and_a_change_that_was_tried(
    envforge: Shell,
    builder: ChannelBuilder,
    tmp_path: Path,
    conda: tuple[str, ...],
    pip: str,
    at: str,
    do: str,
) -> None:
    world(tmp_path, builder, envforge, conda, (pip,))
    refused = envforge("lock", status=1)
    assert "needs num>=2" in refused.err
    assert f"  at: {at}\n" in refused.err
    assert f"  do: {do}" in refused.err


def test_what_conda_brings_where_its_files_do_not_tell(
    envforge: Shell, builder: ChannelBuilder, tmp_path: Path
) -> None:
    builder.add(PYTHON)
    builder.add(small("ninja", "1.12.1"))
    builder.add(small("odd-name", "4.10.0"))
    builder.add(noarch_python("both", "1.0", {}))
    builder.write_index()
    index = IndexBuilder(tmp_path / "index")
    index.add(Wheel(name="tool", version="1.0", requires=("ninja>=1.11", "wide", "both")))
    for name in ("ninja", "wide", "both"):
        index.add(Wheel(name=name, version="9.0"))
    index.write_index()
    conda = ("python", "ninja", "odd-name", "both")
    text = specification(builder.url, "linux-64", index_url=index.url, conda=conda, pip=("tool",))
    (envforge.cwd / "environment.yml").write_text(text)

    def pip_rows() -> dict[str, str]:
        lockfile = locked(envforge.cwd / "conda-lock.yml")
        return {row.name: row.version for row in lockfile.packages if row.manager == "pip"}

    envforge("lock")
    assert pip_rows() == {"tool": "1.0", "wide": "9.0"}
    settings = "[tool.envforge.provides]\nodd-name = ['Wide']\nboth = []\n"
    (envforge.cwd / "pyproject.toml").write_text(settings)
    envforge("lock")
    assert pip_rows() == {"both": "9.0", "tool": "1.0"}
    envforge("lock", "--offline")
    assert pip_rows() == {"both": "9.0", "tool": "1.0"}
