"""Checksums of saved folders: a file that is not what was written is refused when it is opened.

    FOLDER/checksums.json    {"files": {NAME: {"bytes": N, "sha256": HEX}}}; NAME is relative to FOLDER, with `/`

A folder is sealed as a whole, with its subfolders, after everything else in it was written. Folders without checksums,
as older ones and those of other programs, are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

SEAL_NAME = "checksums.json"

# A generator's parts lie one folder below it, and a saved model's two.
_LEVELS = 4
_CHUNK = 1 << 20
# Clocks of file systems tick in up to 2 s (FAT); within a tick, a changed file may have the times of the old one.
_TICK = 2_000_000_000

_known: dict[tuple[str, int, int, int, int, int], str] = {}


def seal(folder: Path) -> None:
    """Write the checksums of every file in a folder, as the last thing before it is published."""
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names(folder)}
    temporary = folder / f".{SEAL_NAME}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps({"files": files}, indent=2, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, folder / SEAL_NAME)
    finally:
        temporary.unlink(missing_ok=True)


def names(folder: Path) -> list[str]:
    """Relative names of a folder's files that decide something, sorted.

    Model cards decide nothing and are for people to edit; hidden files are temporary ones, locks, and those of git,
    desktops and download caches. Checksums of subfolders are theirs alone.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(name.as_posix() for name in found if name.name != SEAL_NAME and _matters(name))


def _matters(name: Path) -> bool:
    return not any(part.startswith(".") for part in name.parts) and name.suffix.lower() not in (".md", ".lock", ".ini")


def check(path: str | Path) -> None:
    """Compare a file, or all files of a folder, with the checksums of the folder that they were saved in.

    A file is read once per process while it does not change.

    Raises:
        ValueError: a file is missing, is not listed, or is not what was written; names it.
    """
    path = Path(path).absolute()
    sealed, listed = _nearest(path)
    for name, entry in listed.items():
        if (sealed / name).is_relative_to(path):
            _check_file(sealed, name, entry)
    for found in _present(path) if listed else ():
        if found.relative_to(sealed).as_posix() not in listed:
            raise ValueError(f"{found} was not there when {sealed} was written. {_advice(sealed)}")


def _nearest(path: Path) -> tuple[Path, dict[str, tuple[int, str]]]:
    """The nearest folder with checksums at `path` or above it, and these; none if there is none."""
    own = path if path.is_dir() else path.parent
    for folder in [own, *own.parents][:_LEVELS]:
        if (folder / SEAL_NAME).is_file():
            listed = _read(folder / SEAL_NAME)
            if folder == own or any((folder / name).is_relative_to(path) for name in listed):
                return folder, listed
    return own, {}


def _present(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (path / name for name in names(path))
    elif path.name != SEAL_NAME and _matters(Path(path.name)) and path.exists():
        yield path


def _read(path: Path) -> dict[str, tuple[int, str]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and value and not any(isinstance(entry, dict) for entry in value.values()):
            return {}  # another program's file of this name
        listed = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in value["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}). {_advice(path.parent)}") from None
    for name in listed:
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise ValueError(f"{path} lists '{name}', which is not a path inside the folder. {_advice(path.parent)}")
    return listed


def _check_file(folder: Path, name: str, entry: tuple[int, str]) -> None:
    path, (length, digest) = folder / name, entry
    if not path.is_file():
        raise ValueError(f"{path} is missing: {folder} is incomplete. {_advice(folder)}")
    if path.stat().st_size != length:
        raise ValueError(f"{path} is not what was written (its length differs). {_advice(folder)}")
    if sha256(path) != digest:
        raise ValueError(f"{path} is not what was written (its checksum differs). {_advice(folder)}")


def _advice(folder: Path) -> str:
    return (
        f"Remove {folder} and run the command that made it, or fetch it again; if the change is yours, remove"
        f" {folder / SEAL_NAME}."
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, remembered while its place, length, times and inode stay the same."""
    stat = path.stat()
    stamp = (str(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if stamp in _known:
        return _known[stamp]
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _TICK:
        _known[stamp] = digest.hexdigest()
    return digest.hexdigest()
