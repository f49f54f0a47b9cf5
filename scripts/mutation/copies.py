"""Copies of the clone, in which a file may be faulty while the clone is worked on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.mutation.changes import Change

_LATER = 10


def clone_files(root: Path) -> list[Path]:
    """The files of a clone, relative to it, new ones included; without git, all but hidden folders."""
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.split(b"\0")
        names = [Path(os.fsdecode(name)) for name in listed if name]
    else:
        names = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
        names = [name for name in names if not name.parts[0].startswith(".") and name.parts[0] != "runs"]
    return [name for name in names if (root / name).is_file()]


def mirror(source: Path, target: Path, names: Iterable[Path]) -> bool:
    """Make the target hold those files and no others, but for the compiled ones beside them; whether any was copied."""
    wanted = set(names)
    copied = False
    for name in wanted:
        old, new = (source / name).stat(), target / name
        if not new.is_file() or (new.stat().st_size, new.stat().st_mtime_ns) != (old.st_size, old.st_mtime_ns):
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, new)
            copied = True
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(target) not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return copied


def with_compiled(clean: Path) -> list[Path]:
    """All files of the clean copy, those that Python and pytest have compiled included."""
    return [path.relative_to(clean) for path in clean.rglob("*") if path.is_file()]


@contextmanager
def faulty(copy: Path, change: Change) -> Iterator[None]:
    """The copy with the fault, for a while."""
    path = copy / change.path
    source, times = path.read_bytes(), path.stat()
    path.write_bytes(change.applied(source))
    # Compiled files are valid by size and second: the faulty one must not share the sound one's second.
    os.utime(path, (times.st_atime, times.st_mtime + _LATER))
    try:
        yield
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
