"""Whatever goes in: it is refused, or Apptainer reads from the text exactly what was meant."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envforge.errors import InputError
from envforge.formats.singularity import check
from envforge.model.image import BaseImage, check_image_prefix
from envforge.render.singularity import recipe_base, singularity
from envforge.render.sources import RecipeSource

from .apptainer_parser import parse

SHA = "a" * 64
GOOD = singularity(
    RecipeSource(
        kind="mirror",
        path="mirror",
        name="n",
        sha256=SHA,
        digest=SHA,
        platforms=("linux-64: any",),
        has_python=True,
    ),
    BaseImage(agent="localimage", reference="/base.sif"),
    prefix="/opt/env",
    tool=Path("wheels"),
)

NASTY = [
    "%", "%post", "\n", "\r", "\n%setup\n", "\nBootstrap: docker\n", "bootstrap:", "{{", "}}", "{{ x }}", "#",
    "\\", "'", '"', "$", "$(id)", "`", "*", "?", "[a]", "{a,b}", "~", "-", " ", "\t", "\0", "\x85", "\u2028",
    "\u00a0", "\ufeff", ";", "&", "|", "/", "..", ".", "a", "Z", "9", "é", "名", "\udcff",
]  # fmt: skip
hostile = st.one_of(
    st.lists(st.sampled_from(NASTY), min_size=1, max_size=5).map("".join),
    st.text(min_size=1, max_size=12),
)
harmless = st.text(st.sampled_from("abc XYZ019._/+=@,-%é名"), min_size=1, max_size=15).map(
    lambda text: "/".join(
        part.strip() or "x" for part in text.split("/")
    )  # no blank at an end, even of a part
)


def source(path: str, name: str, *, kind: str = "mirror", assumed: str = "any") -> RecipeSource:
    return RecipeSource(
        kind=kind,
        path=Path(path).as_posix(),
        name=name,
        sha256=SHA,
        digest=SHA,
        platforms=(f"linux-64: {assumed}",),
        has_python=True,
    )


@settings(deadline=None, max_examples=300)
@given(
    path=hostile | harmless,
    name=hostile | harmless,
    image=hostile | harmless,
    tool=hostile | harmless,
    assumed=hostile | harmless,
)
def test_names_and_paths_mean_themselves_or_are_refused(
    path: str, name: str, image: str, tool: str, assumed: str
) -> None:
    try:
        base = recipe_base(f"localimage:{image}")
        text = singularity(source(path, name, assumed=assumed), base, prefix="/opt/env", tool=Path(tool))
    except InputError:
        return
    assert_means(text, path=path, name=name, image=image, tool=tool)


@settings(deadline=None, max_examples=200)
@given(path=harmless, name=harmless, tool=harmless)
def test_harmless_names_and_paths_are_not_refused(path: str, name: str, tool: str) -> None:
    text = singularity(
        source(path, name),
        recipe_base("localimage:base.sif"),
        prefix="/opt/env",
        tool=Path(tool),
    )
    assert_means(text, path=path, name=name, image="base.sif", tool=tool)


def assert_means(text: str, *, path: str, name: str, image: str, tool: str) -> None:
    check(text)
    build, last = parse(text)
    for stage in (build, last):
        assert stage.header["from"] == image
    assert set(build.sections) == {"files", "post"}
    (one, _), (two, _) = build.files[""]
    for found, meant in ((one, path), (two, tool)):
        posix = Path(meant).as_posix()
        assert found == (f"./{posix}" if posix[0] in "-~" else posix)
    assert last.labels["org.envforge.lock.name"] == name
    for line in build.sections["post"].splitlines():
        if "/bin/envforge image tree" in line:
            words = shlex.split(line)
            assert words[words.index("--lock") + 1] == name
            assert words[-2:] == ["--expect-lock", f"sha256:{SHA}"]


@settings(deadline=None)
@given(hostile)
def test_a_prefix_is_plain_or_refused(text: str) -> None:
    try:
        prefix = check_image_prefix("/" + text)
    except InputError:
        return
    assert shlex.split(prefix) == [prefix]
    check(GOOD.replace("/opt/env", prefix))


@settings(deadline=None)
@given(hostile)
def test_a_base_is_plain_or_refused(text: str) -> None:
    for agent in ("docker:", "localimage:", "oci-archive:", ""):
        try:
            base = recipe_base(agent + text)
        except InputError:
            continue
        assert base.agent + ":" == agent
        assert base.reference.isprintable()


@settings(deadline=None)
@given(st.integers(0, len(GOOD)), hostile)
def test_what_check_lets_pass_has_the_stages_that_it_shows(place: int, text: str) -> None:
    broken = GOOD[:place] + text + GOOD[place:]
    try:
        check(broken)
    except InputError:
        return
    stages = parse(broken)
    assert len(stages) == broken.count("\nBootstrap: ") + 1
    for stage in stages:
        assert not {"setup", "pre", "arguments"} & set(stage.sections)
        for pairs in stage.files.values():
            assert all(destination.startswith("/") for _, destination in pairs)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Bootstrap: localimage\n", "\nBootstrap: localimage\n", "does not begin with 'Bootstrap:'"),
        ("Bootstrap: localimage\n", "# first\nBootstrap: localimage\n", "does not begin with 'Bootstrap:'"),
        ("    set +x\n", "    %matplotlib inline\n", "the first word begins with '%' and is no section"),
        ("    set +x\n", "    %post\n", "the first word begins with '%' and is no section"),
        ("    set +x\n", "%setup\n", "the first word begins with '%' and is no section"),
        ("    set +x\n", "%post\n", "a second section %post"),
        ("    set +x\n", "BOOTSTRAP: docker\n", "a line begins with 'bootstrap:'"),
        ("    set +x\n", "\nbootstrap: docker\n", "not a header that is written here"),
        ("    set +x\n", "\nBootstrap: library\n", "bootstrap agent 'library' is none of"),
        ("    set +x\n", "    echo {{ name }}\n", "two braces"),
        ("    set +x\n", "    set +x \\\n", "a backslash at the end of a line"),
        ("    set +x\n", "    set +x\r\n", "a character that is not printed"),
        ("    set +x\n", "    echo\tx\n", "a character that is not printed"),
        ("From: /base.sif", "From: /base.sif # mine", "a header's value ends at '#'"),
        ("From: /base.sif", "From:", "not a header that is written here"),
        ("From: /base.sif", "From: /a\nFrom: /b", "not a header that is written here"),
        ("From: /base.sif", "Registry: x", "not a header that is written here"),
        ("Stage: image\n", "", "a stage does not have Bootstrap, From and Stage"),
        ("%files from build", "%files from other", "%files takes no argument"),
        ("%environment", "%environment -c sh", "%environment takes no argument"),
        ('"wheels" "', '"wheels*" "', "a path of %files is expanded"),
        ('"wheels" "', '"-wheels" "', "a path of %files is expanded, or taken for an option"),
        ('"wheels" "', '"wheels "', "a line of %files is not a source and a destination"),
        ('"/envforge/wheels"', '"wheels"', "a destination of %files is not absolute"),
    ],
)
def test_each_trap_is_found(old: str, new: str, what: str) -> None:
    check(GOOD)
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        check(GOOD.replace(old, new, 1))
    assert what in caught.value.what
    assert (caught.value.at or "").startswith("line ")


def test_a_text_ends_with_a_line_break() -> None:
    with pytest.raises(InputError, match="does not end with a line break"):
        check(GOOD.rstrip("\n"))


def test_the_line_is_named() -> None:
    number = GOOD.splitlines().index("    set +x") + 1
    with pytest.raises(InputError) as caught:
        check(GOOD.replace("    set +x\n", "    %x\n"))
    assert caught.value.at == f"line {number} of the definition file"
