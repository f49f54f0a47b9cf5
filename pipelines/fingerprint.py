"""Identities of artefacts: a hash of everything that decides their bytes, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


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


def folder_sha256(folder: Path, suffixes: tuple[str, ...] = (".safetensors", ".json", ".onnx")) -> str:
    """One hash over names and bytes of a saved model's files, whatever the folder is called.

    The order is that of the relative POSIX names, so the same files give the same hash on every system.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in suffixes)
    return hashlib.sha256(canonical_json([[name, file_sha256(folder / name)] for name in names]).encode()).hexdigest()
