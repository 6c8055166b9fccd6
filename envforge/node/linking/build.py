"""Making the tree of an environment: a function of the locked rows and of the path it will have.

``install`` makes it once to keep it; ``verify --against`` makes it again to compare.  Everything is linked
first and hashed once, where it then lies: what the store gave is held against the packages by those hashes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from envforge.edges.extract import check_artifact
from envforge.edges.linking import Linker
from envforge.edges.store import Store, StoredTree
from envforge.edges.unpack import unpack_runtime
from envforge.errors import CouldNotError
from envforge.formats import lock_json
from envforge.model.lockfile import LockedPackage
from envforge.model.receipt import FileRecord
from envforge.node.linking.bytecode import Bytecode, Compiler
from envforge.node.linking.conda import (
    ExtractedPackage,
    link_packages,
    placed,
    post_link_scripts,
    python_version,
    site_packages_of,
)
from envforge.node.linking.foreign_bytecode import foreign_compiler
from envforge.node.linking.interpreter import Interpreter, make_virtual_environment
from envforge.node.linking.placing import PlacedWheel, Winners, check_places, winners
from envforge.node.linking.records import CondaRecords
from envforge.node.linking.scripts import chosen_scripts, run_script
from envforge.node.linking.wheels import Target, link_wheels, place_wheels, wheel_hashes, wheel_owners
from envforge.node.proving.scan import file_record, record_of, seen, settle_modes, state_of
from envforge.node.sources.source import ArtifactSource
from envforge.node.using.activate import write_activation
from envforge.node.using.launcher import write_launcher
from envforge.reporting import Reporter

__all__ = ["Blueprint", "BuiltTree", "Workshop", "build_tree", "bytecode_key"]

RUNTIME, LAUNCHER = ".envforge/runtime/", ".envforge/bin/"
Owners = dict[str, tuple[str, str]]
Made = tuple[Compiler, Bytecode]


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """What is to be made: the rows, for which platform, and the path that it will be used at.

    ``interpreter`` is the Python of a virtual environment, ``None`` where conda packages bring one;
    ``scripts`` names the packages whose post-link scripts are run.  With ``foreign`` the programs of the
    platform do not run here: bytecode is made by a Python of this machine, if it has the right one.
    """

    source: ArtifactSource
    rows: tuple[LockedPackage, ...]
    platform: str
    final: Path
    interpreter: Interpreter | None = None
    scripts: tuple[str, ...] = ()
    foreign: bool = False

    def of(self, manager: str) -> list[LockedPackage]:
        """The rows of conda or of pip."""
        return [row for row in self.rows if row.manager == manager]


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where and with what a tree is made.

    :param work: an empty directory; the tree is moved out of it by the caller.
    :param mend: where the store's copy of a package was altered, unpack another one in ``work``; believe no
        bytecode of the store.
    """

    work: Path
    store: Store
    jobs: int
    reporter: Reporter
    mend: bool = False


@dataclass(frozen=True, kw_only=True)
class BuiltTree:
    """A finished tree: where it lies, what it holds, and what somebody should hear about.

    ``unrun_scripts`` names the packages whose post-link scripts were not run, ``not_compiled`` the sources
    without bytecode, ``clobbered`` the paths that two packages bring, ``copied`` why files were copied where
    they could have been linked, empty if none was.  ``foreign`` is the version of this machine's Python that
    made the bytecode of a foreign environment, empty if there is none for it, and ``None`` for another one.
    """

    path: Path
    files: dict[str, FileRecord]
    unrun_scripts: tuple[str, ...]
    not_compiled: tuple[str, ...]
    clobbered: tuple[str, ...]
    copied: str
    foreign: str | None = None


def build_tree(plan: Blueprint, shop: Workshop) -> BuiltTree:
    """Make the environment of ``plan``, in ``shop.work`` or, if scripts are run in it, at its final path.

    :raises CouldNotError: an artifact that is missing or not the locked one, no space, no permission.
    :raises InputError: packages that cannot be linked together.
    """
    return _Builder(plan, shop).build()


@dataclass(kw_only=True)
class _Tree:
    """What is known of the tree while it is made."""

    path: Path
    site_packages: str | None
    owners: Owners = field(default_factory=dict)
    clobbered: tuple[str, ...] = ()


