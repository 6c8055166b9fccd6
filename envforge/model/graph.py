"""Who needs whom in a lockfile: one graph a platform, across conda and PyPI."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from envforge.model.groups import MAIN, Key, key_of, provided_by_conda
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name

__all__ = ["Asked", "Graph", "Key", "Need", "Node", "asked_for", "graph_of", "tops"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One line of a specification: what was asked for, and where that is written.

    ``name`` is a conda package's, or a PyPI project's in its canonical form; ``at`` is empty where nothing is
    written and the package is only one that no other needs.  ``written`` is false where a specification is at
    hand and does not say it; ``at`` tells why it is there nevertheless.
    """

    name: str
    manager: str
    text: str
    at: str = ""
    platforms: tuple[str, ...] | None = None
    written: bool = True


@dataclass(frozen=True, kw_only=True)
class Node:
    """One package of the graph's platform; the manager of a virtual package (``__glibc``) is ``virtual``."""

    manager: str
    name: str
    version: str

    @property
    def key(self) -> Key:
        """What it is known by."""
        return (self.manager, self.name)


@dataclass(frozen=True, kw_only=True)
class Need:
    """``needer`` needs ``needed``; ``text`` is the rest of its MatchSpec or its specifier, empty for any."""

    needer: Key
    needed: Key
    text: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The packages of one platform, and what each needs, sorted by name; what is not locked is left out.

    ``by_extra`` are wheels that an extra of a conda package needs, which no row says.
    """

    platform: str
    nodes: Mapping[Key, Node]
    needs: Mapping[Key, tuple[Need, ...]]
    by_extra: frozenset[Key] = frozenset()
    needed_by: Mapping[Key, tuple[Need, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        above: dict[Key, list[Need]] = {key: [] for key in self.nodes}
        for needs in self.needs.values():
            for need in needs:
                above[need.needed].append(need)
        object.__setattr__(
            self, "needed_by", {key: tuple(sorted(found, key=_by_needer)) for key, found in above.items()}
        )

    def named(self, name: str) -> tuple[Node, ...]:
        """The packages of that name, of conda and of PyPI; as written, or as PyPI spells it."""
        wanted = canonical_name(name)
        exact = [node for node in self.nodes.values() if node.name == name.lower()]
        return tuple(exact or (node for node in self.nodes.values() if canonical_name(node.name) == wanted))

    def roots(self) -> tuple[Key, ...]:
        """The packages that no other needs; of several that need each other and nobody else does, one."""
        groups = list(_components(self.nodes, self.needs))
        component = {key: number for number, keys in enumerate(groups) for key in keys}
        needed = {
            component[need.needed]
            for needs in self.needs.values()
            for need in needs
            if component[need.needer] != component[need.needed]
        }
        tops = (min(keys, key=_by_name) for number, keys in enumerate(groups) if number not in needed)
        return tuple(sorted((key for key in tops if key[0] != "virtual"), key=_by_name))

    def toward(self, end: Key) -> Mapping[Key, Need]:
        """For each package that needs ``end``, itself or by others, its step on a shortest way there."""
        steps: dict[Key, Need] = {}
        todo = [end]
        for key in todo:
            for need in self.needed_by[key]:
                if need.needer not in steps and need.needer != end:
                    steps[need.needer] = need
                    todo.append(need.needer)
        return steps


def graph_of(lockfile: Lockfile, platform: str, groups: Collection[str] | None = None) -> Graph:
    """The graph of one platform.

    A requirement of a PyPI project is met by a wheel, by the conda package that the lockfile says brings it
    (``envforge.provided.PLATFORM``), or, where it says nothing, by the conda package of the same name.

    :param groups: only the packages of these; ``None`` for all.
    """
    rows: dict[Key, LockedPackage] = {}
    for row in sorted(lockfile.packages, key=lambda row: row.category != MAIN):
        if row.platform == platform and (groups is None or row.category in groups):
            rows.setdefault(key_of(row), row)
    nodes = {key: Node(manager=key[0], name=key[1], version=row.version) for key, row in rows.items()}
    projects = _projects(lockfile, platform, nodes)
    needs: dict[Key, tuple[Need, ...]] = {}
    assumed = lockfile.target(platform)
    for key, row in rows.items():
        found = {}
        for name, text in row.dependencies.items():
            needed = _needed(row.manager, name, projects)
            if needed[0] == "virtual" and needed not in nodes:
                version = assumed.version(name) if assumed is not None else None
                nodes[needed] = Node(manager="virtual", name=name, version=version or "")
            if needed in nodes and needed != key:
                found[needed] = Need(needer=key, needed=needed, text="" if text.strip() == "*" else text)
        needs[key] = tuple(sorted(found.values(), key=lambda need: _by_name(need.needed)))
    by_extra = frozenset(
        ("pip", name) for name in lockfile.custom.get(f"envforge.by-extra.{platform}", "").split()
    )
    return Graph(platform=platform, nodes=nodes, needs=needs, by_extra=by_extra)


def asked_for(graph: Graph, asked: Iterable[Asked] | None) -> tuple[tuple[Asked, Key], ...]:
    """What was asked for on the graph's platform, each with the package that it became, sorted by name.

    :param asked: the lines of the specification; ``None`` where that is not at hand: then those count that no
        other package needs.
    """
    if asked is None:
        return tuple((Asked(name=key[1], manager=key[0], text=key[1]), key) for key in graph.roots())
    found: dict[Key, Asked] = {}
    for one in asked:
        if one.platforms is None or graph.platform in one.platforms:
            for key in ((one.manager, one.name), *_other_half(one, graph)):
                if key in graph.nodes:
                    found.setdefault(key, one)
                    break
    return tuple((one, key) for key, one in sorted(found.items(), key=lambda item: _by_name(item[0])))


def tops(graph: Graph, asked: Iterable[Asked] | None) -> tuple[tuple[Asked, Key], ...]:
    """:func:`asked_for`, and then what nobody asked for and no other package needs, which says so in ``at``.

    All packages are below these.
    """
    found = asked_for(graph, asked)
    reached = {key for _, key in found}
    todo = list(reached)
    for key in todo:
        new = {need.needed for need in graph.needs.get(key, ())} - reached
        reached |= new
        todo += new
    others = []
    for key in graph.roots():
        if key not in reached:
            at = "an extra of what conda brings" if key in graph.by_extra else "not in the specification"
            others.append((Asked(name=key[1], manager=key[0], text=key[1], at=at, written=False), key))
    return (*found, *others)


def _other_half(one: Asked, graph: Graph) -> Iterator[Key]:
    """A requirement of PyPI may be met by a conda package."""
    if one.manager == "pip":
        yield from (node.key for node in graph.named(one.name) if node.manager == "conda")


def _projects(lockfile: Lockfile, platform: str, nodes: Mapping[Key, Node]) -> dict[str, Key]:
    """By what package each PyPI project is there."""
    found = {canonical_name(name): (manager, name) for manager, name in nodes if manager == "conda"}
    provided = provided_by_conda(lockfile.custom.get(f"envforge.provided.{platform}", ""))
    for name, (_, package) in provided.items():
        if ("conda", package) in nodes:
            found[canonical_name(name)] = ("conda", package)
    return found | {name: (manager, name) for manager, name in nodes if manager == "pip"}


def _needed(manager: str, name: str, projects: Mapping[str, Key]) -> Key:
    if manager == "pip":
        return projects.get(canonical_name(name), ("pip", canonical_name(name)))
    return ("virtual" if name.startswith("__") else "conda", name)


def _by_name(key: Key) -> tuple[str, str]:
    return (key[1], key[0])


def _by_needer(need: Need) -> tuple[str, str]:
    return _by_name(need.needer)


def _components(nodes: Iterable[Key], needs: Mapping[Key, tuple[Need, ...]]) -> Iterator[list[Key]]:
    """Sets of packages that need each other: Tarjan's algorithm, without recursion since chains are long."""
    number: dict[Key, int] = {}
    low: dict[Key, int] = {}
    stack: list[Key] = []
    waiting: set[Key] = set()
    for start in nodes:
        if start in number:
            continue
        work = [(start, iter(needs.get(start, ())))]
        number[start] = low[start] = len(number)
        stack.append(start)
        waiting.add(start)
        while work:
            key, left = work[-1]
            need = next((one for one in left if one.needed not in number or one.needed in waiting), None)
            if need is not None and need.needed not in number:
                number[need.needed] = low[need.needed] = len(number)
                stack.append(need.needed)
                waiting.add(need.needed)
                work.append((need.needed, iter(needs.get(need.needed, ()))))
            elif need is not None:
                low[key] = min(low[key], number[need.needed])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[key])
                if low[key] == number[key]:
                    at = stack.index(key)
                    yield stack[at:]
                    waiting.difference_update(stack[at:])
                    del stack[at:]
