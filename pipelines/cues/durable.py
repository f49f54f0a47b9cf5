"""Writes that survive a kill, a power cut and a full disk: whole, or as if they had never begun."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import AgfasError
from pipelines.files import sync_folder, temporary_beside

_MIB = 1 << 20


def write_temporary(path: Path, pieces: Iterable[bytes | memoryview]) -> Path:
    """Write `pieces` to a hidden file beside `path`, fsync it and return it; on a failure it is removed."""
    temporary = temporary_beside(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            for piece in pieces:
                _write_all(descriptor, memoryview(piece).cast("B"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def publish(temporary: Path, path: Path) -> None:
    """Give a temporary file its name and make the name survive a power cut."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file that readers see whole or not at all."""
    publish(write_temporary(path, pieces), path)


def append_line(path: Path, line: bytes) -> None:
    """Append one line with a single write and fsync it.

    A line torn by a crash stays where it is, as rubbish; the new line starts after it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
        payload = (b"\n" if torn else b"") + line + b"\n"
        if os.write(descriptor, payload) != len(payload):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextmanager
def explained_failures(folder: Path, bytes_to_come: int = 0) -> Iterator[None]:
    """Turn a full disk and a folder without permission into one sentence.

    Args:
        folder: the store, for the message.
        bytes_to_come: room that the rest of the work needs, for the message; 0 where unknown.

    Raises:
        AgfasError: in place of an OSError of those kinds.
    """
    try:
        yield
    except OSError as error:
        raise _explained(error, folder, bytes_to_come) from error


def _explained(error: OSError, folder: Path, bytes_to_come: int) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        room = f"free {-(-bytes_to_come // _MIB)} MB" if bytes_to_come else "free some space"
        return AgfasError(f"disk full while writing {folder}: nothing already made is lost, {room} and run again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return AgfasError(
            f"{folder} cannot be written ({error.strerror}): nothing already made is lost. Allow writing"
            " there or choose another folder, and run again."
        )
    return error
