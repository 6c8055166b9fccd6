from __future__ import annotations

import pytest

from envforge.formats import environment_yml
from envforge.formats.specification import joined
from envforge.model.spec import EnvironmentSpec, Line

from .support import refused

D = "dependencies:\n"
LINUX = ("linux-64", "linux-aarch64", "linux-ppc64le")
PYPI = "https://pypi.org/simple"


def read(text: str) -> EnvironmentSpec:
    return joined([environment_yml.read(text, source="environment.yml")])


def error(text: str) -> tuple[str, str | None, str | None]:
    return refused(lambda: read(text))


def test_a_whole_file() -> None:
    text = """\
# an environment
name: analysis
channels:
  - conda-forge
  - nodefaults
  - https://conda.example.org/site
platforms: [linux-64, osx-arm64]
prefix: /home/me/env
variables: {OMP_NUM_THREADS: 4}
category: dev
dependencies:
  - python=3.12
  - numpy 1.2.*        # [linux]
  - "conda-forge/linux-64::zlib"
  - sel(osx): clang >=17
  - pip:
      - einops >=0.8   # needed by the notebooks
      - tools @ https://example.org/tools-1-py3-none-any.whl
"""
    at = "environment.yml:{}".format
    assert read(text) == EnvironmentSpec(
        name="analysis",
        channels=("conda-forge", "https://conda.example.org/site"),
        platforms=("linux-64", "osx-arm64"),
        conda=(
            Line(text="python=3.12", at=at(12), group="dev"),
            Line(text="numpy 1.2.*", at=at(13), platforms=LINUX, group="dev"),
            Line(text="conda-forge/linux-64::zlib", at=at(14), group="dev"),
            Line(text="clang >=17", at=at(15), platforms=("osx-64", "osx-arm64"), group="dev"),
        ),
        pip=(
            Line(text="einops >=0.8", at=at(17), group="dev"),
            Line(text="tools @ https://example.org/tools-1-py3-none-any.whl", at=at(18), group="dev"),
        ),
        sources=("environment.yml",),
    )


@pytest.mark.parametrize(
    "text",
    [
        "numpy",
        "numpy 1.2.*",
        "numpy>=1.2,<2",
        "numpy=1.2=py*",
        "numpy==1.2",
        "numpy!=1.3",
        "numpy~=1.2",
        "channel::pkg=1=build*",
        "conda-forge/linux-64::pkg",
        "https://host.example/forge::pkg",
        "h5py=*=mpi_*",
        "__glibc >=2.17",
        "_openmp_mutex",
        "PyYAML",
        "foo[version='>=1',build=py*]",
        "numpy 1.2|1.3",
    ],
)
def test_a_dependency_is_kept_as_it_was_written(text: str) -> None:
    assert [line.text for line in read(f'{D}  - "{text}"\n').conda] == [text]


@pytest.mark.parametrize("text", ["py*", "*", "foo#bar", "=1", "http://h/x.conda", "ä", "a\\tb", "-a", "a/b"])
def test_a_name_that_no_package_has_is_refused(text: str) -> None:
    what, at, do = error(f'{D}- "{text}"\n')
    assert what.endswith("is no conda dependency")
    assert at == "environment.yml:2"
    assert do == "write it as NAME, NAME>=VERSION, NAME=VERSION=BUILD or CHANNEL::NAME"


@pytest.mark.parametrize(
    ("comment", "platforms"),
    [
        ("# [linux]", LINUX),
        ("#[linux64]", ("linux-64",)),
        ("# [ linux and not aarch64 ] too old there", ("linux-64", "linux-ppc64le")),
        ("# [win or osx64]", ("osx-64", "win-64", "win-arm64")),
        ("# [not unix]", ("win-64", "win-arm64")),
        ("# breaks elsewhere [arm64]", ("osx-arm64", "win-arm64")),
        ("# see [1]", None),
        ("# [1] is a footnote", None),
        ("# see [the docs], [2]", None),
        ("# []", None),
        ("# linux", None),
    ],
)
@pytest.mark.parametrize("item", ["foo", "'foo'", '"foo"'])
def test_selectors_in_comments(item: str, comment: str, platforms: tuple[str, ...] | None) -> None:
    spec = read(f"{D}- {item}  {comment}\n- pip:\n  - {item}   {comment}\n")
    assert spec.conda[0].platforms == platforms
    assert spec.pip[0].platforms == platforms


