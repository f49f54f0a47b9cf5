"""The tasks of a shard store: dealt out, made, written beside the next one, interrupted."""

from __future__ import annotations

import threading
import time

import pytest
from shard_parts import KEYS, arrays_of, new_store, shard_bytes

from pipelines.blocks import deal
from pipelines.cues.shards import ShardStore
from pipelines.cues.tasks import run_tasks
from pipelines.errors import AgfasError


def test_deal_covers_everything_and_begins_with_the_own_share():
    tasks = [1, 2, 5, 7, 11, 12, 20]
    for world_size in (1, 2, 3, 8):
        shares = [deal(tasks, rank, world_size) for rank in range(world_size)]
        assert all(sorted(share) == tasks for share in shares)
        assert all(
            share[: len(tasks[rank::world_size])] == tasks[rank::world_size] for rank, share in enumerate(shares)
        )


def make_arrays(store):
    def make(task, names):
        for name in names:
            yield name, arrays_of(store.task_rows(task))

    return make


def test_run_tasks_makes_what_is_missing_in_each_store(tmp_path):
    stores = {t: ShardStore.create_or_open(tmp_path, {"t": t}, KEYS, 5) for t in (1, 2)}
    stores[1].write(3, arrays_of(stores[1].task_rows(3)))
    asked = []

    def make(task, names):
        asked.append((task, list(names)))
        return make_arrays(stores[1])(task, names)

    run_tasks(stores, make, show_progress=False)
    assert asked == [(0, [1, 2]), (1, [1, 2]), (2, [1, 2]), (3, [2]), (4, [1, 2])]
    assert all(store.status().complete for store in stores.values())
    run_tasks(stores, make, show_progress=False)
    assert len(asked) == 5


def test_run_tasks_refuses_a_rank_outside_the_world(tmp_path):
    store = new_store(tmp_path)
    with pytest.raises(AgfasError, match=r"rank must lie in 0 \.\. 1"):
        run_tasks({1: store}, make_arrays(store), rank=2, world_size=2, show_progress=False)


def test_interruption_leaves_a_clean_state(tmp_path):
    store = new_store(tmp_path)

    def make(task, names):
        if task == 2:
            raise KeyboardInterrupt
        return make_arrays(store)(task, names)

    with pytest.raises(KeyboardInterrupt):
        run_tasks({1: store}, make, show_progress=False)
    assert store.unfinished() == [2, 3, 4]
    assert sorted(shard_bytes(store.folder)) == ["00000.safetensors", "00001.safetensors"]
    run_tasks({1: store}, make_arrays(store), show_progress=False)
    assert store.verify_checksums() == []
    assert store.status().complete


def test_one_task_is_written_while_the_next_is_made(tmp_path):
    store, events = new_store(tmp_path), []

    def make(task, names):
        events.append(f"make {task}")
        if task == 1:
            # Task 0 is still being written: it waits for this line.
            begun.set()

        def arrays():
            if task == 0:
                assert begun.wait(10)
            events.append(f"write {task}")
            return arrays_of(store.task_rows(task))

        yield names[0], arrays

    begun = threading.Event()
    run_tasks({1: store}, make, show_progress=False)
    assert events[:3] == ["make 0", "make 1", "write 0"]
    # Never more than one behind: the third is not begun to be written before the second is.
    writes = [event for event in events if event.startswith("write")]
    assert writes == [f"write {task}" for task in range(5)]
    assert all(events.index(f"make {task + 2}") > events.index(f"write {task}") for task in range(3))
    assert store.status().complete


@pytest.mark.parametrize("failing_task", [0, 3, 4])
def test_a_failed_write_surfaces_and_gives_its_claims_back(tmp_path, failing_task):
    store = new_store(tmp_path)
    asked = []

    def make(task, names):
        asked.append(task)

        def arrays():
            if task == failing_task:
                raise AgfasError("no room")
            return arrays_of(store.task_rows(task))

        yield names[0], arrays

    with pytest.raises(AgfasError, match="no room"):
        run_tasks({1: store}, make, show_progress=False)
    assert asked == list(range(min(failing_task + 2, 5)))  # one task further at most
    assert store.unfinished() == list(range(failing_task, 5))
    run_tasks({1: store}, make_arrays(store), show_progress=False)
    assert store.verify_checksums() == []
    assert store.status().complete


def test_interruption_keeps_the_task_that_is_being_written(tmp_path, left_open):
    store = new_store(tmp_path)

    def make(task, names):
        if task == 2:
            raise KeyboardInterrupt

        def arrays():
            time.sleep(0.1)
            return arrays_of(store.task_rows(task))

        yield names[0], arrays

    with pytest.raises(KeyboardInterrupt):
        run_tasks({1: store}, make, show_progress=False)
    assert store.unfinished() == [2, 3, 4]
    assert [name for name in left_open() if name.startswith("thread")] == []
