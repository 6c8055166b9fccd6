"""Requirements files: pip's grammar, with pip as the peer."""

from __future__ import annotations

from pathlib import Path

import pytest
from pip._internal.exceptions import InstallationError, RequirementsFileParseError
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements

from envforge.errors import InputError
from envforge.formats._draft import Around
from envforge.formats.specification import read_specification
from envforge.model.spec import EnvironmentSpec, Line

from .support import A, refused

GIT = "git+https://example.org/a.git"


class Files:
    """A few files, the first of them the one that is read, and what was said of them."""

    def __init__(self, **files: str) -> None:
        self.files = {name.replace("__", "/").replace("_txt", ".txt"): text for name, text in files.items()}
        self.notes: list[str] = []

    def read(self, **variables: str) -> EnvironmentSpec:
        return read_specification(
            [next(iter(self.files))], read=self.text, note=self.notes.append, variables=variables
        )

    def text(self, path: str) -> str:
        if path not in self.files:
            raise InputError("no such file", at=path, do="check the path")
        return self.files[path]


def texts(content: str, **variables: str) -> list[str]:
    return [line.text for line in Files(r_txt=content).read(**variables).pip]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("numpy", "numpy"),
        ("numpy >= 1.2, <2 ; python_version < '3.12'  # why", "numpy >= 1.2, <2 ; python_version < '3.12'"),
        ("a[b,c]==1.*", "a[b,c]==1.*"),
        ("a @ https://h/a-1-py3-none-any.whl", "a @ https://h/a-1-py3-none-any.whl"),
        ("https://h/a-1-py3-none-any.whl", "a @ https://h/a-1-py3-none-any.whl"),
        ("https://h/a-1.tar.gz ; os_name == 'nt'", "a @ https://h/a-1.tar.gz ; os_name == 'nt'"),
        ("https://h/main.zip#egg=a[b]", "a[b] @ https://h/main.zip#egg=a[b]"),
        (GIT, GIT),
        (f"{GIT}@v1#egg=a", f"a @ {GIT}@v1"),
        (f"-e {GIT}@v1#egg=a[b,c]&subdirectory=d", f"a[b,c] @ {GIT}@v1#subdirectory=d"),
        (f"a @ {GIT}@v1 ; os_name == 'nt'", f"a @ {GIT}@v1 ; os_name == 'nt'"),
        ("git+git@example.org:x/a.git#egg=a", "a @ git+ssh://git@example.org/x/a.git"),
        ("git+ssh://git@example.org:22/x/a.git#egg=a", "a @ git+ssh://git@example.org:22/x/a.git"),
        ("./a", "./a"),
        (".", "."),
        ("..", ".."),
        ("-e .[b,c]", ".[b,c]"),
        ("./a[b, c]", "./a[b,c]"),
        ("--editable=../a/", "../a"),
        ("/srv/a", "/srv/a"),
        ("./dist/a-1-py3-none-any.whl", "./dist/a-1-py3-none-any.whl"),
        ("file:///srv/a", "/srv/a"),
        ("-e file:.#egg=a", "."),
        ("a @ ./b", "./b"),
        ("a[c] @ ./b", "./b[c]"),
        ("${NAME}-x==1", "numpy-x==1"),
        ("$NAME-x", None),
    ],
)
def test_a_line(line: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(InputError):
            texts(line, NAME="numpy")
    else:
        assert texts(line, NAME="numpy") == [text]


def test_a_whole_file() -> None:
    other = "b" * 64
    files = Files(
        r_txt=f"""\
--index-url https://a/simple --extra-index-url 'https://b/simple'
-f ./wheels
--find-links=https://c/links
--no-binary one,two --only-binary=one
--pre --prefer-binary --require-hashes
--trusted-host example.org
numpy==2.0 \\
    --hash=sha256:{A} \\
    --hash sha256:{other}
# commented \\
six
-r more/sub.txt -c limits.txt
""",
        more__sub_txt="-r ../base.txt\n./here\n-e ../there[x]\n",
        base_txt="einops\n",
        limits_txt="numpy<3\n",
    )
    spec = files.read()
    assert spec == EnvironmentSpec(
        name=None,
        channels=(),
        platforms=(),
        conda=(),
        pip=(
            Line(text="numpy==2.0", at="r.txt:7", hashes=(f"sha256:{A}", f"sha256:{other}")),
            Line(text="six", at="r.txt:11"),
            Line(text="einops", at="base.txt:1"),
            Line(text="./more/here", at="more/sub.txt:2"),
            Line(text="./there[x]", at="more/sub.txt:3"),
        ),
        constraints=(Line(text="numpy<3", at="limits.txt:1"),),
        indexes=("https://a/simple", "https://b/simple"),
        find_links=("./wheels", "https://c/links"),
        no_binary=("two",),
        prerelease=True,
        sources=("r.txt",),
    )
    assert files.notes == [
        "r.txt:6: --trusted-host has no effect here",
        "more/sub.txt:3: what is editable is locked as it is now: ../there[x]",
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("path/to/project#egg=other", "./d/path/to/project"),
        ("-e ../project#egg=project[one,two]", "./project[one,two]"),
        (".model/en_model-3.4.1.tar.gz", "./d/.model/en_model-3.4.1.tar.gz"),
        ("a-1.0-py3-none-any.whl", "./d/a-1.0-py3-none-any.whl"),
        ("a[x] @ wheels/a-1.0-py3-none-any.whl", "./d/wheels/a-1.0-py3-none-any.whl[x]"),
        ("a @ ./src ; os_name == 'posix'", 'a @ ./d/src ; os_name == "posix"'),
    ],
)
def test_what_pip_takes_for_a_path(text: str, path: str) -> None:
    spec = read_specification(["e.txt", "d/r.txt"], read={"e.txt": "", "d/r.txt": text}.__getitem__)
    assert [line.text for line in spec.pip] == [path]


