"""Files and folders for their owner alone, written so that no link leads them astray.

Nothing of DuckDB here; which files there are is decided by the settings.
"""

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BESIDE = {"dagster", "demo", ".gitignore", ".gitkeep"}  # what else is in a folder of ours

_UMASKS: list[int] = []
_GUARD = threading.Lock()


@contextmanager
def make_private() -> Iterator[None]:
    """Have all that the process makes during the block be for its owner alone.

    DuckDB's log and temporary files, dlt's and Dagster's have no other way. It is the umask, so it
    holds for what others make in this process too.
    """
    with _GUARD:
        _UMASKS.append(os.umask(0o077))
    try:
        yield
    finally:
        with _GUARD:
            before = _UMASKS[0]
            _UMASKS.pop()
            if not _UMASKS:
                os.umask(before)


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it, that only its owner can enter; an old one is left."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def close_folder(path: Path, stem: str = "") -> None:
    """Close a folder to everybody but its owner, if it is ours and nobody else's.

    With a stem, such as `incidents` of incidents.duckdb, it is ours if everything in it is called
    so, or is Dagster's or the demo's. Home, working directory, what is above them, a mount and a
    folder directly below / never are.
    """
    real = Path(os.path.realpath(path))
    places = (Path.cwd(), Path(os.path.expanduser("~")).absolute())
    if len(real.parts) < 3 or any(place.is_relative_to(real) for place in places):
        return
    with suppress(OSError):
        found = path.lstat()  # a link is somebody's decision
        mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not mine or not found.st_mode & 0o077 or os.path.ismount(real):
            return
        names = os.listdir(path) if stem else ()
        if all(name in BESIDE or name.lstrip(".").startswith(f"{stem}.") for name in names):
            path.chmod(0o700)


@contextmanager
def open_empty_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder of this name, gone after the block; whatever was there goes first.

    Raises OSError where it cannot be made.
    """
    remove(path)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder, if it is there. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a small file anew; what a link of its name leads to stays. Raises OSError."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def replace_file(target: Path, write: Callable[[Path], object], mode: int = 0o600) -> int:
    """Put a file in place at once that `write` fills, for its owner alone; return its bytes.

    Of a symbolic link, what it leads to is replaced. Raises OSError; then the file of before stays.
    """
    target = Path(os.path.realpath(target))
    make_private_folder(target.parent)
    # In the target's folder, since only there a rename is atomic; a dead run's is overwritten.
    fresh = name_fresh(target)
    fresh.unlink(missing_ok=True)
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        write(fresh)
        _sync_to_disk(fresh)
        fresh.chmod(mode)
        fresh.replace(target)
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some file systems cannot; the rename itself has happened
        _sync_to_disk(target.parent)
    return target.stat().st_size


@contextmanager
def fill_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill, which then takes the place of none, or of an empty one, at once.

    It is for its owner alone. Raises OSError; then nothing is left of it.
    """
    target = Path(os.path.realpath(target))
    make_private_folder(target.parent)
    # Of a name of its own, since two may fill one at once.
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield fresh
        for file in fresh.iterdir():
            _sync_to_disk(file)
        fresh.replace(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    with suppress(OSError):
        _sync_to_disk(target.parent)


def keep_file(source: Path, target: Path) -> None:
    """Put a second name of a file, or else a copy, in the place of `target`, at once.

    Raises OSError; then what was there stays.
    """
    source, target = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    fresh = name_fresh(target)
    fresh.unlink(missing_ok=True)
    try:
        os.link(source, fresh)
    except OSError:  # a file system without hard links
        replace_file(target, lambda copy: shutil.copyfile(source, copy), source.stat().st_mode)
        return
    fresh.replace(target)
    fresh.unlink(missing_ok=True)  # a rename does nothing where both are one file already


def name_fresh(target: Path) -> Path:
    """Return where a file is written before it takes the target's place."""
    return target.with_name(f".{target.name}.fresh")


def _sync_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
