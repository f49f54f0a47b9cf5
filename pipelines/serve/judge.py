"""What a worker does with a batch of files: read each from memory, judge, and answer in words without paths."""

from __future__ import annotations

import json
import sys
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.data.formats import HEAD, VIDEO, kind_of
from pipelines.data.held import HeldFile
from pipelines.errors import AgfasError
from pipelines.serve.settings import Limits
from pipelines.verdict.answers import REFUSED, Verdict

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing

UNNAMED = "The file"
# The frames of a video are held together: of more than these, each may have fewer pixels than a picture.
_FRAMES_AT_ONCE = 5
FAULT = "The model could not judge this file, which is not the file's fault; the server's log has the reason."
NOT_PROCESSED = "The face in it could not be cut out. Take it again, with the whole face inside and no edge through it."


class Options(NamedTuple):
    """What a client chooses.

    Attributes:
        all_faces: judge every face of a picture, not only the largest.
        aligned: the pictures are aligned crops.
        frames: of a video.
    """

    all_faces: bool = False
    aligned: bool = False
    frames: int = 10


@dataclass(frozen=True)
class Upload:
    """One file of a request.

    Attributes:
        name: the client's; empty if it gave none.
        content: its bytes.
        options: how it is judged.
    """

    name: str
    content: bytes = field(repr=False)
    options: Options

    @property
    def is_video(self) -> bool:
        """By its content."""
        kind = kind_of(self.content[:HEAD])
        return kind is not None and kind.medium == VIDEO


class Judge:
    """Judges uploads with one model.

    Args:
        detector: the model.
        limits: of pixels, faces and seconds.
    """

    def __init__(self, detector: FaceAntiSpoofing, limits: Limits) -> None:
        self.detector, self.limits = detector, limits

    def __call__(self, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        """The answers in order: `{"verdict": ...}`, or `{"fault": ...}` where the model failed."""
        answers: dict[int, dict[str, Any]] = {}
        groups: dict[Options, list[int]] = defaultdict(list)
        for place, upload in enumerate(uploads):
            if upload.is_video:
                answers[place] = self._answer_video(upload)
            else:
                groups[upload.options].append(place)
        for places in groups.values():
            found = self._answer_pictures([uploads[place] for place in places])
            answers.update(zip(places, found, strict=True))
        return [answers[place] for place in range(len(uploads))]

    def _answer_pictures(self, uploads: list[Upload]) -> list[dict[str, Any]]:
        """Pictures of the same options."""
        options = uploads[0].options
        try:
            verdicts = self.detector(
                [self._held(upload) for upload in uploads],
                all_faces=options.all_faces,
                most_faces=self.limits.faces,
                aligned=options.aligned,
            )
        except Exception as error:
            if len(uploads) > 1:  # whose fault it is shows when each is judged alone
                return [self._answer_pictures([upload])[0] for upload in uploads]
            return [_fault(error)]
        return [_answer(upload, verdict) for upload, verdict in zip(uploads, verdicts, strict=True)]

    def _answer_video(self, upload: Upload) -> dict[str, Any]:
        options = upload.options
        frames = min(options.frames, self.limits.frames)
        try:
            verdict = self.detector.judge_video(
                self._held(upload, min(self.limits.pixels, _FRAMES_AT_ONCE * self.limits.pixels // frames)),
                frames,
                all_faces=options.all_faces,
                most_faces=self.limits.faces,
                aligned=options.aligned,
            )
        except Exception as error:
            return _fault(error)
        return _answer(upload, verdict)

    def _held(self, upload: Upload, pixels: int | None = None) -> HeldFile:
        most = self.limits.pixels if pixels is None else pixels
        return HeldFile(upload.name or UNNAMED, upload.content, most, self.limits.video_seconds)

    def facts(self) -> dict[str, Any]:
        """What the model card says, as plain values."""
        from pipelines.verdict.card import warnings

        settings, about = self.detector.settings, self.detector.about()
        threshold = settings.threshold
        return {
            "label": settings.label,
            "fold": settings.fold,
            "detector": settings.detector,
            "sees": settings.sees,
            "face_detector": settings.face_detector.name if settings.face_detector else None,
            "takes_aligned": settings.sees not in ("box", "points"),
            "threshold": {**threshold.model_dump(), "words": threshold.words},
            "trained_on": {"dataset": about.dataset, "drawn": about.drawn, "domains": about.train_domains,
                           "attack_types": about.attack_types},
            "measured": about.measured.model_dump(mode="json") if about.measured else None,
            "parts": [part.model_dump() for part in about.parts],
            "warnings": warnings(settings, about),
        }  # fmt: skip


def _answer(upload: Upload, verdict: Verdict) -> dict[str, Any]:
    named = replace(verdict, source=upload.name or ("video" if upload.is_video else "picture"))
    if named.verdict == REFUSED and named.reason.startswith("it could not be processed"):
        _log(named.reason)
        named = replace(named, reason=NOT_PROCESSED)
    if named.verdict == REFUSED:
        named = replace(named, reason=_for_clients(named.reason))
    return {"verdict": named.to_dict()}


def _for_clients(reason: str) -> str:
    """Without the sentences that advise options of the command line, which a client does not have."""
    return ". ".join(part for part in reason.split(". ") if " --" not in part).removesuffix(".") + "."


def _fault(error: Exception) -> dict[str, Any]:
    _log(f"{type(error).__name__}: {error}")
    if not isinstance(error, AgfasError):
        traceback.print_exception(error)
    return {"fault": FAULT}


def _log(words: str) -> None:
    print(f"agfas serve: a file was not judged: {words}", file=sys.stderr, flush=True)


def as_json(value: Any) -> bytes:
    """JSON of plain values; no number in it is NaN."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
