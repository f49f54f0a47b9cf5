"""The paths of the API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from pipelines import __version__
from pipelines.asgi import Refused
from pipelines.errors import nearest
from pipelines.serve import answers, gate
from pipelines.serve.dispatcher import Answer, Dispatcher
from pipelines.serve.forms import files_of
from pipelines.serve.judge import Options, Upload, as_json
from pipelines.serve.settings import in_words
from pipelines.templates import load_template
from pipelines.verdict.answers import REFUSED

TEMPLATE = Path(__file__).with_name("docs.html")
_ABOUT = "Whether the faces in pictures and videos are live. Nothing that is sent is stored."
_JUDGED = (400, 401, 403, 408, 413, 415, 421, 429, 500, 503, 504)
_WORDS = {
    400: "No file, a broken form, several files where one is taken, an unknown parameter, or too long headers.",
    401: "No key, or a wrong one.", 403: "A web page of another address asks.",
    408: "The body did not arrive in time.", 413: "The body, or a file in it, is too large.",
    415: "A Content-Type that is no picture, video or form.", 421: "The Host header names another server.",
    422: "The file cannot be judged: it is no picture or video, damaged, too large or too long; the message says why.",
    429: "Too much at once; see Retry-After.", 500: "The server, or the decoder of this file, failed.",
    503: "The model is not loaded yet; see Retry-After.", 504: "Judging took too long.",
}  # fmt: skip
_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_RAW = {kind: {"schema": _BINARY} for kind in ("application/octet-stream", "image/*", "video/*")}


def _form(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"multipart/form-data": {"schema": {"type": "object", "required": [name], "properties": {name: schema}}}}


_ONE_BODY = {"requestBody": {"required": True, "content": {**_RAW, **_form("file", _BINARY)}}}
_MANY_BODY = {
    "requestBody": {"required": True, "content": _form("files", {"type": "array", "minItems": 1, "items": _BINARY})}
}


def _answers(shape: type[answers.Shape] | None, words: str, *problems: int) -> dict[int | str, dict[str, Any]]:
    """A path's answer and errors, for its description; without a shape, plain text."""
    plain = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    well: dict[str, Any] = {"description": words, **({"model": shape} if shape else plain)}
    wrong: dict[int | str, dict[str, Any]] = {
        status: {"model": answers.Problem, "description": _WORDS[status]} for status in sorted(problems)
    }
    return {200: well, **wrong}


