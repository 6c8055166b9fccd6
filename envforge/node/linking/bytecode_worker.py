"""Make bytecode that nobody has to write later.  Run by the Python of an environment, not imported.

    PYTHONHASHSEED=0 python -S -s -B bytecode_worker.py ROOT <list

Standard input is the paths of sources below ROOT, a NUL after each.  Where its bytecode is there already,
with this Python's magic number and for a source of this size, only its header is made unchecked; else the
source is compiled under its path relative to ROOT, which Python replaces by the real one when it imports it.
For each source two texts are printed, a NUL after each: itself, and its bytecode's path below ROOT, empty
where it does not compile.

It must run on every Python that an environment may hold, so: the standard library, and nothing new.
"""

import sys

# `-I` would do this, but drop the hash seed too: before Python 3.11 the order of sets in bytecode follows it.
del sys.path[0]

import errno
import importlib.util
import marshal
import os
import warnings


def main(root):
    """Go through the list; see the module's docstring."""
    warnings.simplefilter("ignore")
    for line in sys.stdin.buffer.read().split(b"\0")[:-1]:
        name = line.decode("utf-8", "surrogateescape")
        source = os.path.join(root, name)
        cache = importlib.util.cache_from_source(source)
        told = importlib.util.cache_from_source(name)
        try:
            with open(source, "rb") as file:
                content = file.read()
            code = packaged(cache, content)
            if code is None:
                code = dumped(compiled(content, name))
            write(cache, header(content) + code)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            told = ""
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # no bytecode could ever be there
                raise
            told = ""
        sys.stdout.buffer.write(line + b"\0" + told.encode("utf-8", "surrogateescape") + b"\0")


def packaged(cache, content):
    """The code of the bytecode file that the package brought, if it is of this Python and this source."""
    if os.path.islink(cache):
        return None
    try:
        with open(cache, "rb") as file:
            data = file.read()
    except OSError:
        return None
    if data[:4] != importlib.util.MAGIC_NUMBER or len(data) <= 16:
        return None
    if int.from_bytes(data[4:8], "little") == 0:  # by time and size: the time may be lost, the size not
        same = int.from_bytes(data[12:16], "little") == len(content) & 0xFFFFFFFF
    else:
        same = data[8:16] == importlib.util.source_hash(content)
    return data[16:] if same else None


def compiled(content, name):
    """The code object of a source, as if it lay at ``name``."""
    return compile(content, name, "exec", dont_inherit=True, optimize=0)


def header(content):
    """PEP 552: magic, flags 1 (hash-based, not checked), the source's hash."""
    return importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(content)


def dumped(code):
    """Without back references before Python 3.11: there they follow counts that differ from run to run."""
    return marshal.dumps(code, 2 if sys.version_info < (3, 11) else marshal.version)


def write(cache, data):
    """Write beside and rename: the old file may be a hard link that somebody else reads."""
    directory = os.path.dirname(cache)
    if not os.path.isdir(directory):
        try:
            os.mkdir(directory)  # not its parents: who removes the tree while this runs must win
        except FileExistsError:
            pass
    beside = "%s.%d" % (cache, os.getpid())
    with open(beside, "wb") as file:
        file.write(data)
    os.replace(beside, cache)


if __name__ == "__main__":
    main(sys.argv[1])
