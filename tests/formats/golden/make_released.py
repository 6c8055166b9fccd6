"""What a release of conda-lock writes of ``plain.conda-lock.yml``: ``python make_released.py RELEASE``.

Run it with the Python of an environment that has that release: its own reader and its own writer do the rest.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import yaml

HERE = Path(__file__).parent


def main(release: str) -> None:
    try:
        module = importlib.import_module("conda_lock.lockfile")
    except ModuleNotFoundError:  # before 2.0
        module = importlib.import_module("conda_lock.src_parser.lockfile")
    document = yaml.safe_load((HERE / "plain.conda-lock.yml").read_text(encoding="utf-8"))
    document["metadata"].pop("custom_metadata", None)  # came with 1.1
    # Before 2.0 a package of two categories could be read in one of them only.
    document["package"] = [row for row in document["package"] if row["category"] != "test"]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "conda-lock.yml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        content = module.parse_conda_lock_file(path)
    target = HERE / f"released-{release}.conda-lock.yml"
    options = {} if release.startswith("1.0") else {"metadata_choices": None}
    module.write_conda_lock_file(content, target, **options)


if __name__ == "__main__":
    main(sys.argv[1])
