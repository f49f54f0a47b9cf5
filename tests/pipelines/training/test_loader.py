"""Batches from worker processes: equal ones, errors that arrive, no hang and no orphan."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.errors import AgfasError
from pipelines.pixels import to_unit_batch
from pipelines.training.loader import _aligned, _is_dense, _Slot, _uncollected, batches_ahead, default_workers

CPU = torch.device("cpu")


@dataclass
class Pair:
    image: torch.Tensor
    key: list[str]
    cue: torch.Tensor | None = None


def make(step: int) -> list[Any]:
    """Micro-batches in every kind of container, type and layout."""
    draws = np.random.default_rng(step)
    image = torch.from_numpy(draws.random((3, 5, 7, 3), dtype=np.float32)).permute(0, 3, 1, 2)  # channels last
    view = torch.from_numpy(draws.integers(0, 9, (4, 6)))[:, ::2]
    return [Pair(image, [f"face {step}"]), {"view": view, "flag": torch.tensor(step % 2 == 0), "none": None}]


def taken(workers: int, function=make, steps: range = range(3, 20)) -> list[list[Any]]:
    with closing(batches_ahead(function, steps, CPU, workers)) as batches:
        return [
            [
                Pair(first.image.clone(), first.key),
                {**second, "view": second["view"].clone(), "flag": bool(second["flag"])},
            ]
            for first, second in batches
        ]


def make_faces(step: int) -> list[Any]:
    """Faces made in place, one batch of them only on the way, and more than the memory holds."""
    pixels = np.random.default_rng(step).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    copies = [to_unit_batch(pixels).contiguous() for _ in range(3)]
    return [to_unit_batch(pixels), *copies, to_unit_batch(pixels)[:, :, 1:], torch.tensor([step])]


def test_faces_are_made_in_the_shared_memory():
    with closing(batches_ahead(make_faces, range(9), CPU, 2)) as batches:
        for step, batch in enumerate(batches):
            for ours, theirs in zip(batch, make_faces(step), strict=True):
                assert torch.equal(ours, theirs)
                assert ours.stride() == theirs.stride()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(workers):
    alone, made = taken(0), taken(workers)
    assert len(made) == 17
    for (ours, other), (theirs, another) in zip(made, alone, strict=True):
        assert torch.equal(ours.image, theirs.image)
        assert ours.image.stride() == theirs.image.stride()
        assert ours.key == theirs.key
        assert torch.equal(other["view"], another["view"])
        assert other["flag"] == another["flag"]
        assert other["none"] is None


def test_a_batch_stays_until_the_next_but_one_is_taken():
    with closing(batches_ahead(make, range(12), CPU, 2)) as batches:
        before = next(batches)
        for step, batch in enumerate(batches, 1):
            assert torch.equal(before[0].image, make(step - 1)[0].image)
            before = batch


def failing(error: type[Exception]):
    def fail(step: int) -> list[Any]:
        if step == 7:
            raise error("the map of face 7 was removed")
        return make(step)

    return fail


def test_an_error_of_a_worker_is_the_error_of_the_run():
    with pytest.raises(AgfasError, match=r"^the map of face 7 was removed$"):
        taken(2, failing(AgfasError))
    with pytest.raises(RuntimeError, match=r"batch of step 7 cannot be made[\s\S]*in fail"):
        taken(2, failing(KeyError))


def test_a_killed_worker_is_noticed():
    def die(step: int) -> list[Any]:
        if step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(step)

    with pytest.raises(AgfasError, match=r"exit code -9.*resumes. `workers`"):
        taken(2, die)


def test_workers_leave_signals_to_their_parent():
    def signalled(step: int) -> list[Any]:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if step > 3 else ():
            os.kill(os.getpid(), number)
        return make(step)

    assert len(taken(2, signalled)) == 17


PROGRAM = """
import os, signal, time
from contextlib import closing
import torch
from pipelines.training.loader import batches_ahead

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it

def make(step):
    os.write(1, b"%d\\n" % os.getpid())
    return torch.ones(2)

