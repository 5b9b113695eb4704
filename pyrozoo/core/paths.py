"""Where things lie, and how a file is put in its place."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

# The wheel carries its own copy of conf; a checkout has it beside the package. Hydra needs an absolute path: a relative
# one fails for console scripts and installed wheels.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def version(package: str = "pyrozoo") -> str:
    """Return the version of a package, of one that is not installed ``?``: a run does not need to know."""
    from importlib import metadata  # a tenth of the time that help takes

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


@contextmanager
def alone(directory: Path) -> Iterator[bool]:
    """Keep a directory to this process, as far as the system can; the lock ends with the process, however that ends.

    Yields:
        Whether no other process has it.
    """
    where = directory.resolve()
    if where in _KEPT:
        yield True
        return
    try:
        import fcntl

        directory.mkdir(parents=True, exist_ok=True)
        opened = os.open(directory, os.O_RDONLY)
    except (ImportError, OSError):  # another system, or a folder that cannot be made, which is told elsewhere
        yield True
        return
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError:  # a file system without locks
            free = True
        if free:
            _KEPT.add(where)
        yield free
    finally:
        _KEPT.discard(where)
        os.close(opened)


_KEPT: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` and move it into place when the block ends well.

    A reader never sees half a file, and a failure leaves what was there before.

    Args:
        path: The file to write; its folder is made when missing.

    Yields:
        The temporary path to write to (the same ending, since some writers choose the format by it).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)  # os.replace: atomic
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk does not say where; nobody knows the other name
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
