"""Batches made ahead of the loop, by worker processes, and copied to a GPU while the step before is computed.

A batch is a function of its step, so workers keep no position and results do not depend on their number. Workers are
forked: they share the mapped datasets without copying. A batch comes back in shared memory that has no name, which no
limit of /dev/shm concerns; only its strings and shapes go through a pipe.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from mmap import mmap
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from pipelines.cues.background import one_ahead
from pipelines.ending import ignore_signals
from pipelines.errors import AgfasError
from pipelines.pixels import allocating

Make = Callable[[int], Any]

_MOST_WORKERS = 8
_ALIGNMENT = 64


def batches_ahead(
    make: Make, steps: range, device: torch.device, workers: int | None = None
) -> Generator[Any, None, None]:
    """`make(step)` for each of `steps`, in order. Close the generator (`contextlib.closing`) to end the workers.

    Args:
        make: tensors in lists, dictionaries and dataclasses; every step gives equal shapes.
        steps: to make.
        device: where the batches are needed; on CUDA they arrive there.
        workers: processes that make them; 0 for none, None for `default_workers`. A batch that a worker made is
            overwritten when the next but one is asked for.

    Raises:
        AgfasError: of `make`, or a worker was killed.
    """
    count = default_workers(device) if workers is None else workers
    if count == 0 or len(steps) < 2:
        yield from map(make, steps) if device.type == "cpu" else _on_device(make, steps, device)
        return
    with Workers(make, steps, count) as made:
        yield from map(made.take, steps) if device.type == "cpu" else _on_device(made.take, steps, device)


def default_workers(device: torch.device) -> int:
    """On a GPU, a process's share of the cores less its own, at most 8; none on a CPU, whose cores train."""
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(0, min(_MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def _on_device(take: Make, steps: range, device: torch.device) -> Iterator[Any]:
    """Batches on their device. A second thread takes the next one, pins it and starts its copy.

    On a CPU it does not pay: a thread that touches tensors gets OpenMP workers of its own, and with more workers than
    cores, idle or not, those of the training sleep at every barrier (`bench idle-thread`).
    """
    if not torch.cuda.is_available():
        yield from one_ahead(take, steps)
        return
    copying = torch.cuda.Stream(device)

    def copied(step: int) -> tuple[Any, torch.cuda.Event]:
        with torch.cuda.stream(copying):
            sent = _each_tensor(take(step), lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
            return sent, copying.record_event()

    for batch, arrived in one_ahead(copied, steps):
        torch.cuda.current_stream(device).wait_event(arrived)
        _each_tensor(batch, lambda tensor: tensor.record_stream(torch.cuda.current_stream(device)))
        yield batch


class Workers:
    """Forked processes that make batches; to be used as a context, which ends them.

    Worker k of n makes every n-th step. There are two slots of shared memory more than workers: for the batch that the
    loop reads, and for the one taken ahead of it.

    Args:
        make: as of `batches_ahead`; called once in this process, to learn the size of a batch.
        steps: to make, in the order in which they will be taken.
        count: number of processes.
    """

    def __init__(self, make: Make, steps: range, count: int) -> None:
        self._steps, self._first = steps, make(steps[0])
        size = _Slot.size_of(self._first)
        self._slots = [_Slot(size) for _ in range(count + 2)]
        pipes = [multiprocessing.Pipe() for _ in range(count)]
        self._ends = [mine for mine, _ in pipes]
        context = multiprocessing.get_context("fork")
        self._processes = [
            context.Process(target=_work, args=(make, self._slots, theirs, self._ends), daemon=True)
            for _, theirs in pipes
        ]
        self._asked = 1

    def __enter__(self) -> Workers:
        with warnings.catch_warnings(), _uncollected():
            # Python warns of forks beside threads; a worker runs none of their code, and tensors on one thread.
            warnings.simplefilter("ignore", DeprecationWarning)
            for process in self._processes:
                process.start()
        for _ in self._processes:
            self._ask()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.pid is not None:
                process.kill()
                process.join()

    def take(self, step: int) -> Any:
        """The batch of the next step, in shared memory until the next but one is taken.

        Raises:
            AgfasError: of `make`, or the worker was killed.
        """
        place = self._steps.index(step)
        if place == 0:
            return self._first
        answer = self._answer((place - 1) % len(self._processes))
        if isinstance(answer, BaseException):
            raise answer
        self._ask()
        return self._slots[place % len(self._slots)].read(answer)

    def _ask(self) -> None:
        """Order the next batch; its slot is that of the last but one taken."""
        if self._asked < len(self._steps):
            order = (self._steps[self._asked], self._asked % len(self._slots))
            with suppress(OSError):  # it was killed, which is noticed when its answer is awaited
                self._ends[(self._asked - 1) % len(self._processes)].send(order)
            self._asked += 1

    def _answer(self, worker: int) -> Any:
        process, end = self._processes[worker], self._ends[worker]
        if end in wait([end, process.sentinel]):
            with suppress(EOFError, OSError):
                return end.recv()
        process.join()
        return AgfasError(
            f"A process that prepares batches ended with exit code {process.exitcode} (-9: killed, mostly for want of"
            " memory). Run the same command again; it resumes. `workers` sets how many there are, 0 for none."
        )


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is collected in a block, nor in what is forked there until it says so.

    What libraries do after a fork could collect the parent's garbage, and wait for ever for its threads.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _work(make: Make, slots: list[_Slot], end: Connection, parents: list[Connection]) -> None:
    """A worker: answers orders until its parent is gone."""
    ignore_signals()
    for other in parents:
        other.close()  # else the pipe would stay open when the parent dies
    # The parent's objects are not collected here: their memory stays shared, and a GPU's must not be touched.
    gc.freeze()
    gc.enable()
    torch.set_num_threads(1)
    try:
        while True:
            step, slot = end.recv()
            end.send(_made(make, step, slots[slot]))
    except (EOFError, OSError):
        return


def _made(make: Make, step: int, slot: _Slot) -> Any:
    try:
        slot.clear()
        with allocating(slot.empty):
            return slot.write(make(step))
    except AgfasError as error:
        return error
    except Exception:
        return RuntimeError(f"The batch of step {step} cannot be made:\n{traceback.format_exc()}")


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in a slot: its first byte, and what makes it a tensor again."""

    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class _Slot:
    """Shared memory for the tensors of one batch; faces and cues are made in it, other tensors are copied to it.

    Args:
        size: bytes of a batch. As much again is reserved for batches that are made on the way; unused, it takes none.
    """

    def __init__(self, size: int) -> None:
        self._bytes = torch.frombuffer(mmap(-1, 2 * max(1, size)), dtype=torch.uint8)
        self._end = 0

    @staticmethod
    def size_of(batch: Any) -> int:
        """Bytes that the tensors of a batch take."""
        sizes: list[int] = []
        _each_tensor(batch, lambda tensor: sizes.append(_aligned(tensor.nbytes)))
        return sum(sizes)

    def clear(self) -> None:
        """Begin another batch."""
        self._end = 0

    def empty(self, shape: Sequence[int]) -> torch.Tensor:
        """A float32 tensor in the slot, or elsewhere if it is full."""
        size = torch.Size(shape).numel() * torch.float32.itemsize
        if self._end + size > len(self._bytes):
            return torch.empty(shape)
        return self._reserve(size).view(torch.float32).view(tuple(shape))

    def write(self, batch: Any) -> Any:
        """Store the tensors that are not in the slot yet; returns the batch with a `_Place` for each."""
        return _each_tensor(batch, self._put)

    def _put(self, tensor: torch.Tensor) -> _Place:
        if tensor.untyped_storage().data_ptr() == self._bytes.untyped_storage().data_ptr():
            return _Place(
                int(tensor.storage_offset()) * tensor.itemsize, tuple(tensor.shape), tensor.stride(), tensor.dtype
            )
        dense = tensor if _is_dense(tensor) else tensor.contiguous()
        place = _Place(self._end, tuple(dense.shape), dense.stride(), dense.dtype)
        self._reserve(dense.nbytes)
        self._view(place).copy_(dense)
        return place

    def _reserve(self, size: int) -> torch.Tensor:
        reserved = self._bytes[self._end : self._end + size]
        self._end += _aligned(size)
        return reserved

    def read(self, written: Any) -> Any:
        """What `write` stored, without a copy."""
        return _each(written, _Place, self._view)

    def _view(self, place: _Place) -> torch.Tensor:
        flat = self._bytes[place.start :]
        flat = flat[: len(flat) // place.dtype.itemsize * place.dtype.itemsize].view(place.dtype)
        return flat.as_strided(place.shape, place.stride)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill a stretch of memory, in any order of the dimensions."""
    reach = sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.numel() == 0 or reach == tensor.numel()


def _each_tensor(batch: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    return _each(batch, torch.Tensor, change)


def _each(batch: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A batch with every value of a type changed."""
    if isinstance(batch, kind):
        return change(batch)
    if isinstance(batch, dict):
        return {name: _each(value, kind, change) for name, value in batch.items()}
    if isinstance(batch, list):
        return [_each(value, kind, change) for value in batch]
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(
            batch, **{field.name: _each(getattr(batch, field.name), kind, change) for field in fields(batch)}
        )
    return batch