class _Builder:
    def __init__(self, plan: Blueprint, shop: Workshop) -> None:
        self.plan = plan
        self.shop = shop
        # A script may write into files, and a hard link would carry that into the store.
        self.linker = Linker(links=not plan.scripts)
        self.packages = self._unpack_conda()
        self.wheels: list[PlacedWheel] = []
        self.chosen = Winners(wheels={}, clashing=())

    def build(self) -> BuiltTree:
        tree = self._link_conda()
        records = CondaRecords(tree.path, self.packages)
        tree.owners = records.owners()
        self._link_wheels(tree)
        self._leave_ours(tree.path)
        self._run_scripts(tree)
        made = [found for found in (self._compile(tree), self._compile_runtime(tree)) if found is not None]
        return BuiltTree(
            path=tree.path,
            files=self._scan(tree, records, made),
            unrun_scripts=tuple(n for n in post_link_scripts(self.packages) if n not in self.plan.scripts),
            not_compiled=tuple(name for _, bytecode in made for name in bytecode.failed),
            clobbered=tree.clobbered,
            copied=self.linker.reason if self.linker.links else "",
            foreign=self._foreign_version(),
        )

    # -- linking ---------------------------------------------------------------------------------------

    def _unpack_conda(self) -> list[ExtractedPackage]:
        rows = self.plan.of("conda")
        reporter = self.shop.reporter
        reporter.step(f"checking and unpacking {len(rows)} conda packages")
        with reporter.task("packages", len(rows), "packages") as progress:

            def unpack(row: LockedPackage) -> ExtractedPackage:
                stored = self._stored(row)
                progress.advance(1)
                return ExtractedPackage(row=row, tree=stored.path, fresh=stored.fresh)

            with ThreadPoolExecutor(self.shop.jobs) as pool:
                return list(pool.map(unpack, rows))

    def _stored(self, row: LockedPackage) -> StoredTree:
        if not self.shop.mend and self.plan.source.unpacked(row):
            return self.shop.store.proven_tree(row.filename, row.sha256 or "")
        instead = self.shop.work / "unpacked" if self.shop.mend else None
        artifact = self.plan.source.artifact(row)
        return self.shop.store.tree(artifact, row.filename, row.sha256 or "", instead=instead)

    def _link_conda(self) -> _Tree:
        plan, shop = self.plan, self.shop
        path = shop.work / "tree"
        if plan.interpreter is not None:
            return _Tree(path=path, site_packages=make_virtual_environment(path, plan.interpreter))
        shop.reporter.step(f"linking {len(self.packages)} conda packages")
        view = _empty(shop.work / "view")
        clobbered = link_packages(
            self.packages,
            path,
            final=plan.final,
            platform=plan.platform,
            view=view,
            links=self.linker.links,
            jobs=shop.jobs,
        )
        # py-rattler takes the environment for a cache; a backup would pass over it.
        (path / "CACHEDIR.TAG").unlink(missing_ok=True)
        self._notice_links(path)
        return _Tree(path=path, site_packages=site_packages_of(self.packages), clobbered=clobbered)

    def _notice_links(self, tree: Path) -> None:
        """Learn from one file how py-rattler has placed all of them."""
        for package in self.packages:
            for entry in package.paths:
                placed, source = tree / entry["_path"], package.tree / entry["_path"]
                unchanged = "prefix_placeholder" not in entry and not source.is_symlink()
                if unchanged and placed.is_file() and source.is_file() and source.stat().st_size:
                    self.linker.notice(source, placed)
                    return

    def _link_wheels(self, tree: _Tree) -> None:
        rows = self.plan.of("pip")
        if not rows or tree.site_packages is None:
            return
        shop = self.shop
        shop.reporter.step(f"checking and linking {len(rows)} wheels")
        with shop.reporter.task("wheels", len(rows), "packages") as progress:

            def unpack(row: LockedPackage) -> StoredTree:
                stored = self._stored(row)
                progress.advance(1)
                return stored

            self.wheels = place_wheels(rows, unpack, tree.site_packages, jobs=shop.jobs)
        check_places(self.wheels, tree.path, tree.owners, tree.site_packages)
        self.chosen = winners(self.wheels)
        target = Target(tree.path, self.plan.final, tree.site_packages, self.linker)
        link_wheels(self.wheels, self.chosen, target)
        tree.clobbered += self.chosen.clashing
        tree.owners |= wheel_owners(self.wheels, tree.site_packages)

    def _leave_ours(self, tree: Path) -> None:
        source = self.plan.source
        text = lock_json.write(source.lockfile, source_sha256=source.lockfile_sha256)
        (_empty(tree / ".envforge") / "lock.json").write_text(text, encoding="utf-8")
        write_activation(tree, self.plan.final, name=source.lockfile.name, digest=source.lockfile.digest())
        if source.runtime is not None:
            archive = source.runtime_archive()
            check_artifact(archive, "runtime.tar.gz", source.runtime)
            unpack_runtime(archive, tree / ".envforge")
            write_launcher(tree, alone=not self.plan.rows)

    def _run_scripts(self, tree: _Tree) -> None:
        if not self.plan.scripts:
            return
        chosen = chosen_scripts(self.plan.scripts, self.packages)
        # They write down where they are, so the tree has to be there; without a receipt it is not finished.
        tree.path.rename(self.plan.final)
        tree.path = self.plan.final
        for package in chosen:
            self.shop.reporter.step(f"running the post-link script of {package.row.name}")
            changed = run_script(package, tree.path, jobs=self.shop.jobs, reporter=self.shop.reporter)
            tree.owners |= dict.fromkeys(changed, (f"conda:{package.row.name}", "post-link"))

    # -- bytecode --------------------------------------------------------------------------------------

    def _compile(self, tree: _Tree) -> Made | None:
        compiler = self._compiler(tree.path)
        if compiler is None or tree.site_packages is None:
            return None
        self.shop.reporter.step("bytecode: linking what is kept, compiling the rest")
        hashes = {f"conda:{p.row.name}": p.row.sha256 or "" for p in self.packages}
        hashes |= {wheel.owner: wheel.row.sha256 or "" for wheel in self.wheels}
        artifacts = {
            path: hashes[owner]
            for path, (owner, how) in tree.owners.items()
            if path.endswith(".py") and how == "packaged"
        }
        return self._settle(tree, str(Path(tree.site_packages).parent), artifacts, compiler)

    def _settle(self, tree: _Tree, library: str, artifacts: Mapping[str, str], compiler: Compiler) -> Made:
        bytecode = Bytecode.settle(
            tree.path,
            library,
            artifacts,
            compiler,
            store=None if self.shop.mend else self.shop.store,
            linker=self.linker,
            jobs=self.shop.jobs,
            reporter=self.shop.reporter,
        )
        return compiler, bytecode

    def _compile_runtime(self, tree: _Tree) -> Made | None:
        """Have bytecode for envforge's own runtime, too: whoever runs it must not leave any."""
        digest = self.plan.source.runtime
        if digest is None:
            return None
        library = next((tree.path / RUNTIME / "lib").glob("python3.*"))
        version = library.name.removeprefix("python")
        compiler: Compiler | None = Compiler(
            python=tree.path / RUNTIME / "bin" / "python3", version=version, identity=digest
        )
        if self.plan.foreign:
            compiler = foreign_compiler(version)
        if compiler is None:
            return None
        sources = (path.relative_to(tree.path).as_posix() for path in library.rglob("*.py"))
        return self._settle(tree, f"{RUNTIME}lib/{library.name}", dict.fromkeys(sources, digest), compiler)

    def _compiler(self, tree: Path) -> Compiler | None:
        python = tree / "bin" / "python"
        if self.plan.interpreter is not None:
            known = self.plan.interpreter
            return Compiler(python=python, version=known.version, identity=known.identity)
        version = python_version(self.packages)
        if version is None or self.plan.foreign:
            return None if version is None else foreign_compiler(version)
        row = next(package.row for package in self.packages if package.row.name == "python")
        return Compiler(python=python, version=version, identity=row.sha256 or "")

    def _foreign_version(self) -> str | None:
        """Which Python of this machine made the bytecode of a foreign environment; empty if none did."""
        version = python_version(self.packages)
        if not self.plan.foreign or version is None:
            return None
        compiler = foreign_compiler(version)
        return "" if compiler is None else compiler.version

    # -- what came of it -------------------------------------------------------------------------------

    def _scan(self, tree: _Tree, records: CondaRecords, made: Sequence[Made]) -> dict[str, FileRecord]:
        """Hash everything, and hold it against the packages before anybody believes it."""
        self.shop.reporter.step("checking every file")
        states = seen(tree.path, jobs=self.shop.jobs)
        settle_modes(tree.path, states)
        hashes = {name: state.rpartition(" ")[2] for name, state in states.items() if state[0] == "f"}
        self._check({**records.expected(), **wheel_hashes(self.chosen)}, hashes, tree.owners)
        for _, bytecode in made:
            _check_bytecode(bytecode, hashes)
        written = records.write(tree.path, hashes)
        states |= {name: state_of(file_record(tree.path, name)) for name in written}
        for compiler, bytecode in made if not self.shop.mend else ():
            bytecode.keep(tree.path, hashes, compiler, self.shop.store, self.linker)
        if not self.shop.mend:
            self._keep_lists(tree, hashes)
        return {name: record_of(name, states[name], *_owner(name, tree.owners)) for name in sorted(states)}

    def _check(self, expected: Mapping[str, str], hashes: Mapping[str, str], owners: Owners) -> None:
        rows = {f"conda:{package.row.name}": (package.row, package.tree) for package in self.packages}
        rows |= {wheel.owner: (wheel.row, wheel.tree.path) for wheel in self.wheels}
        doubtful = {
            owners[path][0]
            for path, sha256 in expected.items()
            if path in hashes and hashes[path] != sha256 and owners[path][1] == "packaged"
        }
        for owner in sorted(doubtful):
            row, stored = rows[owner]
            if self.plan.source.unpacked(row):
                self.shop.store.proven_tree(row.filename, row.sha256 or "")
                continue
            self.shop.store.confirm(stored, self.plan.source.artifact(row), row.filename, row.sha256 or "")

    def _keep_lists(self, tree: _Tree, hashes: Mapping[str, str]) -> None:
        """Write down what was unpacked, now that all of it is proven: most of it was just hashed."""
        store = self.shop.store
        brought = [
            (row := package.row, package.tree, f"conda:{row.name}", self._conda_places(package, tree))
            for package in self.packages
            if not store.has_list(package.row.sha256 or "")
        ]
        brought += [
            (wheel.row, wheel.tree.path, wheel.owner, {n: place for place, n in wheel.members.items()})
            for wheel in self.wheels
            if not store.has_list(wheel.row.sha256 or "")
        ]
        for row, stored, owner, places in brought:
            known = {
                name: hashes[place]
                for name, place in places.items()
                if tree.owners.get(place) == (owner, "packaged") and place in hashes
            }
            store.add_list(row.sha256 or "", stored, known)

    def _conda_places(self, package: ExtractedPackage, tree: _Tree) -> dict[str, str]:
        if self.plan.scripts:  # which may have written into what was copied
            return {}
        names = (entry["_path"] for entry in package.paths if not entry["_path"].endswith(".pyc"))
        return {name: placed(package, name, tree.site_packages) for name in names}


