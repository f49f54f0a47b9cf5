"""Writing so that a reader sees either the old file or the whole new one."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a temporary sibling (a file or a folder), then move it to `path`, replacing what is there.

    Raises:
        AgfasError: no room or no permission; what was at `path` before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        try:
            write(temporary)
            _sync_tree(temporary)
            _replace(temporary, path)
            sync_folder(path.parent)
        finally:
            _remove(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as CSV with a header."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read_json(path: Path) -> Any:
    """Read JSON; a broken file is the user's to know of."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AgfasError(f"{path} is not valid JSON ({error}). Remove its folder and run the command again.") from None


@contextmanager
def explained_errors(place: Path) -> Iterator[None]:
    """Turn a full disk and a folder without permission into one sentence."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, place) from error


def explain_os_error(error: OSError, place: Path) -> Exception:
    """The error as one sentence that says what to do, where the cause is known."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AgfasError(
            f"The disk is full while writing {place}. What was finished before is whole; free some space and run"
            " the same command again, and it goes on from there."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return AgfasError(f"{place} cannot be written ({error.strerror}). Choose another folder with --output.")
    return error


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
    files = [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _replace(new: Path, path: Path) -> None:
    """Move `new` to `path`; a folder that is there steps aside first, since nothing can be moved onto it."""
    if not path.is_dir():
        os.replace(new, path)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    _remove(aside)
    os.rename(path, aside)
    os.rename(new, path)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