def build_app(dispatcher: Dispatcher, keyed: bool = False) -> FastAPI:
    """The API; its `Gate` stands before it.

    Args:
        dispatcher: judges.
        keyed: whether a key is needed, for the description.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        dispatcher.start()
        try:
            yield
        finally:
            await dispatcher.close()

    app = FastAPI(
        title="AG-FAS", version=__version__, description=_ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    _add_errors(app)
    _add_verdicts(app, dispatcher)
    _add_facts(app, dispatcher)
    app.openapi = lambda: _described(app, keyed)  # type: ignore[method-assign]
    return app


def _add_verdicts(app: FastAPI, dispatcher: Dispatcher) -> None:
    limits, verdicts = dispatcher.limits, dispatcher.metrics.verdicts

    def options(
        request: Request,
        all_faces: Annotated[bool, Query(description="Judge every face; the largest still decides.")] = False,
        aligned: Annotated[bool, Query(description="The pictures are aligned, square face crops.")] = False,
        frames: Annotated[
            int, Query(ge=1, le=limits.frames, description="Of a video, uniform in time; their scores are averaged.")
        ] = min(10, limits.frames),
    ) -> Options:
        for name in request.query_params:
            if name not in Options._fields:
                raise Refused(400, f"There is no parameter {name[:40]!r}: {nearest(name[:40], Options._fields)}")
        if aligned and dispatcher.facts is not None and not dispatcher.facts["takes_aligned"]:
            raise Refused(400, "This model cuts its own input out of whole pictures. Leave `aligned` out.")
        return Options(all_faces, aligned, frames)

    Chosen = Annotated[Options, Depends(options)]

    async def judged(request: Request, chosen: Options, most: int) -> tuple[list[Upload], list[Answer]]:
        kind, body = request.headers.get("content-type", ""), await request.body()
        files = await asyncio.to_thread(files_of, kind, body, most, limits.bytes_of("file_mb"))
        uploads = [Upload(name, content, chosen) for name, content in files]
        found = await dispatcher.judge(uploads)
        for each in found:
            verdicts.labels(each["verdict"]["verdict"] if "verdict" in each else "fault").inc()
        return uploads, found

    @app.post(
        gate.ONE, openapi_extra=_ONE_BODY,
        responses=_answers(answers.VerdictOf, "The verdict.", *_JUDGED, 422), response_model=None,
        summary="Judge one picture or video",
    )  # fmt: skip
    async def verdict(request: Request, chosen: Chosen) -> Response:
        _, (found,) = await judged(request, chosen, 1)
        if "verdict" not in found:
            raise Refused(found.get("status", 500), found["fault"])
        if found["verdict"]["verdict"] == REFUSED:
            raise Refused(422, found["verdict"]["reason"])
        return _json({**found["verdict"], "label": _facts(dispatcher)["label"]})

    @app.post(
        gate.MANY, openapi_extra=_MANY_BODY, responses=_answers(answers.Verdicts, "An answer for each.", *_JUDGED),
        response_model=None, summary="Judge several files of a form",
    )  # fmt: skip
    async def several(request: Request, chosen: Chosen) -> Response:
        uploads, found = await judged(request, chosen, limits.files)
        label = _facts(dispatcher)["label"]
        results = [_result(upload, each, label) for upload, each in zip(uploads, found, strict=True)]
        return _json({"label": label, "results": results})


def _result(upload: Upload, found: Answer, label: str) -> dict[str, Any]:
    if "verdict" in found:
        return {**found["verdict"], "label": label}
    fault = {"code": gate.CODES[found.get("status", 500)], "message": found["fault"]}
    return {"source": upload.name or "picture", "error": fault}


def _add_facts(app: FastAPI, dispatcher: Dispatcher) -> None:
    @app.get(
        gate.HEALTH,
        responses=_answers(answers.Health, "It does.", 400, 403, 421),
        summary="Whether the server runs",
    )
    async def health() -> answers.Health:
        return answers.Health(status="ok")

    @app.get(
        gate.READY,
        responses=_answers(answers.Ready, "They can.", 400, 403, 421, 503),
        summary="Whether files can be judged",
    )
    async def ready() -> answers.Ready:
        if not dispatcher.ready:
            raise Refused(503, "No worker has loaded the model yet.")
        return answers.Ready(status="ready", workers=dispatcher.ready)

    @app.get(
        gate.MODEL, responses=_answers(answers.ModelOf, "Its facts.", 401, 400, 403, 421, 503), response_model=None,
        summary="What the model is, and what is taken",
    )  # fmt: skip
    async def model() -> Response:
        return _json({**_facts(dispatcher), "limits": in_words(dispatcher.limits), "version": __version__})

    @app.get(
        gate.METRICS, responses=_answers(None, "In Prometheus' format.", 401, 400, 403, 421), response_class=Response,
        summary="Counts, for Prometheus",
    )  # fmt: skip
    async def metrics() -> Response:
        return Response(dispatcher.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get(gate.DOCS, include_in_schema=False)
    async def docs() -> Response:
        page = load_template(TEMPLATE).render(api=app.openapi())
        return Response(page, media_type="text/html")


def _facts(dispatcher: Dispatcher) -> dict[str, Any]:
    if dispatcher.facts is None:
        raise Refused(503, "The model is still being loaded. Try again in some seconds.")
    return dispatcher.facts


def _json(value: Any) -> Response:
    return Response(as_json(value), media_type=gate.JSON)


def _error(status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    more = {"retry-after": "2"} if status in (429, 503) else {}
    return Response(gate.problem(status, words), status, {**more, **(headers or {})}, gate.JSON)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _error(error.status, error.words)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _error(400, f"{first['loc'][-1]}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        words = {404: f"There is nothing here. See {gate.DOCS}.", 405: f"That is asked otherwise. See {gate.DOCS}."}
        return _error(error.status_code, words.get(error.status_code, str(error.detail)), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _error(500, gate.FAULT)


def _described(app: FastAPI, keyed: bool) -> dict[str, Any]:
    """The OpenAPI description, with the keys, and without the framework's own errors, which are never sent."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema["paths"][gate.MANY]["post"]["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path in (gate.ONE, gate.MANY, gate.MODEL, gate.METRICS) if keyed else ():
            for operation in schema["paths"][path].values():
                operation["security"] = [{"bearer": []}, {"header": []}]
        app.openapi_schema = schema
    return app.openapi_schema
