"""From an uploaded file to the answer that the page shows."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.verdict.answers import NO_FACE, REFUSED, RULE, FaceVerdict, Verdict

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing

TEMPLATE = Path(__file__).with_name("answer.html")
WITH_PICTURES = 12
"""So many faces of a picture, the largest first, are shown with their panels; the others are listed without."""

_PHOTO_SIDE = 1280
_WARM_SIDE = 256


@dataclass(frozen=True)
class Answer:
    """What the page says of one picture.

    Attributes:
        verdict: with panels; its words name no place on the server.
        seconds: that the model took, reading the file, detection, restoration and panels included.
    """

    verdict: Verdict
    seconds: float


class Judge:
    """Answers for files, one at a time.

    Args:
        detector: judges.
        aligned: take every picture for an aligned crop, even where there is a face detector.
    """

    def __init__(self, detector: FaceAntiSpoofing, aligned: bool = False) -> None:
        self.detector, self.aligned = detector, aligned

    @property
    def finds_faces(self) -> bool:
        """Whether whole photographs are answered, and not crops alone."""
        return self.detector.loaded.detector is not None and not self.aligned

    def warm_up(self) -> list[str]:
        """Answer for a grey picture, so that the first visitor does not wait for what is loaded and prepared once.

        Returns:
            Names of the panels that this detector has.
        """
        grey = np.full((_WARM_SIDE, _WARM_SIDE, 3), 128, np.uint8)
        verdict = self.detector(grey, aligned=True, panels=True)[0]
        answer_html(Answer(verdict, 0.0))
        if self.finds_faces:
            self.detector(grey)
        return list(verdict.panels)

    def __call__(self, path: Path) -> Answer:
        """Judge a file, whatever it holds. A fault of the program is a refusal that says so, and is printed in full."""
        begin = time.perf_counter()
        try:
            verdict = self.detector(path, all_faces=True, aligned=self.aligned, panels=True)[0]
        except Exception as error:  # one picture must not take the page from all others
            _print_fault()
            verdict = self.detector.refusal(
                str(path),
                f"the program failed on it ({type(error).__name__}); what happened stands in the terminal of the page",
            )
        return Answer(_without_place(verdict, path), time.perf_counter() - begin)


def answer_html(answer: Answer) -> str:
    """The answer as a piece of HTML that needs nothing from elsewhere: its pictures are embedded.

    Args:
        answer: its faces beyond the first `WITH_PICTURES` are listed in words alone.
    """
    verdict = answer.verdict
    return _template().render(
        verdict=verdict,
        refused=verdict.verdict == REFUSED,
        no_face=verdict.verdict == NO_FACE,
        rule=RULE,
        photo=_photo(verdict),
        faces=[_face(face, place) for place, face in enumerate(verdict.faces)],
        with_pictures=WITH_PICTURES,
        seconds=answer.seconds,
    )


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _without_place(verdict: Verdict, path: Path) -> Verdict:
    """Where the server laid the file is nobody's business: its own name is enough."""
    return replace(verdict, source=path.name, reason=verdict.reason.replace(str(path), path.name))


def _photo(verdict: Verdict) -> dict[str, Any] | None:
    """The photo with the boxes to draw over it; None where there is none, or where it is a crop and so a panel."""
    if verdict.photo is None or any(face.box is None for face in verdict.faces):
        return None
    height, width = verdict.photo.shape[:2]
    shown = Image.fromarray(verdict.photo)
    shown.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE), Image.Resampling.LANCZOS)
    return {"width": width, "height": height, "letter": max(width, height) / 22, "data": _embedded(shown, "JPEG")}


def _face(face: FaceVerdict, place: int) -> dict[str, Any]:
    panels = face.panels if place < WITH_PICTURES else {}
    pictures = {name: _embedded(Image.fromarray(picture), "PNG") for name, picture in panels.items()}
    return {"verdict": face, "place": place + 1, "pictures": pictures}


def _embedded(picture: Image.Image, form: str) -> str:
    stream = io.BytesIO()
    picture.save(stream, form, **({"quality": 90} if form == "JPEG" else {"compress_level": 1}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _print_fault() -> None:
    import traceback

    traceback.print_exc()
