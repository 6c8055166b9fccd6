"""``Pipfile``: pipenv's specification.

Follows pipenv's documentation of the format: ``[packages]`` is the environment, every other table of packages
a group by its name (``[dev-packages]`` is ``dev``); the first ``[[source]]`` is the default index, the others
are for the packages that name them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from envforge.errors import InputError
from envforge.formats._draft import PYPI, Around, Draft, Place, check_group
from envforge.formats._fields import redacted
from envforge.formats._pip_lines import expanded
from envforge.formats._requirement import check_index
from envforge.formats._tables import requirement_of
from envforge.formats._toml import Node, read_toml
from envforge.model.lockfile import canonical_name

__all__ = ["read"]

_MARKERS = (
    ("os_name", "sys_platform", "platform_machine", "platform_python_implementation", "platform_release")
    + ("platform_system", "platform_version", "python_version", "python_full_version")
    + ("implementation_name", "implementation_version")
)
_KEYS = frozenset(
    ("version", "extras", "markers", "git", "ref", "subdirectory", "path", "file", "editable", "index")
    + _MARKERS
)
_OTHERS = ("source", "requires", "pipenv", "scripts", "pipfile", "packages", "dev-packages")


def read(text: str, *, source: str, around: Around | None = None) -> Draft:
    """What ``text`` says.

    :param source: the file's name, for errors, and for what its paths are relative to.
    :raises InputError: if something in it cannot be used, with the line.
    """
    root = read_toml(text, source=source)
    reader = _Reader(draft=Draft(source=source), around=around or Around())
    reader.read(root)
    return reader.draft


@dataclass(kw_only=True)
class _Reader:
    draft: Draft
    around: Around
    indexes: dict[str, str] = field(default_factory=dict)

    def read(self, root: Node) -> None:
        tables = root.table()
        for number, item in enumerate(tables["source"].items() if "source" in tables else ()):
            self.read_source(item, first=number == 0)
        self.read_python(root)
        prereleases = root.get("pipenv", "allow_prereleases")
        self.draft.pip.prerelease = prereleases is not None and prereleases.boolean()
        groups = {"packages": "main", "dev-packages": "dev"}
        groups |= {name: name for name in tables if name not in _OTHERS}
        for name, group in groups.items():
            table = tables.get(name)
            for package, node in (table.table() if table is not None else {}).items():
                self.read_package(package, node, check_group(group, at=node.at))
        if not self.draft.pip.lines:
            raise InputError(
                "there are no packages", at=self.draft.source, do='write [packages], and NAME = "*" below it'
            )

    def read_source(self, node: Node, *, first: bool) -> None:
        table = node.table()
        if "url" not in table:
            raise node.error("a source without a URL", do='write url = "https://HOST/simple"')
        url = self.index(table["url"])
        if "name" in table:
            self.indexes[table["name"].text("a name")] = url
        if first and url.rstrip("/") != PYPI:
            self.draft.pip.set_main(url, node.at)
        if "verify_ssl" in table and not table["verify_ssl"].boolean():
            self.around.note(f"{table['verify_ssl'].at}: certificates are verified all the same")

    def read_python(self, root: Node) -> None:
        for key, form in (("python_full_version", "=={}"), ("python_version", "=={}.*")):
            node = root.get("requires", key)
            if node is not None:
                version = node.text("a version of Python")
                if not version.replace(".", "").isdigit():
                    raise node.error(
                        f"{redacted(version)!r} is no version of Python", do=f'write {key} = "3.11"'
                    )
                self.draft.requires_python.append((form.format(version), node.at))
                return

    def read_package(self, name: str, node: Node, group: str) -> None:
        place = Place(source=self.draft.source, at=node.at, group=group)
        table = node.known(_KEYS) if isinstance(node.value, dict) else {"version": node}
        markers = [table["markers"].text("a marker")] if "markers" in table else []
        markers += [f"{key} {table[key].text('a comparison')}" for key in _MARKERS if key in table]
        marker = " and ".join(f"({one})" for one in markers) if len(markers) > 1 else "".join(markers)
        version = table.get("version")
        if (
            version is not None and isinstance(version.value, str) and re.match(r"\d", version.value)
        ):  # as pipenv takes it
            table = table | {"version": replace(version, value=f"=={version.value}")}
        text = requirement_of(name, node, table, place, marker)
        self.draft.pip.lines.append(place.line(text))
        if "editable" in table and table["editable"].boolean():
            self.around.note(f"{node.at}: what is editable is locked as it is now: {redacted(text)}")
        if "index" in table:
            self.draft.pip.set_index_of(canonical_name(name), self.named(table["index"]), node.at)

    def named(self, node: Node) -> str:
        name = node.text("the name of a source")
        if name in self.indexes:
            return self.indexes[name]
        if "://" in name:
            return self.index(node)
        raise node.error(f"there is no source {redacted(name)!r}", do="write it as [[source]]")

    def index(self, node: Node) -> str:
        try:
            return check_index(expanded(node.text("the URL of an index"), self.around.variables))
        except InputError as error:
            error.at = error.at or node.at
            raise
