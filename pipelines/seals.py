"""Checksums of artefacts (law 11): what was written is checked when it is opened. One rule for each shape:

    a folder of files   `seal` or `write_sealed` writes its `checksums.json`, `check` compares; see `dfg.seals`
    a JSON file         `pipelines.files.write_json` adds the checksum of the rest, `read_json` compares and removes it
    a parquet of scores its metadata hold the checksum of its values, see `pipelines.evaluation.scores`
    a cue store         every shard's checksum is in the manifest, see `pipelines.cues.shards`

What was made before there were checksums is read as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dfg import seals
from pipelines.errors import AgfasError
from pipelines.files import explained_errors, write_atomically

SEAL_NAME = seals.SEAL_NAME


def seal(folder: Path) -> None:
    """Write the checksums of every file in a folder, as the last thing before it is published."""
    with explained_errors(folder):
        seals.seal(folder)


def write_sealed(folder: Path, write: Callable[[Path], object]) -> None:
    """`write_atomically` of a folder, which is sealed before it gets its name."""

    def write_and_seal(temporary: Path) -> None:
        write(temporary)
        seal(temporary)

    write_atomically(folder, write_and_seal)


def check(path: Path) -> None:
    """Compare a file, or all files of a folder, with the nearest checksums at or above it, once per file and process.

    Raises:
        AgfasError: a file is missing, was not there when the folder was sealed, or is not what was written.
    """
    try:
        seals.check(path)
    except ValueError as error:
        raise AgfasError(str(error)) from None
