"""The API behind its gate, driven as a server drives it: answers, refusals, keys, and what its description says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from serve_parts import FORM, PICTURE, PNG, VIDEO, form, serving

from pipelines.serve import answers
from pipelines.serve.gate import CODES, PATHS
from pipelines.serve.settings import Limits

KEY = "a-key-of-sixteen-letters"
ONE, MANY = "/v1/verdict", "/v1/verdicts"


def ask(*given: Any, server: dict[str, Any] | None = None, **named: Any) -> tuple[int, Any, dict[str, str]]:
    """One request to a server of its own."""

    async def asking() -> tuple[int, Any, dict[str, str]]:
        async with serving(**(server or {})) as client:
            return await client(*given, **named)

    return asyncio.run(asking())


def message(content: Any, status: int) -> str:
    """The sentence of an error, whose shape is checked."""
    problem = answers.Problem.model_validate(content)
    assert problem.error.code == CODES[status]
    assert problem.error.message.endswith(".")
    return problem.error.message


def test_a_picture_is_answered_by_its_verdict():
    status, content, headers = ask("POST", ONE, PICTURE, PNG)
    assert status == 200
    found = answers.VerdictOf.model_validate(content)
    assert (found.source, found.verdict, found.label) == ("picture", "live", "recorded")
    assert headers["x-content-type-options"] == "nosniff"
    status, content, _ = ask("POST", ONE, form(PICTURE, name="x/selfie.png"), FORM)
    assert (status, content["source"]) == (200, "selfie.png")


def test_parameters_reach_the_judge():
    async def asking():
        async with serving(frames=30) as client:
            await client("POST", f"{ONE}?all_faces=true&aligned=1&frames=30", PICTURE, PNG)
            await client("POST", ONE, PICTURE, PNG)
            return [tuple(batch[0].options) for batch in client.workers[0].batches]

    assert asyncio.run(asking()) == [(True, True, 30), (False, False, 10)]


def test_several_files_are_answered_one_by_one(capsys):
    body = form(PICTURE, PICTURE + b"refuse", PICTURE + b"fail", VIDEO + b"die", PICTURE)
    status, content, _ = ask("POST", MANY, body, FORM)
    assert status == 200
    found = answers.Verdicts.model_validate(content).results
    assert [each.error.code if isinstance(each, answers.Failed) else each.verdict for each in found] == [
        "live", "refused", "fault", "fault", "live",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "body", "headers", "status", "words"),
    [
        (ONE, PICTURE + b"refuse", PNG, 422, "of a test"),
        (ONE, PICTURE + b"fail", PNG, 500, "The model failed."),
        (ONE, VIDEO + b"die", PNG, 500, "ended the process"),
        (ONE, VIDEO + b"stall", PNG, 504, "longer than the 0 seconds"),
        (ONE, form(PICTURE, PICTURE), FORM, 400, "may have 1 parts"),
        (ONE, b"", PNG, 400, "no file in it"),
        (ONE, PICTURE, [], 415, "none was given"),
        (ONE, PICTURE * 200_000, PNG, 413, "A file may have 1 MB."),
        (ONE, PICTURE, [*PNG, ("content-length", "999999999")], 413, "A file may have 1 MB."),
        (MANY, form(*[PICTURE * 90_000] * 4), FORM, 413, "All files together may have 2 MB."),
        (MANY, form(*[PICTURE] * 6), FORM, 400, "may have 5 parts"),
        (MANY, form(*[PICTURE] * 5), FORM, 429, "Too many files wait"),
        (f"{ONE}?frames=0", PICTURE, PNG, 400, "frames: "),
        (f"{ONE}?frames=51", PICTURE, PNG, 400, "frames: "),
        (f"{ONE}?frames=nan", PICTURE, PNG, 400, "frames: "),
        (f"{ONE}?all_faces=perhaps", PICTURE, PNG, 400, "all_faces: "),
        (f"{ONE}?allfaces=1", PICTURE, PNG, 400, "did you mean 'all_faces'?"),
        ("/v1/nothing", PICTURE, PNG, 404, "See /docs."),
        ("/v1/verdict/", PICTURE, PNG, 404, "See /docs."),
        ("/v1/../etc/passwd", PICTURE, PNG, 404, "See /docs."),
        ("/v1/health", PICTURE, PNG, 405, "See /docs."),
    ],
)
def test_what_cannot_be_answered_is_an_error_of_one_shape(target, body, headers, status, words, capsys):
    server = {"file_mb": 1, "request_mb": 2, "files": 5, "waiting": 4, "judge_seconds": 0.05}
    found, content, _ = ask("POST", target, body, headers, server=server)
    assert found == status
    assert words in message(content, status)


def test_a_fault_of_the_server_is_said_without_its_words(monkeypatch, capsys):
    monkeypatch.setattr("pipelines.serve.app.files_of", lambda *given: 1 / 0)
    status, content, _ = ask("POST", ONE, PICTURE, PNG)
    assert status == 500
    assert message(content, 500).startswith("The server has a fault")
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401), ([("authorization", f"Bearer {KEY}")], 200), ([("authorization", f"bearer {KEY}")], 200),
        ([("x-api-key", KEY)], 200), ([("x-api-key", KEY[:-1])], 401), ([("x-api-key", f"{KEY}x")], 401),
        ([("authorization", f"Basic {KEY}")], 401), ([("authorization", KEY)], 401), ([("x-api-key", "")], 401),
        ([("x-api-key", "another key, the second")], 200), ([("x-api-key", "\xff")], 401),
        ([("x-api-key", KEY), ("authorization", f"Basic {KEY}")], 401),
        ([("x-api-key", KEY), ("x-api-key", "another")], 401),
        ([("x-api-key", KEY), ("authorization", f"Bearer {KEY}")], 200),
    ],
)  # fmt: skip
def test_a_key_opens_all_but_the_open_paths(headers, status):
    async def asking():
        async with serving(keys=[KEY, "another key, the second"]) as client:
            for target in (ONE, MANY):
                body = form(PICTURE)
                found, content, answered = await client("POST", target, body, [*FORM, *headers])
                assert found == status
                assert status == 200 or (message(content, 401) and answered["www-authenticate"] == "Bearer")
            for target in ("/v1/model", "/metrics"):
                assert (await client("GET", target, headers=headers))[0] == status
            assert (await client("GET", "/v1/unknown", headers=headers))[0] == (404 if status == 200 else 401)
            for target in ("/v1/health", "/v1/ready", "/openapi.json", "/docs"):
                assert (await client("GET", target))[0] == 200

    asyncio.run(asking())


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1:8000", [], 200), ("localhost", [], 200), ("api.example.org", [], 200), ("evil.org", [], 421),
        (None, [], 421), ("[::1", [], 421), ("localhost", [("x-forwarded-host", "evil.org")], 421),
        ("localhost", [("origin", "http://localhost")], 200), ("localhost", [("origin", "https://evil.org")], 403),
        ("localhost", [("origin", "null")], 403), ("localhost", [("origin", "http://[::1")], 403),
        ("10.0.0.1", [("origin", "https://api.example.org")], 200),
    ],
)  # fmt: skip
def test_other_names_and_other_pages_are_refused(host, headers, status):
    found, content, _ = ask("POST", ONE, PICTURE, [*PNG, *headers], host)
    assert found == status
    assert status == 200 or message(content, status)


def test_a_slow_body_and_a_crowd_are_refused_and_one_who_hangs_up_is_not_judged():
    async def asking():
        async with serving(arrive_seconds=0.05, requests=2, held_mb=0.001) as client:
            found, content, headers = await client("POST", ONE, b"", PNG, chunks=[PICTURE, 0.2, PICTURE])
            assert (found, message(content, 408)) == (408, "The picture did not arrive within 0 seconds.")
            assert headers["connection"] == "close"
            large = await client("POST", ONE, PICTURE * 200, PNG)
            assert (large[0], large[2]["retry-after"], message(large[1], 429)[:14]) == (429, "2", "Too many large")
            assert await client("POST", ONE, b"", PNG, chunks=[PICTURE, None]) == (0, None, {})
            held = [asyncio.create_task(client("POST", ONE, PICTURE + b"hold", PNG)) for _ in range(2)]
            await asyncio.sleep(0.02)
            crowd = await client("POST", ONE, PICTURE, PNG)
            assert (crowd[0], message(crowd[1], 429)[:17]) == (429, "Too many requests")
            assert (await client("GET", "/v1/health"))[0] == 200
            client.workers[0].go.set()
            assert [(await task)[0] for task in held] == [200, 200]
            assert (client.gate._open, client.gate._held) == (0, 0)
            judged = sum(len(batch) for batch in client.workers[0].batches)
            gone = asyncio.create_task(client("POST", ONE, b"", PNG, chunks=[PICTURE + b"x", 0.01, None]))
            client.workers[0].go.clear()
            hold = asyncio.create_task(client("POST", ONE, PICTURE + b"hold", PNG))
            await asyncio.gather(gone, asyncio.sleep(0.02))
            client.workers[0].go.set()
            assert (await hold)[0] == 200
            assert sum(len(batch) for batch in client.workers[0].batches) <= judged + 2

    asyncio.run(asking())


def test_while_the_model_loads_the_server_lives_and_is_not_ready():
    async def asking():
        async with serving("slow", ready=False) as client:
            assert (await client("GET", "/v1/health"))[:2] == (200, {"status": "ok"})
            for method, target in (("GET", "/v1/ready"), ("GET", "/v1/model"), ("POST", ONE)):
                found, content, headers = await client(method, target, PICTURE, PNG)
                assert (found, headers["retry-after"]) == (503, "2")
                assert message(content, 503)

    asyncio.run(asking())


def test_facts_metrics_and_pages():
    async def asking():
        async with serving() as client:
            await client("POST", ONE, PICTURE, PNG)
            await client("POST", "/elsewhere/of/a/stranger", PICTURE, PNG)
            assert (await client("GET", "/v1/ready"))[1] == {"status": "ready", "workers": 1}
            model = answers.ModelOf.model_validate((await client("GET", "/v1/model"))[1])
            assert model.limits == vars(Limits())
            _, text, headers = await client("GET", "/metrics")
            assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            page = (await client("GET", "/docs"))[1]
            return text, page

    text, page = asyncio.run(asking())
    for line in (
        'agfas_requests_total{path="/v1/verdict",status="200"} 1.0',
        'agfas_requests_total{path="other",status="404"} 1.0',
        'agfas_request_seconds_count{path="/v1/verdict"} 1.0',
        "agfas_batch_files_sum 1.0",
        "agfas_waiting_files 0.0",
        "agfas_workers_ready 1.0",
        "agfas_worker_restarts_total 0.0",
        'agfas_verdicts_total{verdict="live"} 1.0',
    ):
        assert f"{line}\n" in text, line
    assert "stranger" not in text
    for word in ("POST /v1/verdict", "all_faces=false", "422", "VerdictOf"):
        assert word in page
    assert "http" not in page.replace("https://", "").split("<body>")[0]


def test_the_description_names_every_path_status_and_key():
    _, described, _ = ask("GET", "/openapi.json", server={"keys": [KEY]})
    assert set(described["paths"]) == set(PATHS) - {"/openapi.json", "/docs"}
    one, many = described["paths"][ONE]["post"], described["paths"][MANY]["post"]
    assert set(one["responses"]) == {"200", *map(str, set(CODES) - {404, 405})}
    assert set(many["responses"]) == set(one["responses"]) - {"422"}
    assert one["security"] == [{"bearer": []}, {"header": []}]
    assert "security" not in described["paths"]["/v1/health"]["get"]
    assert set(one["requestBody"]["content"]) == {
        "application/octet-stream", "image/*", "video/*", "multipart/form-data",
    }  # fmt: skip
    assert {each["name"] for each in one["parameters"]} == {"all_faces", "aligned", "frames"}
    assert "ValidationError" not in json.dumps(described)


def test_a_model_that_cuts_its_own_input_takes_no_crops():
    async def asking():
        async with serving() as client:
            client.dispatcher.facts = {**client.dispatcher.facts, "takes_aligned": False}
            return await client("POST", f"{ONE}?aligned=true", PICTURE, PNG)

    status, content, _ = asyncio.run(asking())
    assert (status, message(content, 400)[:10]) == (400, "This model")


def test_what_is_no_request_is_closed():
    async def asking():
        said = []

        async def send(message):
            said.append(message)

        async with serving() as client:
            await client.gate({"type": "websocket"}, None, send)
        return said

    assert asyncio.run(asking()) == [{"type": "websocket.close", "code": 1008}]
