"""The files that visitors send, kept no longer than they are judged."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from threading import Timer
from typing import Any

LINGER = 3.0
"""Seconds that a file stays after its answer."""

OLDEST = 300.0
"""Seconds after which a file goes that nobody asked an answer for, such as one whose sending broke off."""


class Uploads:
    """A folder in which every visitor's file lies in a folder of its own.

    Args:
        folder: of this page alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def find(self, payload: Any) -> Path | None:
        """The file that a browser speaks of.

        Args:
            payload: what it sent: a dictionary with the file's `path`.

        Returns:
            The file; None where it speaks of none that lies in the folder.
        """
        given = payload.get("path") if isinstance(payload, dict) else None
        if not isinstance(given, str) or "\0" in given:
            return None
        path = Path(given).resolve()
        return path if self.folder in path.parents and path.is_file() else None

    def remove_soon(self, path: Path, seconds: float = LINGER) -> None:
        """Delete a file that `find` gave, unless the same picture is sent again before.

        Args:
            path: of the file.
            seconds: to wait, since the browser may still be fetching the file to show it.
        """
        timer = Timer(seconds, self._remove, (path, _stamp(path)))
        timer.daemon = True  # the folder goes with the page anyway
        timer.start()

    def _remove(self, path: Path, stamp: tuple[int, int] | None) -> None:
        if stamp is not None and _stamp(path) == stamp:
            # Gradio lays every file into a folder that is named by its content.
            place = path if path.parent == self.folder else path.parent
            _delete(place)

    def sweep(self, oldest: float = OLDEST) -> None:
        """Delete what has lain for longer than `oldest` seconds."""
        now = time.time()
        for place in list(self.folder.iterdir()):
            try:
                old = now - place.stat().st_mtime > oldest
            except OSError:  # judged and deleted meanwhile
                continue
            if old:
                _delete(place)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells a file from another one that came to lie in its place."""
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
