"""Make the unfinished tasks of one or several stores, alone or with other processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np

from pipelines.blocks import deal
from pipelines.cues.background import Behind, resolved
from pipelines.cues.shards import ShardStore
from pipelines.ending import finishing, stop_if_asked
from pipelines.errors import AgfasError
from pipelines.progress import bar

Name = TypeVar("Name")
Arrays = Mapping[str, np.ndarray]
Make = Callable[[int, list[Name]], Iterable[tuple[Name, Arrays | Callable[[], Arrays]]]]

_SECONDS_BETWEEN_LOOKS = 0.2


def run_tasks(
    stores: Mapping[Name, ShardStore],
    make: Make[Name],
    *,
    rank: int = 0,
    world_size: int = 1,
    made: dict[str, Any] | None = None,
    only: Collection[int] | None = None,
    description: str = "tasks",
    show_progress: bool = True,
) -> None:
    """Make every unfinished task of `stores`, or of `only`; return when none is left.

    Process r of n takes the unfinished tasks r, r + n, ... first, then those that the others have not started: an
    absent or killed process delays the work but does not stop it. Tasks that another process is making are waited for.
    While a task is made, the one before is written in a second thread.

    Args:
        stores: with the same keys and shard size; tasks with the same number are made together.
        make: called with a task and the names of the stores that lack it; yields each store's arrays, or a function
            that returns them, called in the writing thread.
        rank, world_size: index of this process and number of processes.
        made: recorded with each shard.
        only: the tasks to make, if another program distributes them; None for all.
        description: of the progress bar.
        show_progress: whether to show a bar, which counts rows of all stores.

    Raises:
        AgfasError: a rank outside 0 .. world_size - 1, a full disk, or a folder that cannot be written.
        Stopped: a signal asked for it; the task in hand is finished and written.
    """
    if not 0 <= rank < world_size:
        raise AgfasError(f"rank must lie in 0 .. {world_size - 1} for world_size = {world_size}, not {rank}.")
    total = sum(len(store) for store in stores.values())
    shown = bar(total, description, initial=_finished_rows(stores), unit="row", show=show_progress)
    with finishing(), shown as progress, Behind() as writer:
        while order := deal(_unfinished(stores, only), rank, world_size):
            moved = False
            for task in order:
                moved |= _run(task, stores, make, writer, made)
                progress.update(_finished_rows(stores) - progress.n)
                stop_if_asked()
            writer.wait()
            progress.update(_finished_rows(stores) - progress.n)
            stop_if_asked()
            if not moved:
                time.sleep(_SECONDS_BETWEEN_LOOKS)


def _unfinished(stores: Mapping[Any, ShardStore], only: Collection[int] | None) -> list[int]:
    for store in stores.values():
        store.refresh()
    unfinished = {task for store in stores.values() for task in store.unfinished()}
    return sorted(unfinished if only is None else unfinished & set(only))


def _run(
    task: int, stores: Mapping[Name, ShardStore], make: Make[Name], writer: Behind, made: dict[str, Any] | None
) -> bool:
    claimed = {name: stores[name] for name in _claim(task, stores)}
    try:
        if claimed:
            arrays = list(make(task, list(claimed)))
            writer.run(partial(_write, task, arrays, claimed, made))
    except BaseException:
        _release(task, claimed)
        raise
    return bool(claimed)


def _write(
    task: int,
    arrays: list[tuple[Name, Arrays | Callable[[], Arrays]]],
    claimed: Mapping[Name, ShardStore],
    made: dict[str, Any] | None,
) -> None:
    try:
        for name, values in arrays:
            claimed[name].write(task, resolved(values), made)
    finally:
        _release(task, claimed)


def _release(task: int, claimed: Mapping[Any, ShardStore]) -> None:
    for store in claimed.values():
        store.claims.release(task)


def _claim(task: int, stores: Mapping[Name, ShardStore]) -> Iterator[Name]:
    for name, store in stores.items():
        if store.finished(task) or not store.claims.take(task):
            continue
        # Another process may have finished it since the last refresh.
        store.refresh()
        if store.finished(task):
            store.claims.release(task)
        else:
            yield name


def _finished_rows(stores: Mapping[Any, ShardStore]) -> int:
    return sum(store.finished_rows for store in stores.values())
