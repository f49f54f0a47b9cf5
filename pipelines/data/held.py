"""Files in memory, read as those on disk are: what a client sent is judged without being written anywhere."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from pipelines.errors import AgfasError


@dataclass(frozen=True)
class HeldFile:
    """A picture or a video in memory, with what its reader may spend on it.

    Attributes:
        name: in messages, where a file on disk has its path.
        content: its bytes.
        max_pixels: of the picture, or of a frame; None: as of a file on disk.
        max_seconds: of the video; None: any.
    """

    name: str
    content: bytes = field(repr=False)
    max_pixels: int | None = None
    max_seconds: float | None = None

    def __str__(self) -> str:
        return self.name

    def open(self, mode: str = "rb") -> BinaryIO:
        """Its bytes as an opened file; `mode` is that of `Path.open`, and only reading is possible."""
        return io.BytesIO(self.content)

    def check_seconds(self, seconds: float) -> None:
        """Raise AgfasError if that is more than `max_seconds`."""
        if self.max_seconds is not None and seconds > self.max_seconds:
            raise AgfasError(f"{self} lasts {seconds:.0f} seconds; at most {self.max_seconds:.0f} are taken. Cut it.")


File: TypeAlias = "Path | HeldFile"
"""What readers of pictures and videos take."""


def size_of(file: File) -> int:
    """Bytes of a file."""
    return len(file.content) if isinstance(file, HeldFile) else file.stat().st_size


@contextmanager
def searchable(file: File) -> Iterator[bytes | mmap.mmap]:
    """The bytes of a file that is not empty, for regular expressions; of one on disk, no copy is made."""
    if isinstance(file, HeldFile):
        yield file.content
        return
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data
