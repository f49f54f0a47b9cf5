"""What the page shows: the answer to an uploaded file, and the text around it."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipelines.data.crop import central_square
from pipelines.data.images import NotRead, read_noted
from pipelines.demo.gate import Bounds
from pipelines.errors import AgfasError
from pipelines.markdown import join_names
from pipelines.templates import data_uri, load_template
from pipelines.verdict.answers import NO_FACE, REFUSED, RULE, FaceVerdict, Verdict
from pipelines.verdict.card import warnings
from pipelines.verdict.settings import About, Measured, ModelSettings

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing

TEMPLATE = Path(__file__).with_name("answer.html")
_PHOTO_SIDE = 1280
_WARM_SIDE = 256

TITLE = "Live, or a print, a screen, a mask?"
FAULT = "this service has a fault, which is not your picture's; the one who runs it finds the reason in its log"
NOT_CUT = "the face in it could not be cut out; take it again, with the whole face inside and no edge through it"
EMPTY = "The verdict will appear here."
NOT_SECURITY = "A research demonstration, not a security product: do not let it decide who gets in."
PRIVACY = (
    "Your picture is judged on the computer that serves this page. Its file is deleted there seconds after the answer;"
    " nothing is sent elsewhere, counted or shared."
)


@dataclass(frozen=True)
class Answer:
    """What the page says of one picture.

    Attributes:
        verdict: with panels; its texts contain no path of the server.
        seconds: time for reading, detection, restoration, scoring and panels.
    """

    verdict: Verdict
    seconds: float


class Judge:
    """Answers for files, one at a time.

    Args:
        detector: judges.
        aligned: use every picture as an aligned crop, without the face detector.
        bounds: of a picture's pixels and faces.
    """

    def __init__(self, detector: FaceAntiSpoofing, aligned: bool = False, bounds: Bounds | None = None) -> None:
        self.detector, self.aligned, self.bounds = detector, aligned, bounds or Bounds()

    @property
    def finds_faces(self) -> bool:
        """Whether whole photographs can be judged, not only crops."""
        settings, loaded = self.detector.settings, self.detector.loaded
        return settings.sees == "picture" or (loaded.detector is not None and not self.aligned)

    def warm_up(self) -> list[str]:
        """Judge a grey picture, so that the first visitor does not wait for lazy loading.

        Returns:
            Names of the panels that this detector has.
        """
        grey = np.full((_WARM_SIDE, _WARM_SIDE, 3), 128, np.uint8)
        face = self.detector.rehearse()
        verdict = self.detector(grey, aligned=self.aligned or not self.finds_faces)[0]
        answer_html(Answer(replace(verdict, faces=(face,)), 0.0))
        return list(face.panels)

    def __call__(self, path: Path) -> Answer:
        """Judge a file, whatever it holds. A refusal speaks to the visitor; a fault is for the log."""
        begin = time.perf_counter()
        try:
            verdict = self._judge(path)
        except NotRead as error:
            verdict = self.detector.refusal("", f"it is {error.kind}, which is not read here; export it as JPEG")
        except AgfasError as error:
            verdict = self.detector.refusal("", str(error).replace(str(path), path.name))
        except Exception as error:  # one picture must not take down the page for everybody
            log_fault(error)
            verdict = self.detector.refusal("", FAULT)
        return Answer(replace(verdict, source=path.name), time.perf_counter() - begin)

    def _judge(self, path: Path) -> Verdict:
        """The verdict of a picture.

        Raises:
            AgfasError: the visitor's mistake, in words for him.
        """
        read = read_noted(path, max_pixels=self.bounds.pixels)
        photo = np.asarray(read.image)
        self._check_shape(photo)
        try:
            verdict = self.detector(
                photo, all_faces=True, most_faces=self.bounds.faces, aligned=self.aligned, panels=True
            )[0]
        except AgfasError as error:  # what is wrong with the model, or how it was started
            raise RuntimeError(str(error)) from error
        if verdict.verdict == REFUSED:
            log_fault(RuntimeError(verdict.reason))
            raise AgfasError(NOT_CUT)
        return replace(verdict, notes=(read.note, *verdict.notes) if read.note else verdict.notes)

    def _check_shape(self, photo: np.ndarray) -> None:
        if self.finds_faces:
            return
        try:
            central_square(photo)
        except AgfasError:
            height, width = photo.shape[:2]
            raise AgfasError(
                f"it has {width} x {height} pixels, and this page judges square crops of a face. Cut a square out of"
                " it, with the face upright and filling it"
            ) from None


def log_fault(error: BaseException) -> None:
    """Write a fault to the operator's terminal."""
    print(f"agfas demo: a picture was not judged: {type(error).__name__}: {error}", file=sys.stderr)
    traceback.print_exception(error)


