"""The visitors' files, deleted seconds after their answer."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

LINGER = 3.0
"""Seconds that a file is kept after its answer, since the browser may still fetch it to show it."""

OLDEST = 300.0
"""Seconds after which an unanswered file is deleted, such as one whose upload broke off."""


class Uploads:
    """The visitors' files, each in a folder that Gradio names by its content.

    Args:
        folder: used by this page alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def find(self, payload: Any) -> Path | None:
        """The file that a browser refers to, or None if it is not a file in the folder.

        Args:
            payload: what the browser sent, expected to be a dictionary with `path`.
        """
        given = payload.get("path") if isinstance(payload, dict) else None
        if not isinstance(given, str) or "\0" in given:
            return None
        path = Path(given).resolve()
        return path if self.folder in path.parents and path.is_file() else None

    def size(self) -> int:
        """Bytes of all files that are kept now."""
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # judged and deleted meanwhile
                total += path.stat().st_size
        return total

    def remove_soon(self, path: Path, seconds: float = LINGER) -> None:
        """Delete a file of `find` after some seconds, unless the same picture is uploaded again before."""
        timer = Timer(seconds, self._remove, (path, _stamp(path)))
        timer.daemon = True  # the folder is deleted with the page anyway
        timer.start()

    def _remove(self, path: Path, stamp: tuple[int, int] | None) -> None:
        if stamp is not None and _stamp(path) == stamp:
            _delete(path if path.parent == self.folder else path.parent)

    def sweep(self, oldest: float = OLDEST) -> None:
        """Delete everything older than `oldest` seconds."""
        now = time.time()
        for place in list(self.folder.iterdir()):
            try:
                old = now - place.stat().st_mtime > oldest
            except OSError:  # judged and deleted meanwhile
                continue
            if old:
                _delete(place)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Distinguishes a file from a later one of the same name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _delete(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
