"""Work that processes share through files: every block once, the same bytes, and no start from the beginning."""

from __future__ import annotations

import io
import os
import pickle
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from pipelines.blocks import Job, SharedArray, deal, open_shared, remove_finished, share
from pipelines.errors import AgfasError

SHAPE, BLOCK = (22, 3), 4
VALUES = np.arange(66, dtype=np.uint8).reshape(SHAPE)


def shared(folder: Path) -> SharedArray:
    return SharedArray(folder / "values.npy", SHAPE, np.uint8, BLOCK, "some values")


def fill(folder: Path, before: Callable[[int], None] = lambda block: None) -> None:
    """Fill the array; every block that is begun is a line of begun.txt."""
    array = shared(folder)

    def make(block: int) -> None:
        with (folder / "begun.txt").open("a") as stream:
            stream.write(f"{block}\n")
        before(block)
        array.write(block, VALUES[list(array.rows(block))])

    share([Job(array.blocks, make, array.publish, SHAPE[0])], "fill", "row", show=False)


def begun(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "begun.txt").read_text().split()]


def assert_is_saved(folder: Path) -> None:
    """The file is what NumPy writes, and the checksums behind it."""
    stream = io.BytesIO()
    np.save(stream, VALUES)
    assert (folder / "values.npy").read_bytes()[: len(stream.getvalue())] == stream.getvalue()
    np.testing.assert_array_equal(np.load(folder / "values.npy"), VALUES)
    np.testing.assert_array_equal(open_shared(folder / "values.npy", "some values", "Remove it."), VALUES)


def fail_at(number: int, block: int) -> None:
    if block == number:
        raise AgfasError(f"block {block} cannot be made")


def wait_for_ever_at(number: int, block: int) -> None:
    time.sleep(600 if block == number else 0.02)


def test_one_process_writes_the_bytes_of_numpy_and_leaves_nothing_else(tmp_path):
    fill(tmp_path)
    assert_is_saved(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"values.npy", "begun.txt"}
    fill(tmp_path)
    assert begun(tmp_path) == list(range(6))


def test_the_next_start_goes_on(tmp_path):
    with pytest.raises(AgfasError, match="block 3 cannot"):
        fill(tmp_path, partial(fail_at, 3))
    assert not (tmp_path / "values.npy").exists()
    fill(tmp_path)
    assert begun(tmp_path) == [0, 1, 2, 3, 3, 4, 5]
    assert_is_saved(tmp_path)


def test_processes_share_the_blocks_and_a_killed_one_leaves_its_block_to_the_others(tmp_path):
    context = get_context("spawn")
    stuck = context.Process(target=fill, args=(tmp_path, partial(wait_for_ever_at, 2)))
    stuck.start()
    while not (tmp_path / "begun.txt").exists() or 2 not in begun(tmp_path):
        time.sleep(0.02)
    other = context.Process(target=fill, args=(tmp_path,))
    other.start()
    while 5 not in begun(tmp_path):
        time.sleep(0.02)
    assert other.is_alive()  # it waits for block 2
    os.kill(stuck.pid, signal.SIGKILL)
    other.join(20)
    assert other.exitcode == 0
    assert begun(tmp_path) == [0, 1, 2, 3, 4, 5, 2]
    assert_is_saved(tmp_path)
    stuck.join()


@pytest.mark.parametrize(
    "place",
    [20, 128, 128 + 40, 128 + 66 + 17, 128 + 66 + 21 * 8],
    ids=["header", "first value", "value", "checksum", "last checksum"],
)
def test_blocks_that_are_not_what_was_written_become_no_result(tmp_path, place):
    with pytest.raises(AgfasError, match="block 5 cannot"):
        fill(tmp_path, partial(fail_at, 5))
    array = shared(tmp_path)
    for block in array.blocks.missing():
        array.write(block, VALUES[list(array.rows(block))])
    path = array.data
    content = bytearray(path.read_bytes())
    content[place] ^= 8
    path.write_bytes(content)
    with pytest.raises(AgfasError, match=r"data\.npy is not what was written .* Remove .* and run the command again"):
        fill(tmp_path)
    assert not (tmp_path / "values.npy").exists()


def test_blocks_that_outlived_their_result_are_removed(tmp_path):
    fill(tmp_path)
    work = shared(tmp_path).blocks.folder
    others = [
        tmp_path / name for name in (f".other.npy{work.suffix}", ".values.npy.mine", "values.npy.0123456789abcdef")
    ]
    for folder in (work, *others):
        folder.mkdir()
    remove_finished(tmp_path / "values.npy")
    assert not work.exists()
    assert all(folder.is_dir() for folder in others)
    (tmp_path / "values.npy").unlink()
    work.mkdir()
    remove_finished(tmp_path / "values.npy")
    assert work.is_dir()


def test_work_of_another_identity_is_not_used(tmp_path):
    array = SharedArray(tmp_path / "values.npy", SHAPE, np.uint8, BLOCK, "other values")
    for block in array.blocks.missing():
        array.write(block, np.zeros((len(array.rows(block)), 3)))
    fill(tmp_path)
    assert_is_saved(tmp_path)


def test_a_block_of_the_wrong_shape_is_refused(tmp_path):
    array = shared(tmp_path)
    with pytest.raises(ValueError, match=r"block 5 has shape \(4, 3\) instead of \(2, 3\)"):
        array.write(5, VALUES[:4])


def test_processes_begin_with_their_own_share():
    assert deal(range(5), 1, 2) == [1, 3, 0, 2, 4]
    assert deal(range(3), 2, 4) == [2, 0, 1]


def damaged(path: Path, place: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def test_a_flipped_bit_is_noticed_when_its_row_is_read_wherever_it_is(tmp_path):
    fill(tmp_path)
    path = tmp_path / "values.npy"
    clean = path.read_bytes()
    for place in range(0, len(clean), 3):
        damaged(path, place, place % 8)
        with pytest.raises(AgfasError, match=r"values\.npy is not what was written .* Remove it\."):
            np.asarray(open_shared(path, "some values", "Remove it."))
        path.write_bytes(clean)
    for wrong in (clean[:-1], clean + b"\0", bytes(len(clean)), b""):
        path.write_bytes(wrong)
        with pytest.raises(AgfasError, match="is not what was written"):
            np.asarray(open_shared(path, "some values", "Remove it."))


def test_rows_are_compared_one_by_one_and_again_in_another_process(tmp_path):
    fill(tmp_path)
    path = tmp_path / "values.npy"
    damaged(path, 128 + 3 * 2)  # row 2
    rows = open_shared(path, "some values", "Remove it.")
    for opened in (rows, pickle.loads(pickle.dumps(rows))):
        np.testing.assert_array_equal(opened[[0, -1]], VALUES[[0, -1]])
        np.testing.assert_array_equal(opened[np.arange(len(VALUES)) == 3], VALUES[[3]])
        for index in (2, slice(1, 4), np.array([5, 2]), (2, 1), 2 - len(VALUES)):
            with pytest.raises(AgfasError, match="is not what was written"):
                opened[index]


def test_an_array_of_something_else_is_refused_and_one_without_checksums_is_read(tmp_path):
    fill(tmp_path)
    with pytest.raises(AgfasError, match="is not what was written"):
        open_shared(tmp_path / "values.npy", "other values", "Remove it.")
    np.save(tmp_path / "older.npy", VALUES)
    np.testing.assert_array_equal(open_shared(tmp_path / "older.npy", "some values", "Remove it."), VALUES)
