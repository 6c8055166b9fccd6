"""The page of each format says what is lost in it, in the words of the program."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from envforge.export import FORMATS, ExportOptions, export
from envforge.formats import _halves, conda_lock
from envforge.importing.reading import _READERS
from envforge.model.lockfile import Lockfile
from tests.foreign.support import PLAIN
from tests.formats.support import conda_row, golden

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "formats"
KNOWN = {
    value
    for name, value in vars(_halves).items()
    if name.isupper() and isinstance(value, str) and not name.startswith("_")
}


def rows(name: str) -> dict[str, str]:
    """Of each fact of a page's table, whether it survives."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    cells = [re.split(r"\s*\|\s*", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1] for row in cells if len(row) > 1 and row[1] in ("yes", "no", "partly")}


def trying() -> list[Lockfile]:
    """Lockfiles that make formats lose something."""
    plain = conda_lock.read(PLAIN.read_text(), source="plain")
    everything = conda_lock.read(golden("everything"), source="everything")
    target = {"envforge.target.linux-64": "__archspec=1=x86_64 __glibc=2.28 __linux=4.18 __unix=0"}
    wheel = next(row for row in plain.packages if row.manager == "pip" and row.platform == "linux-64")
    odd = [
        replace(wheel, name="odd_", version="one two".replace(" ", "*")),
        replace(wheel, name="x", url="https://h/x"),
    ]
    more = Lockfile(
        packages=(
            conda_row(),
            conda_row("bare", sha256=None),
            conda_row("d", category="default"),
            wheel,
            *odd,
        ),
        channels=plain.channels,
        platforms=("linux-64",),
        custom={**plain.custom, **target},
    )
    return [plain, everything, more]


@pytest.mark.parametrize("name", FORMATS)
def test_every_loss_is_in_the_table_and_every_no_is_a_loss(name: str) -> None:
    table = rows(name)
    lost = {what for what, survives in table.items() if survives == "no"}
    assert lost <= KNOWN
    for lockfile in trying():
        for groups in (("main",), ("main", *sorted({r.category for r in lockfile.packages} - {"main"}))):
            for version in (7, 6) if name == "pixi" else (None,):
                options = ExportOptions(groups=groups, version=version)
                for written in export(lockfile, name, options):
                    said = {loss.what for loss in written.losses}
                    allowed = lost | {_halves.TARGETS} if version == 6 else lost
                    assert said - allowed <= {"which group a package is in"} & set(table), said - allowed


def test_every_format_has_a_page_and_is_listed() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    for name in (*FORMATS, *_READERS):
        assert (PAGES / f"{name}.md").exists()
        assert f"]({name}.md)" in index