def test_a_selector_is_of_its_own_line_only() -> None:
    spec = read(f"# [win]\n{D}  # [win]\n- a  # é\n- b  # [osx]\r\n- c\n\n# [linux]\n- d\n")
    assert [(line.text, line.platforms) for line in spec.conda] == [
        ("a", None),
        ("b", ("osx-64", "osx-arm64")),
        ("c", None),
        ("d", None),
    ]


def test_lines_are_counted_in_text_with_wide_characters() -> None:
    spec = read(f"\ufeffname: \U0001f40d\U0001f40dé\n{D}- a  # [linux]\n- b\n")
    assert [(line.at, line.platforms) for line in spec.conda] == [
        ("environment.yml:3", LINUX),
        ("environment.yml:4", None),
    ]


@pytest.mark.parametrize(
    ("head", "lines", "indexes"),
    [
        ("", [], ()),
        ("", ["-i https://a/simple"], ("https://a/simple",)),
        ("", ["-ihttps://a/simple"], ("https://a/simple",)),
        (
            "",
            ["--index-url=https://a/simple", "--extra-index-url https://b/simple"],
            ("https://a/simple", "https://b/simple"),
        ),
        ("", ["--extra-index-url = https://b/simple"], (PYPI, "https://b/simple")),
        ("pip-repositories: [https://c/simple]\n", [], (PYPI, "https://c/simple")),
        ("pip-repositories: [https://c/simple]\nallow-pypi-requests: false\n", [], ("https://c/simple",)),
        ("pip-repositories: [https://c/simple]\n", ["-i file:///d"], ("file:///d", "https://c/simple")),
    ],
)
def test_indexes(head: str, lines: list[str], indexes: tuple[str, ...]) -> None:
    body = "".join(f"  - {line}\n" for line in [*lines, "einops"])
    spec = read(f"{head}{D}- python\n- pip:\n{body}")
    assert spec.indexes == indexes
    assert [line.text for line in spec.pip] == ["einops"]


def test_a_pip_part_that_is_commented_out() -> None:
    assert read(f"name:\nchannels:\n# - a\n{D}- pip:\n#  - x\n") == EnvironmentSpec(
        name=None, channels=(), platforms=(), conda=(), sources=("environment.yml",)
    )


DIRECTORY = "write it relative to this file: ./DIRECTORY"
NAMED = "name each package that may be built: building runs its code on this machine"


