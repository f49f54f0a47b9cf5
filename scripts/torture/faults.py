"""Spoils one call of a process to the file system: see faults.c, which this compiles and speaks to."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import AgfasError

SOURCE = Path(__file__).with_name("faults.c")

_CHANGES = ("open to write", "write", "fsync", "mkdir", "truncate")
_NAMES = ("rename", "unlink")
_READS = ("open to read", "open a folder", "read")
# What can go wrong in which call. A full or read-only disk stays so; the other errors come once.
DEEDS: dict[str, tuple[str, ...]] = {
    "EIO": (*_CHANGES, *_NAMES, *_READS),
    "ENOSPC": _CHANGES,
    "EDQUOT": _CHANGES,
    "EROFS": ("open to write", "mkdir", "truncate", *_NAMES),
    "EACCES": ("open to write", "open to read", "open a folder", "mkdir", *_NAMES),
    "short": ("write",),
}
LASTING = ("ENOSPC", "EDQUOT", "EROFS")


@dataclass(frozen=True)
class Fault:
    """What happens to a call.

    Attributes:
        call: number of the call below the folder, from 1; 0: none.
        deed: a key of `DEEDS`, or `kill`.
    """

    call: int = 0
    deed: str = "EIO"

    def orders(self, folder: Path, trace: Path | None) -> str:
        """In the words of faults.c."""
        number = getattr(errno, self.deed, 0)
        deed = self.deed if not number else "on" if self.deed in LASTING else "once"
        return f"{folder}|{trace or '-'}|{self.call}|{deed}|{number}"


NONE = Fault()


def has_compiler() -> bool:
    """Whether `build` can work here."""
    return os.name == "posix" and shutil.which("cc") is not None


def build(folder: Path) -> Path:
    """Compile faults.c.

    Raises:
        AgfasError: there is no C compiler.
    """
    if not has_compiler():
        raise AgfasError("Faults are put between the program and libc, which needs a C compiler, `cc`. Install one.")
    library = folder / "faults.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def arm(orders: str) -> None:
    """Give this process its orders; it was started with the library preloaded."""
    ctypes.CDLL(None).torture(orders.encode())


def calls_in(trace: Path) -> list[tuple[str, str]]:
    """Name and path of each call."""
    lines = trace.read_text(encoding="utf-8").splitlines() if trace.is_file() else []
    return [(name, path) for name, _, path in (line.partition("\t") for line in lines)]
