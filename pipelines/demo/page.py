"""The page itself, in Gradio's parts."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio

from pipelines.demo import words
from pipelines.demo.judge import Judge, answer_html
from pipelines.demo.uploads import Uploads

STYLE = Path(__file__).with_name("style.css")
# The visitor's own fonts: none is fetched.
THEME = gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])

_WAITING = 32
_GONE = (
    "This picture is gone already, as happens when one is sent twice at once, or when a server between lost it. Send it"
    " again."
)


def build_page(judge: Judge, uploads: Uploads) -> gradio.Blocks:
    """The page, not served yet.

    Args:
        judge: answers; it is warmed up here.
        uploads: where Gradio lays the visitors' files.

    Raises:
        AgfasError: what the detector's run tells of itself is gone.
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
                gradio.HTML(_paragraphs("note", [words.PRIVACY]))
            with gradio.Column(scale=3, min_width=300):
                answer = gradio.HTML(_paragraphs("empty", [words.EMPTY]), elem_id="answer", min_height=120)
        told = words.limits(detector.settings, detector.about()), words.pictures(detector.settings, names)
        gradio.HTML(_foot(*told), elem_id="foot")
        # `input` is the visitor's doing: an upload or a shot, and clearing, but not what the page sets itself.
        picture.input(
            lambda payload: _answer(judge, uploads, payload),
            picture,
            [picture, answer],
            preprocess=False,  # Gradio would open the file with Pillow before we may refuse it in words
            concurrency_limit=1,
            show_progress_on=answer,
            api_visibility="private",
        )
    page.queue(max_size=_WAITING)
    return page


def _answer(judge: Judge, uploads: Uploads, payload: Any) -> tuple[None, str]:
    """Empties the picture's place for the next one, and gives the answer."""
    if payload is None:
        return None, _paragraphs("empty", [words.EMPTY])
    path = uploads.find(payload)
    if path is None:
        return None, _paragraphs("empty", [_GONE])
    try:
        return None, answer_html(judge(path))
    finally:
        uploads.remove_soon(path)


def _head(judge: Judge) -> str:
    title = f"<h1>{html.escape(words.TITLE)}</h1>"
    return title + _paragraphs("lead", [words.what_it_takes(judge.finds_faces), words.NOT_SECURITY])


def _foot(limits: list[str], pictures: dict[str, str]) -> str:
    listed = "".join(f"<li>{html.escape(limit)}</li>" for limit in limits)
    read = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in pictures.items())
    return f"<h2>What a verdict is worth</h2><ul>{listed}</ul><h2>The pictures</h2><dl>{read}</dl>"


def _paragraphs(style: str, texts: list[str]) -> str:
    return "".join(f'<p class="{style}">{html.escape(text)}</p>' for text in texts)
