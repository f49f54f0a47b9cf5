"""Durable writes: a reader sees the old file or the whole new one, also after a kill, a power cut or a full disk."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError
from pipelines.fingerprint import canonical_json
from pipelines.locks import ByteLocks
from pipelines.spelling import short_name

# Of temporary files and their locks: name, process, and what no other process has. Earlier versions made no lock.
_TEMPORARY = re.compile(r"(?P<stem>\..+\.[0-9]+\.(?:[0-9a-f]{8}){1,2})\.(?:tmp|lock)")
_BYTES_OF_A_NAME = 200
# POSIX locks do not hold within a process, so it knows its own.
_written_here: set[str] = set()
_tidied: set[Path] = set()
_BINARY = getattr(os, "O_BINARY", 0)
_MIB = 1 << 20
_TOLD_BY_RUST = re.compile(r"\(os error (\d+)\)")
_SICK = {getattr(errno, name, errno.EIO) for name in ("EIO", "ENXIO", "ENODEV", "ESTALE", "EREMOTEIO")}
_NAMES_OF_A_FILE = ("path", "self", "folder", "place")
_CHECKSUM = "_sha256"
_AGAIN = "Remove it, or its whole folder, and run the command that made it again"


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a temporary sibling (a file or a folder), then move it to `path`, replacing what is there.

    Raises:
        AgfasError: no space or no permission; the previous content of `path` is kept.
    """
    with explained_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _tidied:  # once, since listing a folder for each of its files would take long
            _tidied.add(path.parent)
            remove_stale(path.parent)
        _put_back(path)
        with temporary_beside(path) as temporary:
            write(temporary)
            _sync_tree(temporary)
            _replace(temporary, path)
            sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; an object with the checksum of its content, see `read_json`."""
    text = json_text(value)
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    plain = json.loads(json.dumps(value, sort_keys=True, default=str))
    if isinstance(plain, dict):
        plain[_CHECKSUM] = hashlib.sha256(canonical_json(plain).encode()).hexdigest()
    return json.dumps(plain, indent=2, sort_keys=True) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def csv_text(rows: list[dict[str, Any]], header: Sequence[str] | None = None) -> str:
    """Rows of equal keys as CSV with a header; its default is the keys of the first row."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=header or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read_json(path: Path, **kinds: type | tuple[type, ...]) -> Any:
    """Read JSON; the checksum that `write_json` added is compared and removed. Other programs' files have none.

    Args:
        path: the file.
        kinds: entries that an object must have, with their types; without any, every content is allowed.

    Raises:
        AgfasError: the file is damaged, is not what was written, or lacks an entry.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and too long numbers are ValueErrors
        raise AgfasError(f"{path} is not valid JSON ({error}). {_AGAIN}.") from None
    expected = value.pop(_CHECKSUM, None) if isinstance(value, dict) else None
    if expected is not None and expected != hashlib.sha256(canonical_json(value).encode()).hexdigest():
        raise AgfasError(
            f"{path} is not what was written (its checksum differs). {_AGAIN}; if the change is yours, remove the line"
            f" {_CHECKSUM}."
        )
    for name, kind in kinds.items():
        if not isinstance(value, dict) or not isinstance(value.get(name), kind):
            raise AgfasError(f"{path} holds no '{name}', or one of another kind than this program writes. {_AGAIN}.")
    return value


def check_written_over(folder: Path, kind: str, *, needed: Set[str], known: Set[str]) -> None:
    """Refuse to write a folder over something else.

    Args:
        kind: what is written, with its article.
        needed, known: names that such a folder must have, and all that it may have; an empty one is replaced, too.

    Raises:
        AgfasError: a file, a link, or a folder with anything else in it.
    """
    if folder.is_dir() and not folder.is_symlink():
        names = {path.name for path in folder.iterdir()}
        if not names or needed <= names <= known:
            return
    elif not (folder.is_symlink() or folder.exists()):
        return
    raise AgfasError(f"{folder} exists and is not {kind}, so it is not replaced. Give a new or an empty folder.")


@contextmanager
def explained_errors(place: Path, bytes_to_come: int = 0) -> Iterator[None]:
    """Turn a full disk or a folder without permission into one sentence.

    Args:
        place: what is written, for the message.
        bytes_to_come: space that the rest of the work needs, for the message; 0 if unknown.

    Raises:
        AgfasError: in place of an OSError of those kinds.
    """
    try:
        yield
    except Exception as error:
        found = as_os_error(error)
        if found is None:
            raise
        raise explain_os_error(found, place, bytes_to_come) from error


def as_os_error(error: Exception) -> OSError | None:
    """An error of the system, also if a library in Rust, as safetensors, tells it in words of its own."""
    if isinstance(error, OSError):
        return error
    number = _TOLD_BY_RUST.search(str(error))
    if number is None:
        return None
    return OSError(int(number[1]), os.strerror(int(number[1]))).with_traceback(error.__traceback__)


def explain_os_error(error: OSError, place: Path, bytes_to_come: int = 0) -> Exception:
    """The error as one sentence that says what to do, if its cause is known."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        room = f"free {-(-bytes_to_come // _MIB)} MB" if bytes_to_come else "free some space"
        return AgfasError(
            f"The disk is full while writing {place}: nothing already made is lost, {room} and run again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return AgfasError(
            f"{place} cannot be written ({error.strerror}): nothing already made is lost. Allow writing there or"
            " choose another folder, and run again."
        )
    if error.errno in _SICK:
        return AgfasError(
            f"{file_of(error) or place} cannot be read or written ({error.strerror}): nothing already made is lost."
            " Check the disk, or the connection to it, and run again."
        )
    if error.errno == errno.ENAMETOOLONG:
        return AgfasError(
            f"{place} cannot be written: its name is too long for this file system. Choose a shorter one."
        )
    return error


def is_of_the_disk(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is the disk's fault: it says nothing about the file."""
    if isinstance(error, OSError) and error.errno in _SICK:
        return True
    return error is not None and is_of_the_disk(error.__cause__ or error.__context__)


def file_of(error: OSError) -> Path | None:
    """The file that an error is about. `read` and `write` do not say it: then that of a function or of its object."""
    if error.filename is not None:
        return Path(os.fsdecode(error.filename))
    found, step = None, error.__traceback__
    while step is not None:
        names = step.tb_frame.f_locals
        given = [*(names.get(name) for name in _NAMES_OF_A_FILE), getattr(names.get("self"), "path", None)]
        found = next((one for one in given if isinstance(one, Path)), found)
        step = step.tb_next
    return found


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """The name of a hidden sibling of `path` for the time of a block; what has that name in the end is removed.

    A lock beside it says that its writer lives, see `remove_stale`.
    """
    stem, lock = _reserve(path)
    temporary = _temporary_of(stem)
    _written_here.add(stem.name)
    try:
        yield temporary
    finally:
        try:
            _remove(temporary)
        finally:
            _written_here.discard(stem.name)
            if lock is not None:
                lock.remove()


def _reserve(path: Path) -> tuple[Path, ByteLocks | None]:
    # Cut, so that the name fits whatever the length of the file's.
    start = path.name.encode(errors="surrogateescape")[:_BYTES_OF_A_NAME].decode(errors="ignore")
    while True:
        stem = path.with_name(f".{start}.{os.getpid()}.{os.urandom(8).hex()}")
        try:
            lock = ByteLocks(_lock_of(stem))
        except OSError:  # nothing can be written there: the temporary file will say so
            return stem, None
        if lock.lock(0) and lock.is_named():  # otherwise `remove_stale` of another process has just found it
            return stem, lock
        lock.close()


def remove_stale(folder: Path) -> int:
    """Remove the temporary files and folders that nobody is writing any more; returns their number.

    Their writer's lock decides, which ends with its process, wherever that runs and whatever the clocks say. What
    cannot be decided, since the file system has no locks or `folder` cannot be written, stays, which is harmless.
    """
    found = [match for path in folder.glob(".*") if (match := _TEMPORARY.fullmatch(path.name))]
    stems = {match["stem"] for match in found} - _written_here
    return sum(_remove_dead(folder / stem) for stem in sorted(stems))


def _remove_dead(stem: Path) -> bool:
    temporary, lock = _temporary_of(stem), None
    try:
        lock = ByteLocks(_lock_of(stem))
        if not lock.lock(0) or not lock.supported:
            return False
        there = temporary.exists()
        _remove(temporary)
        lock.remove()
        return there
    except OSError:
        return False
    finally:
        if lock is not None:
            lock.close()


def _temporary_of(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.tmp")


def _lock_of(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.lock")


@contextmanager
def written(path: Path, pieces: Iterable[bytes | memoryview]) -> Iterator[Path]:
    """`pieces` in a hidden file beside `path`, on the disk; removed after the block unless it has another name then."""
    with temporary_beside(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
        try:
            for piece in pieces:
                _write_all(descriptor, memoryview(piece).cast("B"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary


def publish(temporary: Path, path: Path) -> None:
    """Rename a temporary file to its final name, so that the name survives a power cut."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file that readers see complete or not at all."""
    with written(path, pieces) as temporary:
        publish(temporary, path)


def append_line(path: Path, line: bytes) -> None:
    """Append one line with a single write and fsync it.

    A line torn by a crash stays and is ignored; the new line starts after it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
    try:
        torn = False
        if os.lseek(descriptor, 0, os.SEEK_END) > 0:
            os.lseek(descriptor, -1, os.SEEK_END)
            torn = os.read(descriptor, 1) != b"\n"
        payload = (b"\n" if torn else b"") + line + b"\n"
        if os.write(descriptor, payload) != len(payload):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync_tree(path: Path) -> None:
    """Sync a file, or a folder with everything in it, deepest first."""
    if not path.is_dir():
        sync_file(path)
        return
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            sync_file(Path(folder, name))
        sync_folder(Path(folder))


def sync_file(path: Path) -> None:
    """Make the content of a regular file survive a power cut."""
    if path.is_file():
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())


def _replace(new: Path, path: Path) -> None:
    """Move `new` to `path`. An existing folder is moved aside first, since nothing can be moved onto it.

    In the end the old folder is at `new`, for the caller to remove. So the folder aside is always complete, and a kill
    between the renames loses nothing, see `_put_back`.
    """
    if not path.is_dir():
        os.replace(new, path)
        return
    aside = _aside(path)
    os.rename(path, aside)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(aside, path)
        raise
    os.rename(aside, new)


def _put_back(path: Path) -> None:
    """Restore a folder that a killed `_replace` left aside, unless its successor is in place."""
    aside = _aside(path)
    if not aside.is_dir():
        return
    if path.exists():
        _remove(aside)
    else:
        os.rename(aside, path)


def _aside(path: Path) -> Path:
    return path.with_name(short_name(f".{path.name}.replaced"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
