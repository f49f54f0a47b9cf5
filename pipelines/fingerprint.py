"""Identities of artefacts: hashes of everything that decides their bytes, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from dfg.seals import SEAL_NAME

_CHUNK = 1 << 20

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".onnx", ".data", ".json", ".txt")
"""Files of saved models; others in their folders, such as README.md, decide nothing."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def fingerprint(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of `value` in canonical JSON.

    64 bits: among a million artefacts the chance that any two share a name is below 1 in 10 million.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def folder_sha256(folder: Path, suffixes: tuple[str, ...] = WEIGHT_SUFFIXES) -> str:
    """One hash over names and bytes of a saved model's files, whatever the name of the folder.

    The order is that of the relative POSIX names, so the same files give the same hash on every system.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder, suffixes))
    return hashlib.sha256(canonical_json([[name, file_sha256(folder / name)] for name in names]).encode()).hexdigest()


def content_sha256(path: Path, suffixes: tuple[str, ...] = WEIGHT_SUFFIXES) -> str:
    """The hash of a file or folder, computed once per process while the files do not change.

    A U-Net of 3.4 GB takes seconds to read, and several names contain its hash.
    """
    files = [path] if path.is_file() else _files(path, suffixes)
    stamps = [(file.as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return _hash_once(path, suffixes, tuple(stamps))


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Checksums are of the other files, so they name nothing."""
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.name != SEAL_NAME)


@lru_cache(maxsize=32)
def _hash_once(path: Path, suffixes: tuple[str, ...], stamps: tuple[tuple[str, int, int], ...]) -> str:
    return folder_sha256(path, suffixes) if path.is_dir() else file_sha256(path)
