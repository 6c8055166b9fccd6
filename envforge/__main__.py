"""``python -m envforge`` and the ``envforge`` command."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and end the process.

    py-rattler's background threads can crash an interpreter that tears itself down (exit status 139 after
    all work is done), so the process ends at once when everything is written.
    """
    # What a command makes lives until it ends: there is little to find, and looking often takes long.
    gc.set_threshold(100_000)
    try:
        from envforge.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the first modules were still being imported
        code = 130
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 3
    os._exit(code)


if __name__ == "__main__":
    main()
