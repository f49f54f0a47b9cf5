"""The page itself, built from Gradio's components."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio
from starlette.middleware import Middleware

from pipelines.asgi import hurried
from pipelines.demo import answer as words
from pipelines.demo.answer import Judge, answer_html
from pipelines.demo.gate import Bounds, Gate
from pipelines.demo.uploads import Uploads

STYLE = Path(__file__).with_name("style.css")
# System fonts: Gradio's default theme would fetch some from elsewhere.
THEME = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])

_GONE = "This picture is no longer on the server: it was sent twice, or its upload was lost on the way. Send it again."


def build_page(judge: Judge, uploads: Uploads) -> gradio.Blocks:
    """The page, not served yet.

    Args:
        judge: answers; it is warmed up here.
        uploads: the folder where Gradio stores the visitors' files.

    Raises:
        AgfasError: the detector's training data is missing, so that its limits cannot be stated.
    """
    detector, names = judge.detector, judge.warm_up()
    with gradio.Blocks(title="AG-FAS", analytics_enabled=False) as page:
        gradio.HTML(_head(judge), elem_id="head")
        with gradio.Row(equal_height=False):
            with gradio.Column(scale=2, min_width=300):
                picture = gradio.Image(
                    label="Picture",
                    sources=["upload", "webcam"] if judge.finds_faces else ["upload"],
                    height=320,
                    buttons=[],
                    elem_id="picture",
                    webcam_options=gradio.WebcamOptions(mirror=False),
                )
                gradio.HTML(_paragraphs("note", [words.PRIVACY, judge.bounds.in_words]))
            with gradio.Column(scale=3, min_width=300):
                answer = gradio.HTML(_paragraphs("empty", [words.EMPTY]), elem_id="answer", min_height=120)
        limits = words.limits(detector.settings, detector.about())
        gradio.HTML(_foot(limits, words.explain_panels(detector.settings, names)), elem_id="foot")
        # `input` fires for uploads, webcam shots and clearing by the visitor, not for what the page sets itself.
        picture.input(
            lambda payload: _answer(judge, uploads, payload),
            picture,
            [picture, answer],
            preprocess=False,  # otherwise Gradio opens the file with Pillow, whose errors are not for visitors
            concurrency_limit=1,
            show_progress_on=answer,
            api_visibility="private",
        )
    page.queue(max_size=judge.bounds.waiting)
    return page


def _answer(judge: Judge, uploads: Uploads, payload: Any) -> tuple[None, str]:
    """Clear the picture for the next upload, and answer."""
    if payload is None:
        return None, _paragraphs("empty", [words.EMPTY])
    path = uploads.find(payload)
    if path is None:
        return None, _paragraphs("empty", [_GONE])
    try:
        return None, answer_html(judge(path))
    except Exception as error:
        words.log_fault(error)
        return None, _paragraphs("empty", [f"The picture was not judged: {words.FAULT}."])
    finally:
        uploads.remove_soon(path)


def gate(uploads: Uploads, names: Iterable[str], bounds: Bounds) -> Middleware:
    """The page's `Gate`, as Gradio takes it."""
    return Middleware(Gate, uploads=uploads, names=names, bounds=bounds)


def hurry(server: Any, connections: int) -> None:
    """Close connections that send no whole request, and bound their number; of a server that runs.

    Args:
        server: uvicorn's, which waits for a request's headers without end.
        connections: at the same time.
    """
    config = server.config
    config.http_protocol_class, config.limit_concurrency = hurried(config.http_protocol_class), connections


def _head(judge: Judge) -> str:
    title = f"<h1>{html.escape(words.TITLE)}</h1>"
    return title + _paragraphs("lead", [words.what_it_takes(judge.finds_faces), words.NOT_SECURITY])


def _foot(limits: list[str], pictures: dict[str, str]) -> str:
    listed = "".join(f"<li>{html.escape(limit)}</li>" for limit in limits)
    read = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in pictures.items())
    return f"<h2>What a verdict is worth</h2><ul>{listed}</ul><h2>The pictures</h2><dl>{read}</dl>"


def _paragraphs(style: str, texts: list[str]) -> str:
    return "".join(f'<p class="{style}">{html.escape(text)}</p>' for text in texts)
