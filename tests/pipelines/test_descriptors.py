"""Writing, locking and claiming give their file descriptors back, whether they succeed or fail."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from shard_parts import filled_store

from pipelines import files
from pipelines.blocks import Blocks, SharedArray, open_shared
from pipelines.claims import in_turn, sole_writer
from pipelines.cues.manifest import Manifest
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError


def publishes(folder: Path) -> None:
    array = SharedArray(folder / "array.npy", (4, 2), np.dtype(np.float32), 2, "a test")
    for block in array.blocks.missing():
        array.write(block, np.ones((2, 2), np.float32))
    array.blocks.finish(array.publish)
    open_shared(folder / "array.npy", "a test", "again")


def finishes(folder: Path) -> None:
    blocks = Blocks(folder / "result", 2, "a test")
    for _ in blocks.missing():
        pass
    blocks.finish(lambda: (folder / "result").touch())


def takes_turns(folder: Path) -> None:
    for _ in range(2):
        with in_turn(folder / "turn.lock"):
            pass
    with sole_writer(folder / "run"), suppress(AgfasError), sole_writer(folder / "run"):
        pass


def fails(folder: Path) -> None:
    def broken():
        yield b"some"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        files.write_whole(folder / "whole", broken())
    with pytest.raises(OSError, match="directory"):
        files.append_line(folder, b"no file")


WAYS = {
    "whole": lambda folder: files.write_whole(folder / "whole", [b"a", b"b"]),
    "text": lambda folder: files.write_text(folder / "text", "a"),
    "folder": lambda folder: files.write_atomically(folder / "made", Path.mkdir),
    "line": lambda folder: files.append_line(folder / "lines", b"a"),
    "synced": lambda folder: (files.sync_folder(folder), (folder / "a").touch(), files.sync_file(folder / "a")),
    "stale": files.remove_stale,
    "failing": fails,
    "array": publishes,
    "blocks": finishes,
    "turns": takes_turns,
    "store": lambda folder: filled_store(folder).revoke(1),
    "opened": lambda folder: ShardStore.open(filled_store(folder).folder).verify_checksums(),
    "manifest": lambda folder: Manifest(folder / "manifest.jsonl").refresh(),
}


@pytest.mark.parametrize("way", WAYS)
def test_descriptors_are_given_back(tmp_path, way, left_open):
    gc.disable()  # a lock closes itself when it is collected, which would hide that nothing else does
    try:
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            WAYS[way](folder)
        left = left_open()
    finally:
        gc.enable()
    assert left == []
