"""Gradio's place taken by a recorder: what the page asks of it, where it is not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

import pytest

from pipelines import demo


class Part:
    """A component with what it was given, and the components inside it."""

    _around: ClassVar[list[Part]] = []

    def __init__(self, *given: Any, **options: Any) -> None:
        self.kind, self.given, self.options = type(self).__name__, given, options
        self.parts: list[Part] = []
        self.calls: list[tuple[Any, ...]] = []
        if self._around:
            self._around[-1].parts.append(self)

    def __enter__(self) -> Part:
        self._around.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._around.pop()

    def input(self, *given: Any, **options: Any) -> None:
        self.calls.append(("input", given, options))

    def queue(self, **options: Any) -> None:
        self.calls.append(("queue", options))

    def tree(self) -> tuple[Any, ...]:
        return self.kind, self.given, self.options, [part.tree() for part in self.parts]


class Apart(Part):
    """Stands in no page."""

    _around: ClassVar[list[Part]] = []


class Middleware:
    def __init__(self, kind: type, **options: Any) -> None:
        self.kind, self.options = kind, options


@contextmanager
def recorded_page() -> Iterator[Any]:
    """The module `pipelines.demo.page` over the recorder; it is forgotten afterwards."""
    gradio, starlette, middleware = (ModuleType(name) for name in ("gradio", "starlette", "starlette.middleware"))
    for kind in ("Blocks", "HTML", "Row", "Column", "Image"):
        setattr(gradio, kind, type(kind, (Part,), {}))
    gradio.WebcamOptions = lambda **options: ("webcam", options)  # type: ignore[attr-defined]
    gradio.themes = ModuleType("gradio.themes")  # type: ignore[attr-defined]
    gradio.themes.Base = type("Base", (Apart,), {})
    middleware.Middleware = Middleware  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for module in (gradio, starlette, middleware):
            patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(sys.modules, "pipelines.demo.page", None)
        del sys.modules["pipelines.demo.page"]
        patch.setattr(demo, "page", None, raising=False)
        del demo.page
        from pipelines.demo import page

        yield page