@pytest.mark.parametrize(
    ("files", "what", "at"),
    [
        ({"r_txt": "-r a.txt\n", "a_txt": "-r r.txt"}, "r.txt includes itself", "a.txt:1"),
        ({"r_txt": "-r r.txt\n"}, "r.txt includes itself", "r.txt:1"),
        ({"r_txt": "\n-c a.txt\n"}, "no such file: a.txt", "r.txt:2"),
        ({"r_txt": "-r https://h/a.txt"}, "'https://h/a.txt' is not a file of this machine", "r.txt:1"),
        ({"r_txt": "-c a.txt", "a_txt": "./b"}, "the path ./b limits no version", "a.txt:1"),
        ({"r_txt": "a --hash=md5:00"}, "'md5:00' is no hash that can be relied on", "r.txt:1"),
        ({"r_txt": f"--hash=sha256:{A}"}, "--hash without a requirement", "r.txt:1"),
        ({"r_txt": "a -C x=1"}, "--config-settings is not supported", "r.txt:1"),
        ({"r_txt": "a --pre"}, "--pre behind a requirement", "r.txt:1"),
        ({"r_txt": "--index-url"}, "--index-url without a value", "r.txt:1"),
        ({"r_txt": "-i 'https://h"}, 'a quote in "-i \'https://h" is never closed', "r.txt:1"),
        ({"r_txt": "--upgrade a"}, "unknown option --upgrade", "r.txt:1"),
        ({"r_txt": "--no-binary :all:"}, "--no-binary :all: names no package", "r.txt:1"),
        ({"r_txt": "./a ; os_name == 'x'"}, "\"./a ; os_name == 'x'\" is a path with a marker", "r.txt:1"),
        ({"r_txt": "--no-index\na"}, "--no-index, and no directory to look into instead", "r.txt"),
        ({"r_txt": "https://h/main.zip"}, "'https://h/main.zip' is a URL without a name", "r.txt:1"),
        (
            {"r_txt": "a @ {root:uri}/x"},
            "'a @ {root:uri}/x' can only be read by the build backend",
            "r.txt:1",
        ),
        ({"r_txt": "conda-forge::a"}, "'conda-forge::a' is a dependency of conda", "r.txt:1"),
        ({"r_txt": "a=1.0=py_0"}, "'a=1.0=py_0' is a dependency of conda", "r.txt:1"),
        (
            {"r_txt": "@EXPLICIT\nhttps://h/x.conda"},
            "a list of URLs is a lockfile, and no specification",
            "r.txt",
        ),
    ],
)
def test_what_is_refused(files: dict[str, str], what: str, at: str) -> None:
    said, place, do = refused(Files(**files).read)
    assert (said, place) == (what, at)
    assert do


def test_files_that_include_each_other_often_are_read_once() -> None:
    files = {f"f{n}_txt": f"-r f{n + 1}.txt\n" * 9 for n in range(50)} | {"f50_txt": "a\n"}
    assert [line.text for line in Files(**files).read().pip] == ["a"]


def test_no_index_is_the_directory(tmp_path: Path) -> None:
    spec = Files(r_txt=f"--no-index\n-f {tmp_path}\na\n").read()
    assert spec.indexes == (tmp_path.as_uri(),)


PEERS = [
    "numpy>=1 \\\n  ,<2\nsix # x\n#y \\\neinops\n",
    "-r b.txt\na==1;python_version<'4'\n\n  b  \n",
    f"a==1 --hash=sha256:{A}\\\n  --hash=sha384:{'c' * 96}\n",
    "a[x] >= 1\t# tab\n-c c.txt\nb@https://h/b-1-py3-none-any.whl#sha256=1\n",
    "a #b\na#b==1\n",
    "--pre\n-f x\n--no-binary=a,b\nc\\\n\n d\n",
    "${A}==${B}\n",
    "a\\\r\n==1\r\nb\r",
]


@pytest.mark.parametrize("content", PEERS)
def test_pip_reads_the_same(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"b.txt": "included\n", "c.txt": "limit<3\n"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A", "from-a")
    monkeypatch.delenv("B", raising=False)
    for name, text in {**others, "r.txt": content}.items():
        Path(name).write_bytes(text.encode())
    try:
        theirs = [
            (
                one.constraint,
                one.requirement,
                sorted(h for hs in (one.options or {}).get("hashes", {}).values() for h in hs),
            )
            for one in parse_requirements("r.txt", session=PipSession())
        ]
    except (InstallationError, RequirementsFileParseError):
        theirs = []

    def read(path: str) -> str:
        return Path(path).read_bytes().decode()

    try:
        spec = read_specification(["r.txt"], read=read, variables={"A": "from-a"})
    except InputError:
        assert theirs == [] or any(
            "#" in text or "$" in text for _, text, _ in theirs
        )  # pip refuses it later
        return
    ours = [
        (constraint, line.text, sorted(one.partition(":")[2] for one in line.hashes))
        for constraint, lines in ((False, spec.pip), (True, spec.constraints))
        for line in lines
    ]
    assert sorted(ours) == sorted(theirs)


def test_nothing_is_read_that_was_not_offered() -> None:
    with pytest.raises(InputError, match="none can be read here"):
        Around().read("/etc/passwd")
