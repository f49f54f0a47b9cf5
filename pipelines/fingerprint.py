"""Identities of artefacts: hashes of everything that decides their bytes, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from dfg.onnx_graph import check_external, external_names
from dfg.seals import SEAL_NAME
from pipelines.errors import AgfasError

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

    Files beside an ONNX file that hold its weights belong to it, whatever their names.

    Raises:
        AgfasError: weights of an ONNX file are missing.
    """
    files = {path} if path.is_file() else {file for file in _files(path, suffixes) if file.is_file()}
    files |= {beside for file in files if file.suffix == ".onnx" for beside in _external_files(file)}
    root = path.parent if path.is_file() else path
    stamps = sorted((file.relative_to(root).as_posix(), _stamp(file)) for file in files)
    return _hash_once(root, path.is_file() and len(files) == 1, tuple(stamps))


def _stamp(file: Path) -> tuple[int, int, int, int]:
    """Who has the name, and when it was changed last, also by who sets its time back: of whole folders, in a moment."""
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _external_files(file: Path) -> list[Path]:
    names = _external_names(file, _stamp(file))
    try:
        check_external(file, names)
    except ValueError as error:
        raise AgfasError(str(error)) from None
    return [file.parent / name for name in names]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Checksums are of the other files, so they name nothing."""
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.name != SEAL_NAME)


@lru_cache(maxsize=32)
def _external_names(file: Path, stamp: tuple[int, ...]) -> list[str]:
    return external_names(file)


@lru_cache(maxsize=32)
def _hash_once(root: Path, alone: bool, stamps: tuple[tuple[str, tuple[int, ...]], ...]) -> str:
    hashes = [[name, file_sha256(root / name)] for name, _ in stamps]
    return hashes[0][1] if alone else hashlib.sha256(canonical_json(hashes).encode()).hexdigest()