def bytecode_key(plan: Blueprint) -> str | None:
    """What the store knows the bytecode of an environment by; ``None`` where it has no Python."""
    python = next((row for row in plan.of("conda") if row.name == "python"), None)
    if plan.interpreter is None and python is None:
        return None
    identity = plan.interpreter.identity if plan.interpreter else python.sha256 if python else None
    return Compiler(python=Path(), version="", identity=identity or "").key


def _check_bytecode(bytecode: Bytecode, hashes: Mapping[str, str]) -> None:
    for path, (sha256, kept) in bytecode.expected.items():
        if hashes.get(path) != sha256:
            raise CouldNotError(
                f"the store's copy of some bytecode was altered: {path}",
                at=str(kept),
                do=f"rm -rf {shlex.quote(str(kept.parent))}   # then the same command again; it is made anew",
            )


def _empty(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _owner(path: str, owners: Owners) -> tuple[str, str]:
    """Who brought a file and how; bytecode belongs to whoever owns the source."""
    if path.startswith((RUNTIME, LAUNCHER)):
        return "envforge", "runtime"
    if path in owners:
        owner, how = owners[path]
        return owner, "bytecode" if how == "packaged" and path.endswith(".pyc") else how
    if path.endswith(".pyc"):
        folder, _, name = path.rpartition("/__pycache__/")
        return owners.get(f"{folder}/{name.split('.')[0]}.py", ("envforge", ""))[0], "bytecode"
    return "envforge", "metadata"
