"""Several processes share the tasks of a store; how they are killed is in test_torture.py."""

from __future__ import annotations

from scripts.torture.checks import checksums, listings
from scripts.torture.processes import Tortured
from scripts.torture.worker import Orders, job, open_stores


def test_two_processes_share_the_work_and_give_the_same_bytes(tmp_path):
    tasks = 20
    job(tmp_path / "one", tasks)
    # On a quick machine one process would otherwise finish everything before the other has started.
    orders = [Orders(tmp_path / "two", tasks, rank, 2, meet=tmp_path / "meet") for rank in (0, 1)]
    children = [Tortured.start(order) for order in orders]
    codes, calls = zip(*[child.end() for child in children], strict=True)
    assert codes == (0, 0)
    assert checksums(tmp_path / "two") == checksums(tmp_path / "one")
    for store in open_stores(tmp_path / "two", tasks).values():
        assert listings(store.folder) == dict.fromkeys(range(tasks), 1)  # no task was listed twice
    assert all(names.count("append") > 0 for names in calls)  # neither was idle


def test_a_process_that_never_comes_is_replaced(tmp_path):
    job(tmp_path, 6, rank=1, world_size=3)
    assert all(store.unfinished() == [] for store in open_stores(tmp_path, 6).values())
