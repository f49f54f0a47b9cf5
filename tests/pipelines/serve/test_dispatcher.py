"""Batches, and what becomes of files whose worker dies or stalls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from serve_parts import FACTS, PICTURE, VIDEO, RecordedWorker, serving

from pipelines.asgi import Refused
from pipelines.serve.dispatcher import DIED, STALLED
from pipelines.serve.judge import Options, Upload


def file(content: bytes = b"", head: bytes = PICTURE) -> Upload:
    return Upload("a.png", head + content, Options())


def sizes(worker: RecordedWorker) -> list[int]:
    return [len(batch) for batch in worker.batches]


def run(work: Any, *given: Any, **settings: Any) -> Any:
    async def running() -> Any:
        async with serving(*given, **settings) as client:
            return await work(client)

    return asyncio.run(running())


def test_what_waits_is_judged_together_up_to_a_batch_and_in_order():
    async def work(client):
        held = asyncio.create_task(client.dispatcher.judge([file(b"hold")]))
        await asyncio.sleep(0.02)
        others = [asyncio.create_task(client.dispatcher.judge([file(bytes([n]))])) for n in range(6)]
        await asyncio.sleep(0.01)
        client.workers[0].go.set()
        answers = await asyncio.gather(held, *others)
        assert all(answer[0]["verdict"]["verdict"] == "live" for answer in answers)
        assert sizes(client.workers[0]) == [1, 4, 2]
        assert [upload.content[-1] for upload in client.workers[0].batches[1]] == [0, 1, 2, 3]

    run(work)


def test_a_picture_waits_a_moment_for_others_and_a_full_batch_does_not():
    async def work(client):
        first = asyncio.create_task(client.dispatcher.judge([file()]))
        await asyncio.sleep(0.03)
        assert client.workers[0].batches == []
        await asyncio.gather(first, client.dispatcher.judge([file()]))
        await asyncio.wait_for(client.dispatcher.judge([file()] * 4), 0.1)
        assert sizes(client.workers[0]) == [2, 4]

    run(work, wait_ms=150)


def test_a_video_is_judged_alone():
    async def work(client):
        await client.dispatcher.judge([file(), file(), file(b"", VIDEO), file()])
        assert sizes(client.workers[0]) == [2, 1, 1]

    run(work)


@pytest.mark.parametrize(
    ("deed", "failure"), [(b"die", {"status": 500, "fault": DIED}), (b"stall", {"status": 504, "fault": STALLED})]
)
def test_who_ends_a_worker_is_answered_and_the_innocent_are_judged_again(deed, failure, capsys):
    async def work(client):
        answers = await client.dispatcher.judge([file(), file(deed), file()])
        failed = {**failure, "fault": failure["fault"].format(0.05)}
        assert [answer if "fault" in answer else "judged" for answer in answers] == ["judged", failed, "judged"]
        assert [sizes(worker) for worker in client.workers if worker.batches] == [[3], [1, 1], [1]]
        assert client.dispatcher.metrics.text().count(b"agfas_worker_restarts_total 2.0") == 1
        assert client.workers[0].gone.is_set()

    run(work, judge_seconds=0.05)
    assert capsys.readouterr().err == "agfas serve: a worker has ended and is replaced\n" * 2


def test_a_worker_that_ends_while_idle_is_replaced_and_costs_nothing():
    async def work(client):
        client.workers[0].gone.set()
        while len(client.workers) < 2 or not client.dispatcher.ready:
            await asyncio.sleep(0.001)
        assert "verdict" in (await client.dispatcher.judge([file()]))[0]
        assert sizes(client.workers[1]) == [1]

    run(work)


def test_a_worker_that_dies_while_it_opens_is_started_again():
    async def work(client):
        assert len(client.workers) == 3
        assert client.dispatcher.facts == FACTS

    run(work, "dies then dies then well")


def test_a_model_that_does_not_open_is_said_and_not_tried_again():
    async def work(client):
        changed = asyncio.Event()
        client.dispatcher.on_change = changed.set
        await changed.wait()
        assert client.dispatcher.failed == "The model is broken. Copy it again."
        with pytest.raises(Refused, match="still being loaded") as refused:
            await client.dispatcher.judge([file()])
        assert refused.value.status == 503
        assert len(client.workers) == 1

    run(work, "broken", ready=False)


def test_a_full_queue_and_a_late_answer_are_refused_and_leave_nothing_behind():
    async def work(client):
        held = asyncio.create_task(client.dispatcher.judge([file(b"hold")]))
        await asyncio.sleep(0.02)
        with pytest.raises(Refused, match="Too many files wait") as refused:
            await client.dispatcher.judge([file()] * 3)
        assert refused.value.status == 429
        with pytest.raises(Refused, match="no answer within 0 seconds") as refused:
            await client.dispatcher.judge([file()] * 2)
        assert refused.value.status == 504
        assert b"agfas_waiting_files 0.0" in client.dispatcher.metrics.text()
        with pytest.raises(Refused, match="no answer"):
            await held
        client.workers[0].go.set()
        await asyncio.sleep(0.01)
        assert "verdict" in (await client.dispatcher.judge([file()]))[0]
        assert sizes(client.workers[0]) == [1, 1]

    run(work, waiting=2, answer_seconds=0.1)


def test_a_server_ends_while_a_model_is_still_opened():
    async def work(client):
        await asyncio.sleep(0.01)
        assert client.dispatcher.ready == 0
        return client.workers[0]

    assert run(work, "slow", ready=False).gone.is_set()