@pytest.mark.parametrize(
    ("text", "what", "line", "do"),
    [
        ("", "the file is empty", 0, "name the right file"),
        ("# nothing\n", "the file is empty", 0, "name the right file"),
        (
            "just words",
            "the text 'just words' where an environment.yml is needed",
            1,
            "begin it with: dependencies:",
        ),
        ("- a\n", "a list where an environment.yml is needed", 1, "begin it with: dependencies:"),
        ("name: x\n", "there are no dependencies", 0, "add them: dependencies: [python=3.12]"),
        ("name: x\ndependencies:\n", "there are no dependencies", 0, "add them: dependencies: [python=3.12]"),
        (f"{D}- a\nchanels: [b]\n", "unknown key 'chanels'", 3, "did you mean channels?"),
        (
            f"{D}- a\npip: [b]\n",
            "unknown key 'pip'",
            3,
            "write it as one of the dependencies: - pip: [einops>=0.8]",
        ),
        (
            f"{D}- bioconda:samtools=1.20\n",
            "'bioconda:samtools=1.20' is no conda dependency",
            2,
            "write - bioconda::samtools=1.20",
        ),
        (f"{D}- a\n{D}- b\n", "the key 'dependencies' is there twice", 3, "keep one of the two"),
        (
            f"{D}- a\n- python: 3.10\n",
            "a mapping with the key 'python' where a dependency is needed",
            3,
            "write - python=3.10",
        ),
        (
            f"{D}- python: '>=3.10'\n",
            "a mapping with the key 'python' where a dependency is needed",
            2,
            "write - python>=3.10",
        ),
        (
            f"{D}- 3.12\n",
            "the number 3.12 where a dependency is needed",
            2,
            "name the package, too: - NAME=3.12",
        ),
        (
            f"{D}-\n",
            "an empty entry where a dependency is needed",
            2,
            "remove the dash, or write a dependency behind it",
        ),
        (
            f"{D}- null\n",
            "an empty entry where a dependency is needed",
            2,
            "remove the dash, or write a dependency behind it",
        ),
        (
            f"{D}- ''\n",
            "an empty text where a dependency is needed",
            2,
            "remove the dash, or write a dependency behind it",
        ),
        (
            f"{D}- yes\n",
            "the value yes where a dependency is needed",
            2,
            "put it in quotes, if a package has that name",
        ),
        (
            f"{D}- - a\n",
            "a list where a dependency is needed",
            2,
            "write one dependency a line, without a second dash",
        ),
        (f"{D}  numpy: 1\n", "a mapping where a list is needed", 2, "begin each line with a dash"),
        (
            f"channels: conda-forge\n{D}- a\n",
            "the text 'conda-forge' where a list is needed",
            1,
            "write channels: [conda-forge]",
        ),
        (f"channels: [3]\n{D}- a\n", "the number 3 where a channel is needed", 1, "write its name or URL"),
        (f"name: 3.10\n{D}- a\n", "the number 3.10 where a name is needed", 1, "put it in quotes"),
        (
            f"name: ../a\n{D}- a\n",
            "'../a' cannot be an environment's name",
            1,
            "use letters, digits, -, _ and .",
        ),
        (f"category: a/b\n{D}- a\n", "'a/b' cannot be a group's name", 1, "use letters, digits, -, _ and ."),
        (
            f"platforms:\n- linux-65\n{D}- a\n",
            "unknown platform 'linux-65'",
            2,
            "use one of: linux-64, linux-aarch64, linux-ppc64le, osx-64, osx-arm64, win-64, win-arm64",
        ),
        (
            f"platforms:\n- name: linux-64\n{D}- a\n",
            "a mapping where a platform is needed",
            2,
            "write a platform such as linux-64",
        ),
        (
            f"allow-pypi-requests: 0\n{D}- a\n",
            "the number 0 where true or false is needed",
            1,
            "write true or false",
        ),
        (
            f"allow-pypi-requests: no\n{D}- pip: [a]\n",
            "PyPI is not allowed, and no other index is named",
            1,
            "add one: pip-repositories: [https://HOST/simple]",
        ),
        (
            f"pip-repositories: [here]\n{D}- a\n",
            "'here' is not the URL of an index",
            1,
            "write it as https://HOST/simple or file:///DIR",
        ),
        (
            f"{D}- a # [linx]\n",
            "unknown word 'linx' in a selector",
            2,
            "use one of: aarch64, arm64, linux, linux64, osx, osx64, ppc64le, unix, win, win64",
        ),
        (
            f"{D}- a # [linux osx]\n",
            "'linux osx' is no selector",
            2,
            "write words joined by and, or, not: # [linux and not aarch64]",
        ),
        (
            f"{D}- a # [linux and win]\n",
            "the selector 'linux and win' keeps no platform",
            2,
            "remove the line, or correct it",
        ),
        (
            f"{D}- sel(mac): a\n",
            "unknown word 'mac' in a selector",
            2,
            "use one of: aarch64, arm64, linux, linux64, osx, osx64, ppc64le, unix, win, win64",
        ),
        (f"{D}- sel(osx): [a]\n", "a list where a dependency is needed", 2, "write sel(osx): PACKAGE"),
        (f"{D}- pip: a\n", "the text 'a' where a list is needed", 2, "write pip: [a]"),
        (
            f"{D}- pip: [a]\n- pip: [b]\n",
            "a second pip: part; the first is in line 2",
            3,
            "make one of the two",
        ),
        (
            f"{D}- pip:\n  - 1.0\n",
            "the number 1.0 where a requirement is needed",
            3,
            "write one requirement a line, such as - einops>=0.8",
        ),
        (f"{D}- pip:\n  - a=1\n", "'a=1' is no requirement", 3, "write a==1"),
        (
            f"{D}- pip:\n  - a --hash=sha256:00\n",
            "'sha256:00' is no hash that can be relied on",
            3,
            "write --hash=sha256: and 64 hex digits",
        ),
        (
            f"{D}- pip:\n  - a --config-settings x=1\n",
            "--config-settings is not supported",
            3,
            "remove it: what is built is built without options",
        ),
        (
            f"{D}- pip:\n  - ~/src\n",
            "'~/src' is not the path of a project's directory",
            3,
            DIRECTORY,
        ),
        (f"{D}- pip:\n  - --no-binary=a/b\n", "--no-binary a/b names no package", 3, NAMED),
        (
            f"{D}- pip:\n  - https://u:secret@h/x\n",
            "'https://***@h/x' is a URL without a name",
            3,
            "write NAME @ https://***@h/x",
        ),
        (
            f"{D}- pip:\n  - -r more.txt\n",
            "another file is named, and none can be read here: more.txt",
            3,
            "copy its lines here",
        ),
        (
            f"{D}- pip:\n  - --extra-index https://h/x\n",
            "unknown option --extra-index",
            3,
            "did you mean --extra-index-url?",
        ),
        (
            f"{D}- pip:\n  - a --find-links=/w\n",
            "--find-links behind a requirement",
            3,
            "write it in a line of its own",
        ),
        (
            f"{D}- pip:\n  - --index-url\n",
            "--index-url without a value",
            3,
            "write --index-url https://HOST/simple",
        ),
        (
            f"{D}- pip:\n  - -i https://a\n  - -i https://b\n",
            "there are two index URLs; the first is in environment.yml:3",
            4,
            "write --extra-index-url for the second one",
        ),
        (
            f"{D}- a: [b\n",
            "not valid YAML: did not find expected ',' or ']'",
            2,
            "correct this line, or the one before it",
        ),
        (
            f"{D}- a: b: c\n",
            "not valid YAML: mapping values are not allowed in this context",
            2,
            "correct this line, or the one before it",
        ),
        (f"{D}\t- a\n", "a tab where YAML needs blanks", 2, "indent with blanks"),
        (f"{D}- &x numpy\n- *x\n", "anchors and aliases are not supported", 2, "write the value out"),
        (
            f"{D}- !!python/object/apply:os.system [ls]\n",
            "the tag !!python/object/apply:os.system is not supported",
            2,
            "remove it",
        ),
        (f"{D}- !Secret a\n", "the tag !Secret is not supported", 2, "remove it"),
        (f"{D}- a\n1: 2\n", "a key that is no text", 3, "put it in quotes"),
        (
            f"{D}- a\n---\nb: 1\n",
            "not valid YAML: but found another document",
            3,
            "correct this line, or the one before it",
        ),
        (f"{D}- a\0b\n", "not a text file: there is a control character in it", 2, "name the right file"),
        (f"{D}- {'[' * 5000}\n", "nested too deeply", 2, "name the right file"),
        (f"{D}{'- ' * 5000}a\n", "nested too deeply", 2, "name the right file"),
        ("x" * 10_000_001, "larger than 10 MB", 0, "name the right file"),
        (
            f"{D}{'- a' + chr(10)}" * 50_001,
            "more than 100,000 entries, which no such file has",
            0,
            "name the right file",
        ),
    ],
)
def test_what_is_refused(text: str, what: str, line: int, do: str) -> None:
    assert error(text) == (what, f"environment.yml:{line}" if line else "environment.yml", do)


def test_aliases_do_not_explode() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    assert error(bomb)[0] == "anchors and aliases are not supported"


def test_no_error_repeats_a_secret() -> None:
    for line in ("-i ftp://me:secret@h/x", "--find-links ftp://me:secret@h", "https://me:secret@h/a.whl"):
        assert "secret" not in "".join(map(str, error(f"{D}- pip:\n  - {line}\n")))


def test_what_is_built_is_named_as_pip_names_it() -> None:
    lines = (
        "--no-binary Alpha_one,beta",
        "--no-binary=gamma",
        "-e ./mine",
        "--editable=.",
        "../other[x,y]  # why",
    )
    spec = read("dependencies:\n- pip:\n" + "".join(f"  - {line}\n" for line in lines))
    assert spec.no_binary == ("alpha-one", "beta", "gamma")
    assert [line.text for line in spec.pip] == ["./mine", ".", "../other[x,y]"]
