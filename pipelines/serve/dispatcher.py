"""Files wait in one queue; free workers take them in batches; a worker that dies or stalls is replaced."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipelines.asgi import Refused
from pipelines.serve.judge import Upload
from pipelines.serve.metrics import Metrics
from pipelines.serve.settings import Limits, Serving
from pipelines.serve.worker import Unopened, Worker

DIED = "Judging this file ended the process that did it. The file is not judged; send it as another format."
STALLED = "Judging this file took longer than the {:.0f} seconds that it may. Send a smaller one."
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0

Answer = dict[str, Any]
"""Of `Judge`; or `{"status": 500 or 504, "fault": ...}` where its worker died or stalled."""


@dataclass(eq=False)
class _Job:
    upload: Upload
    answer: asyncio.Future[Answer]
    arrived: float
    alone: bool = field(default=False)


class Dispatcher:
    """Keeps the workers running, and gives them what waits.

    Args:
        serving: batches.
        limits: of time and of the queue.
        starters: one for each worker; called again when its worker is gone.
        metrics: counts.
        on_change: called when the first worker is ready, and when the model turns out not to open.
    """

    def __init__(
        self,
        serving: Serving,
        limits: Limits,
        starters: Sequence[Callable[[], Worker]],
        metrics: Metrics,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.serving, self.limits, self.metrics = serving, limits, metrics
        self.facts: dict[str, Any] | None = None
        self.failed: str | None = None
        self.on_change = on_change
        self._starters = starters
        self._workers: set[Worker] = set()
        self._free: deque[Worker] = deque()
        self._waiting: deque[_Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(3 * len(starters), "worker")
        self._closing = False

    @property
    def ready(self) -> int:
        """How many workers have loaded the model."""
        return len(self._workers)

    def start(self) -> None:
        """Start the workers, in a running loop."""
        self._changed = asyncio.Event()
        for starter in self._starters:
            self._run(self._keep(starter))
        self._run(self._dispatch())

    async def judge(self, uploads: Sequence[Upload]) -> list[Answer]:
        """The answers to some files, in order.

        Raises:
            Refused: no model yet (503), a full queue (429), or no answer in time (504).
        """
        if self.facts is None:
            raise Refused(503, "The model is still being loaded. Try again in some seconds.")
        if len(self._waiting) + len(uploads) > self.limits.waiting:
            raise Refused(429, "Too many files wait already. Try again in some seconds.")
        loop = asyncio.get_running_loop()
        jobs = [_Job(upload, loop.create_future(), loop.time(), upload.is_video) for upload in uploads]
        self._waiting.extend(jobs)
        self._wake()
        try:
            return list(
                await asyncio.wait_for(asyncio.gather(*(job.answer for job in jobs)), self.limits.answer_seconds)
            )
        except asyncio.TimeoutError:
            raise Refused(504, f"There was no answer within {self.limits.answer_seconds:.0f} seconds.") from None
        finally:
            for job in jobs:
                job.answer.cancel()
            self._waiting = deque(job for job in self._waiting if not job.answer.done())
            self._wake()

    async def close(self) -> None:
        """End the workers; what waits is not judged."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(self._in_thread(worker.close) for worker in list(self._workers)))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _in_thread(self, call: Callable[..., Any], *given: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *given)

    def _wake(self) -> None:
        self.metrics.waiting.set(len(self._waiting))
        self.metrics.workers.set(self.ready)
        self._changed.set()

    async def _keep(self, starter: Callable[[], Worker]) -> None:
        """Have a worker running, and another when it is gone."""
        pause, loop = 0.0, asyncio.get_running_loop()
        while True:
            worker, begin = starter(), loop.time()
            try:
                facts = await self._in_thread(worker.opened)
            except Unopened as error:
                self.failed = str(error)
                return self.on_change()
            except (EOFError, OSError, ValueError):
                pass
            except asyncio.CancelledError:
                worker.kill()
                raise
            else:
                await self._serve_until_gone(worker, facts)
            worker.kill()
            if self._closing:
                return
            self.metrics.restarts.inc()
            print("agfas serve: a worker has ended and is replaced", file=sys.stderr, flush=True)
            pause = 0.0 if loop.time() - begin > _STEADY_SECONDS else min(_LONGEST_PAUSE, 2 * pause + 0.1)
            await asyncio.sleep(pause)

    async def _serve_until_gone(self, worker: Worker, facts: dict[str, Any]) -> None:
        first, self.facts = self.facts is None, facts
        self._workers.add(worker)
        self._free.append(worker)
        self._wake()
        if first:
            self.on_change()
        try:
            await self._in_thread(worker.wait)
        finally:
            if not self._closing:
                self._workers.discard(worker)
            with suppress(ValueError):
                self._free.remove(worker)
            self._wake()

    async def _dispatch(self) -> None:
        """Give free workers what waits, in the order of its arrival."""
        while True:
            left = self._time_to_fill()
            if left is None or left > 0:
                self._changed.clear()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
                continue
            worker, batch = self._free.popleft(), self._take()
            self._wake()
            self._run(self._judge(worker, batch))

    def _time_to_fill(self) -> float | None:
        """Seconds for which the next batch still waits for more; None without a file or without a free worker."""
        if not self._waiting or not self._free:
            return None
        first = self._waiting[0]
        if first.alone or len(self._waiting) >= self.serving.max_batch:
            return 0.0
        return first.arrived + self.serving.max_wait_ms / 1000 - asyncio.get_running_loop().time()

    def _take(self) -> list[_Job]:
        batch = [self._waiting.popleft()]
        while (
            len(batch) < self.serving.max_batch
            and self._waiting
            and not (batch[0].alone or self._waiting[0].alone)
        ):  # fmt: skip
            batch.append(self._waiting.popleft())
        return batch

    async def _judge(self, worker: Worker, batch: list[_Job]) -> None:
        self.metrics.batch.observe(len(batch))
        exchange = self._in_thread(worker.exchange, [job.upload for job in batch])
        try:
            answers = await asyncio.wait_for(asyncio.shield(exchange), self.limits.judge_seconds)
        except asyncio.TimeoutError:
            await self._give_up(worker, exchange)
            return self._retry(batch, 504, STALLED.format(self.limits.judge_seconds))
        except (EOFError, OSError, ValueError):
            await self._give_up(worker, exchange)
            return self._retry(batch, 500, DIED)
        for job, answer in zip(batch, answers, strict=True):
            _set(job, answer)
        if worker in self._workers:
            self._free.append(worker)
            self._wake()

    async def _give_up(self, worker: Worker, exchange: asyncio.Future[Any]) -> None:
        await self._in_thread(worker.kill)
        with suppress(EOFError, OSError, ValueError):
            await exchange

    def _retry(self, batch: list[_Job], status: int, words: str) -> None:
        """The file that was alone is the cause; of several, each is judged once more, alone."""
        if len(batch) == 1:
            return _set(batch[0], {"status": status, "fault": words})
        for job in reversed(batch):
            if not job.answer.done():
                job.alone = True
                self._waiting.appendleft(job)
        self._wake()


def _set(job: _Job, answer: Answer) -> None:
    if not job.answer.done():
        job.answer.set_result(answer)