def answer_html(answer: Answer) -> str:
    """The answer as self-contained HTML with embedded pictures."""
    verdict = answer.verdict
    return load_template(TEMPLATE).render(
        verdict=verdict,
        refused=verdict.verdict == REFUSED,
        no_face=verdict.verdict == NO_FACE,
        rule=RULE,
        photo=_photo(verdict),
        faces=[_face(face, place) for place, face in enumerate(verdict.faces)],
        seconds=answer.seconds,
    )


def _photo(verdict: Verdict) -> dict[str, Any] | None:
    """The photo that boxes are drawn on; None without a photo, or for a crop, which is shown as a panel."""
    if verdict.photo is None or any(face.box is None for face in verdict.faces):
        return None
    height, width = verdict.photo.shape[:2]
    shown = Image.fromarray(verdict.photo)
    shown.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE), Image.Resampling.LANCZOS)
    data = data_uri(shown, "JPEG", quality=90)
    return {"width": width, "height": height, "letter": max(width, height) / 22, "data": data}


def _face(face: FaceVerdict, place: int) -> dict[str, Any]:
    pictures = {name: data_uri(Image.fromarray(picture), compress_level=1) for name, picture in face.panels.items()}
    return {"verdict": face, "place": place + 1, "pictures": pictures}


def what_it_takes(finds_faces: bool) -> str:
    """Which pictures can be judged, in one sentence."""
    if finds_faces:
        return "Upload a photo with a face in it, or take one with the webcam. Several faces are judged one by one."
    return "Upload a square crop of a face, upright and filling it. This page does not judge whole photographs."


def explain_panels(settings: ModelSettings, names: Sequence[str]) -> dict[str, str]:
    """What each panel shows.

    Args:
        settings: of the detector.
        names: of its panels; the parts of a cue (`cue, part 1`) share one explanation.
    """
    texts = {
        "face": "the face as the detector sees it.",
        "restoration": "that face as redrawn by the generator, which was trained on live faces alone.",
        "cue": "what the restoration changed: the detector's second input. Grey is no change.",
        "attention": "where the detector looks in the cue, laid on the face: bright is more.",
    }
    if settings.is_control:
        texts["restoration"] = "that face after an autoencoder, which knows nothing of real faces."
        texts["cue"] = "the detector's second input, which is a control's here. Grey is 0."
    shown = {name.split(",")[0] for name in names}
    return {name: text for name, text in texts.items() if name in shown}


def limits(settings: ModelSettings, about: About) -> list[str]:
    """What a verdict is worth, in sentences, the most serious limit first."""
    return [
        *warnings(settings, about),
        _training(about),
        _errors(about.measured),
        "The score ranks faces; it is not the probability of being live.",
    ]


def _training(about: About) -> str:
    if about.published is not None:
        return f"It is {about.published.title}, as published: trained on {about.published.trained_on}."
    faces = sum(count.faces for count in about.counts if count.split == "train")
    return (
        f"It was trained on {faces:,} faces of {about.dataset} ({join_names(about.train_domains)}): live ones and the"
        f" attacks {join_names(about.attack_types)}. Other attacks, and better ones, may pass."
    )


def _errors(measured: Measured | None) -> str:
    if measured is None:
        return "Its error rates were not measured here."
    return (
        f"On the test videos of {join_names(measured.domains)} it called {100 * measured.bpcer:.1f} % of"
        f" {measured.live_videos} live videos attacks and {100 * measured.far:.1f} % of {measured.attack_videos} attack"
        " videos live. These rates change with camera and light."
    )
