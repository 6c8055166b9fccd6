"""The scripts of the recipe, run by a shell as a build runs them."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from .world import BASE, rendered

Capture = pytest.CaptureFixture[str]


def _shell(script: str, directory: Path, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    """Run a section as a build does, with the paths of the image put below ``directory``."""
    for inside in ("/envforge/", "/opt", "/.singularity.d"):
        script = script.replace(f"{inside}", f"{directory}{inside}")
    (directory / "script").write_text(script, encoding="utf-8")
    return subprocess.run(
        ["/bin/sh", "-ex", str(directory / "script")],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    for name in ("envforge/wheels", "opt", "bin", ".singularity.d/env"):
        (directory / name).mkdir(parents=True)
    return directory


def test_a_base_without_python_is_told_what_to_do(capsys: Capture, digest: str, root: Path) -> None:
    _, (build, _) = rendered(capsys, "mirror", "--base", BASE)
    for name in ("mkdir", "grep"):
        (root / "bin" / name).symlink_to(f"/bin/{name}")
    (root / "bin/python3").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")  # no venv, or too old
    (root / "bin/python3").chmod(0o755)
    done = _shell(build.sections["post"], root, path=f"{root}/bin")
    assert done.returncode == 1
    assert "envforge: the base has no Python 3.10 or newer that can make a virtual environment" in done.stderr
    assert "  do: take a base with one, or add it to the base: python3-venv on Debian" in done.stderr


def test_a_base_that_holds_an_environment_is_refused(capsys: Capture, digest: str, root: Path) -> None:
    _, (build, _) = rendered(capsys, "mirror", "--base", BASE)
    labels = root / ".singularity.d/labels.json"
    labels.write_text('{"org.envforge.prefix": "/srv/env"}', encoding="utf-8")
    done = _shell(build.sections["post"], root)
    assert done.returncode == 1
    assert "the base is itself an image with an environment of envforge" in done.stderr
    labels.unlink()
    (root / "opt/env").symlink_to("nowhere")
    done = _shell(build.sections["post"], root)
    assert done.returncode == 1
    assert "has something at" in done.stderr


def test_wheels_that_do_not_fit_are_told_from_other_trouble(capsys: Capture, digest: str, root: Path) -> None:
    _, (build, _) = rendered(capsys, "mirror", "--base", BASE)
    stand_in = (
        "#!/bin/sh\n"
        'if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit 0; fi\n'
        'if [ "$1 $2" = "-m pip" ]; then echo "no matching distribution" >&2; exit 1; fi\n'
        'if [ "$1" = "--version" ]; then echo "Python 3.12.0"; fi\n'
    )
    (root / "bin/python3").write_text(stand_in, encoding="utf-8")
    (root / "bin/python3").chmod(0o755)
    done = _shell(build.sections["post"], root, path=f"{root}/bin:/usr/bin:/bin")
    assert done.returncode == 1
    assert "on this base (Python 3.12.0, " in done.stderr
    assert "  do: make them on Linux with that Python version: python3 -m pip wheel" in done.stderr


def test_what_activation_sets_is_computed_in_the_build(capsys: Capture, digest: str, root: Path) -> None:
    """The part of the script that does it, for an environment whose package sets something, too."""
    _, (build, image) = rendered(capsys, "mirror", "--base", BASE)
    script = build.sections["post"]
    script = script[script.index("    shell=/bin/sh") :]
    ours = root / "opt/env/.envforge"
    ours.mkdir(parents=True)
    (ours / "activate.sh").write_text(
        f"export CONDA_PREFIX={root}/opt/env PATH={root}/opt/env/more:{root}/opt/env/bin:$PATH\n"
        'export OF_A_PACKAGE="it\'s \\$5"\nnot_exported=1\n',
        encoding="utf-8",
    )
    assert _shell("fail() { exit 1; }\n" + script, root).returncode == 0
    computed = (root / "envforge/environment.sh").read_text(encoding="utf-8")
    assert computed.splitlines()[0] == f'export PATH="{root}/opt/env/more:{root}/opt/env/bin:$PATH"'
    assert "not_exported" not in computed
    show = f'. {root}/envforge/environment.sh; echo "$OF_A_PACKAGE|$CONDA_PREFIX"'
    done = subprocess.run(["/bin/sh", "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout == f"it's $5|{root}/opt/env\n"
    (ours / "activate.sh").write_text("exit 3\n", encoding="utf-8")
    assert _shell("fail() { exit 1; }\n" + script, root).returncode == 1
    assert "$SINGULARITY_ENVIRONMENT" in image.sections["post"]


def test_the_environment_is_set_by_plain_exports(capsys: Capture, digest: str, tmp_path: Path) -> None:
    _, (_, image) = rendered(capsys, "mirror", "--base", BASE)
    show = 'echo "$PATH|$CONDA_PREFIX|$PYTHONNOUSERSITE|${PYTHONPATH-unset}|${PYTHONHOME-unset}"'
    done = subprocess.run(
        ["/bin/sh", "-c", image.sections["environment"] + "\n" + show],
        env={"PATH": "/bin", "PYTHONPATH": "/x", "PYTHONHOME": "/y"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "/opt/env/bin:/bin|/opt/env|1|unset|unset\n"
    assert {line.split()[0] for line in image.sections["environment"].splitlines() if line} == {
        "export",
        "unset",
    }


def test_every_script_is_a_script(capsys: Capture, digest: str) -> None:
    _, stages = rendered(capsys, "mirror", "--base", BASE)
    for stage in stages:
        for name in ("post", "environment", "runscript", "test"):
            script = stage.sections.get(name, "")
            subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=True)
            assert "<<" not in script
    assert shlex.split(stages[1].sections["runscript"]) == ["exec", "$@"]