with closing(batches_ahead(make, range(9), torch.device("cpu"), 2)) as batches:
    for batch in batches:
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_no_worker_outlives_its_parent(number):
    root = Path(__file__).parents[3]
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert program.stdout is not None
    pids = {int(program.stdout.readline()) for _ in range(3)}
    assert len(pids) == 3
    program.send_signal(number)
    program.wait(20)
    deadline = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    program.stdout.close()


def is_running(pid: int) -> bool:
    """Whether a process exists and has not only been left to be waited for."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class OfTheParent:
    """Garbage that only the process that made it can free, as a pool of threads."""

    def __init__(self) -> None:
        self.itself, self.owner = self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.owner:
            os._exit(9)


def test_nothing_collects_the_parents_garbage_after_a_fork():
    """As what libraries do after a fork may."""
    allocates = [True]
    os.register_at_fork(after_in_child=lambda: allocates and [[] for _ in range(200_000)])
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, *thresholds[1:])
    try:
        OfTheParent()
        assert len(taken(2)) == 17
    finally:
        allocates.clear()
        gc.set_threshold(*thresholds)


def test_default_workers(monkeypatch):
    gpu = torch.device("cuda")
    assert default_workers(CPU) == 0
    for cores, processes, expected in ((16, 1, 8), (16, 4, 3), (8, 8, 0), (1, 1, 0)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert default_workers(gpu) == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert default_workers(gpu) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert default_workers(gpu) == 0


def test_a_slot_holds_twice_a_batch_at_places_of_whole_cache_lines():
    assert [_aligned(size) for size in (0, 1, 64, 65)] == [0, 64, 64, 128]
    size = _Slot.size_of({"a": torch.zeros(3), "b": [torch.zeros(17)], "c": None})
    assert size == 64 + 128
    slot = _Slot(size)
    made = [slot.empty((4, 4)), slot.empty([16]), slot.empty((64,)), slot.empty((1,))]
    assert [tensor.shape for tensor in made] == [(4, 4), (16,), (64,), (1,)]
    base = made[0].data_ptr()
    assert [tensor.data_ptr() - base for tensor in made[:3]] == [0, 64, 128]
    assert not 0 <= made[3].data_ptr() - base < 2 * size  # full
    for number, tensor in enumerate(made[:3]):
        tensor.fill_(number)
    places = slot.write(made[:2])
    assert [(place.start, place.shape, place.stride) for place in places] == [(0, (4, 4), (4, 1)), (64, (16,), (1,))]
    slot.clear()
    other = torch.arange(6, dtype=torch.int64).view(2, 3).T
    (place,) = slot.write([other])
    assert (place.start, place.stride) == (0, (1, 3))
    assert torch.equal(slot.read([place])[0], other)
    assert len(_Slot(0).write([torch.empty(0, 3)])) == 1


@pytest.mark.parametrize(
    ("tensor", "dense"),
    [
        (torch.zeros(2, 3), True),
        (torch.zeros(2, 3).T, True),
        (torch.zeros(2, 4)[:, ::2], False),
        (torch.zeros(2, 4)[:, 1:], False),
        (torch.zeros(3).expand(2, 3), False),
        (torch.zeros(0, 3), True),
        (torch.zeros(()), True),
    ],
)
def test_dense_tensors_fill_a_stretch_of_memory(tensor, dense):
    assert _is_dense(tensor) == dense


@pytest.mark.parametrize("collects", [True, False])
def test_collection_goes_on_after_a_fork_where_it_did_before(collects):
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with _uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def test_two_steps_are_worth_a_worker_and_one_is_not():
    def own(step: int) -> torch.Tensor:
        return torch.tensor([step, os.getpid()])

    for steps in (range(7, 8), range(7, 9)):
        with closing(batches_ahead(own, steps, CPU, 1)) as batches:
            found = [batch.tolist() for batch in batches]
        assert [step for step, _ in found] == list(steps)
        assert [pid == os.getpid() for _, pid in found] == [True, False][: len(steps)]


def test_on_an_accelerator_without_streams_the_next_batch_is_made_ahead():
    with closing(batches_ahead(make, range(6), torch.device("cuda"), 2)) as batches:
        found = [batch[0].image.clone() for batch in batches]
    assert all(torch.equal(image, make(step)[0].image) for step, image in enumerate(found))
