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
import xxhash

from pipelines import blocks, sums
from pipelines.blocks import Blocks, Job, SharedArray, deal, open_shared, remove_finished, share
from pipelines.errors import AgfasError
from pipelines.fingerprint import fingerprint

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


def test_a_file_holds_numpys_bytes_a_checksum_of_every_row_and_a_mark(tmp_path):
    """Byte for byte, as earlier versions wrote it."""
    values = np.arange(6, dtype=np.int16).reshape(3, 2)
    array = SharedArray(tmp_path / "a.npy", (3, 2), np.int16, 2, {"of": "a"})
    assert [list(array.rows(block)) for block in range(array.blocks.count)] == [[0, 1], [2]]
    for block in array.blocks.missing():
        array.write(block, values[list(array.rows(block))].astype(float))
    np.testing.assert_array_equal(array.whole(), values)
    array.publish()
    stream = io.BytesIO()
    np.save(stream, values)
    whole = stream.getvalue()
    header = whole[: -values.nbytes]
    rows = b"".join(xxhash.xxh3_64(row.tobytes()).intdigest().to_bytes(8, "little") for row in values)
    mark = b"agfas-1\n" + xxhash.xxh3_64(header + b'{"of":"a"}').intdigest().to_bytes(8, "little")
    assert (tmp_path / "a.npy").read_bytes() == whole + rows + mark
    identity = [{"of": "a"}, (3, 2), "<i2", 2, "agfas-1\n"]
    assert array.blocks.folder.name == f".a.npy.{fingerprint([identity, 2])}"


def test_checksums_of_blocks(tmp_path):
    data = np.arange(10, dtype=np.uint8)
    edges = sums.even_edges(10, 4)
    assert edges.tolist() == [0, 4, 8, 10]
    assert sums.even_edges(8, 4).tolist() == [0, 4, 8]
    found = sums.checksums(data, edges)
    assert found.tolist() == [xxhash.xxh3_64_intdigest(bytes(part)) for part in (range(4), range(4, 8), range(8, 10))]
    text = sums.as_text(found)
    assert sums.from_text(text).tolist() == found.tolist()
    for wrong in ("?" + text, text[:-5]):
        with pytest.raises(ValueError, match=r"."):
            sums.from_text(wrong)
    for wrong_edges, wrong_sums in ((edges[:-1], found), (edges, found[:-1]), (np.array([0, 4, 8, 9]), found)):
        with pytest.raises(
            sums.Damaged, match=r"a is not what was written \(its length differs\)\. Buy a disk\."
        ) as no:
            sums.CheckedFile(Path("a"), data, wrong_edges, wrong_sums, "Buy a disk.")
        assert no.value.path == Path("a")
    damaged = data.copy()
    damaged[4] ^= 1
    file = sums.CheckedFile(tmp_path, damaged, edges, found, "Buy a disk.")
    for start, stop in ((0, 4), (8, 10), (4, 4), (0, 0), (9, 8)):
        file.check(start, stop)
    for start, stop in ((3, 5), (4, 5), (7, 8), (7, 9), (0, 10), (4, 8)):
        with pytest.raises(sums.Damaged, match="its checksum differs"):
            file.check(start, stop)


def test_checked_rows_are_an_array(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    data = values.view(np.uint8).ravel()
    edges = np.array([0, 8, 24, 40, 48])  # a block before, and blocks of two rows
    file = sums.CheckedFile(tmp_path, data, edges, sums.checksums(data, edges), "x")
    rows = sums.CheckedRows(values[1:], file, first=1, rows_a_block=2)
    seen = []
    file.check_block = seen.append
    assert (len(rows), rows.shape, rows.dtype, rows.ndim) == (5, (5, 2), np.float32, 2)
    for index, looked in (
        (0, [1]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [1, 2, 3]),
        ([0, 3], [1, 2]),
        (np.array([False, False, True, False, False]), [2]),
        ((slice(0, 1), 1), [1]),
    ):
        seen.clear()
        np.testing.assert_array_equal(rows[index], values[1:][index])
        assert seen == looked, index
    copied = np.array(rows, copy=True)
    copied[:] = 0
    assert values[1:].any()
    assert np.asarray(rows, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(rows), values)
    assert np.shares_memory(sums.CheckedRows(values, None)[2:], values)


def test_a_job_counts_its_units_and_shows_them(tmp_path, monkeypatch):
    opened = []

    class Shown:
        n = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update(self, more):
            self.n += more

    def bar(total, title, unit, show):
        opened.append([total, title, unit, show, Shown()])
        return opened[-1][-1]

    monkeypatch.setattr(blocks, "bar", bar)
    array = shared(tmp_path)
    job = Job(array.blocks, lambda block: array.write(block, VALUES[list(array.rows(block))]), array.publish, 12)
    assert job.units_done() == 0
    for number, block in enumerate(array.blocks.missing()):
        job.make(block)
        if number == 2:
            break
    assert job.units_done() == 4  # two of six are marked
    share([job], "fill", "row")
    assert opened[0][:4] == [12, "fill", "row", True]
    assert opened[0][4].n == 12
    assert job.units_done() == 12
    monkeypatch.setattr(blocks, "rank_and_world", lambda: (1, 2))
    share([job], "fill", "row")
    assert opened[1][3] is False
    monkeypatch.setattr(blocks, "rank_and_world", lambda: (0, 1))
    share([job], "fill", "row", show=False)
    assert opened[2][3] is False


def test_what_nobody_can_do_now_is_looked_at_again(tmp_path, monkeypatch):
    """Another process holds the last block; it has finished when we look for the second time."""
    array = shared(tmp_path)
    others = Blocks(array.blocks.result, array.blocks.count, "x")
    held, slept = [], []
    take = blocks.Claims.take
    monkeypatch.setattr(blocks.Claims, "take", lambda self, task: task != 5 if not slept else take(self, task))
    monkeypatch.setattr(blocks.time, "sleep", slept.append)

    def make(block):
        held.append(block)
        array.write(block, VALUES[list(array.rows(block))])

    share([Job(array.blocks, make, array.publish, 22)], "fill", "row", show=False)
    assert held == [0, 1, 2, 3, 4, 5]
    assert slept == [0.2]
    assert others.folder != array.blocks.folder
    assert_is_saved(tmp_path)


def test_a_result_that_is_there_is_not_made_again(tmp_path):
    array, made = shared(tmp_path), []
    array.blocks.folder.mkdir()
    (tmp_path / "values.npy").write_bytes(b"another process was first")
    array.blocks.finish(lambda: made.append(1))
    assert made == []
    assert not array.blocks.folder.exists()
