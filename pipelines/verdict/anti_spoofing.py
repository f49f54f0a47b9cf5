"""`FaceAntiSpoofing`: from pictures and videos to verdicts; what `agfas detect` and the demo use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines.errors import AgfasError
from pipelines.verdict.answers import ATTACK, LIVE, NO_FACE, REFUSED, FaceVerdict, FrameVerdict, Verdict
from pipelines.verdict.cropper import Crop, Cropper
from pipelines.verdict.loaded import GivenDetector, GivenParser, Loaded, load_parts
from pipelines.verdict.pictures_in import Given, Picture, as_given
from pipelines.verdict.scorer import Scorer
from pipelines.verdict.settings import About, ModelSettings

BATCH_SIZE = 16
FRAMES = 10


class FaceAntiSpoofing:
    """Says of pictures and videos whether the face in them is live.

    Made by `from_run` or `from_pretrained`.

    Args:
        settings: everything that decides a score beside the weights.
        scorer: detector, generator and cue.
        describe: gives what the model card tells; asked when the folder is saved.
        loaded: who finds the faces, and who makes masks.
        batch_size: faces judged at once. Another one may move a score in its last digits.
    """

    def __init__(
        self,
        settings: ModelSettings,
        scorer: Scorer,
        describe: Callable[[], About],
        loaded: Loaded | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        if batch_size < 1:
            raise AgfasError(f"batch_size must be at least 1, not {batch_size}.")
        self.settings, self.scorer, self.batch_size = settings, scorer, batch_size
        self.loaded, self._describe = loaded or Loaded(), describe
        if settings.needs_mask and self.loaded.parser is None:
            raise AgfasError(
                f"The cue of {settings.label} is kept on the face alone, so a face parser is needed: give its weights,"
                " facexlib's parsing_bisenet.pth, with --parsing-weights."
            )

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        label: str | None = None,
        fold: str | None = None,
        *,
        face_detector: GivenDetector = None,
        weights: str | Path | None = None,
        face_parser: GivenParser = None,
        batch_size: int = BATCH_SIZE,
    ) -> FaceAntiSpoofing:
        """Open a detector of a finished experiment.

        Args:
            run: the output folder of a quickstart, a sweep or a single experiment.
            label: which experiment; the first finished one with a generator's cue where not given.
            fold: which fold's detector; the first where not given.
            face_detector: a name of `pipelines.data.detection.DETECTORS`, or a detector.
            weights: of a detector that is given by name.
            face_parser: its weights, or a parser, for a cue with `mask: face`.
            batch_size: faces judged at once.

        Raises:
            AgfasError: no run, nothing finished, an unknown name, or a part that is missing.
        """
        from pipelines.verdict.from_run import open_run

        return open_run(Path(run), label, fold, load_parts(face_detector, weights, face_parser), batch_size)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        face_detector: GivenDetector = None,
        weights: str | Path | None = None,
        face_parser: GivenParser = None,
        batch_size: int = BATCH_SIZE,
    ) -> FaceAntiSpoofing:
        """Open a folder that `save_pretrained` wrote. Every file's hash is checked; nothing is unpickled.

        Args:
            folder: where it lies.
            face_detector: another detector than the folder's, by name or as an object.
            weights: of a detector that is given by name, or of the folder's where it could not be copied in.
            face_parser: another parser than the folder's, by its weights or as an object.
            batch_size: faces judged at once.

        Raises:
            AgfasError: another kind of folder, a missing part, or a changed file.
        """
        from pipelines.verdict.loading import open_folder

        return open_folder(Path(folder), face_detector, weights, face_parser, batch_size)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write one folder with detector, generator, face detector, settings and a model card.

        Raises:
            AgfasError: the folder holds something else, or cannot be written.
        """
        from pipelines.verdict.saving import save_folder

        save_folder(Path(folder), self)

    def about(self) -> About:
        """What the model card tells: what it was trained on, its error rates, and the licence of every part."""
        return self._describe()

    def __call__(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        all_faces: bool = False,
        aligned: bool = False,
        panels: bool = False,
    ) -> list[Verdict]:
        """Judge pictures.

        Args:
            pictures: one or many: paths, PIL images, or arrays (H, W, 3) uint8 RGB.
            all_faces: judge every face; the largest still decides the picture's verdict.
            aligned: take every picture for an aligned crop, even where there is a face detector.
            panels: fill `FaceVerdict.panels` and `Verdict.photo`, for overlays.

        Returns:
            One verdict per picture, in order. A picture that cannot be read or judged is `refused`, with the reason.

        Raises:
            AgfasError: something that is no picture at all.
        """
        cropper = self._cropper(aligned)
        given = as_given(pictures)
        verdicts: list[Verdict] = []
        for start in range(0, len(given), self.batch_size):
            looks = [_look(item, cropper, all_faces) for item in given[start : start + self.batch_size]]
            for look, faces in zip(looks, self._judge([look.crops for look in looks], panels), strict=True):
                verdicts.append(self._picture_verdict(look, faces, cropper, panels))
        return verdicts

    def judge_video(
        self,
        path: str | Path,
        frames: int = FRAMES,
        *,
        all_faces: bool = False,
        aligned: bool = False,
        panels: bool = False,
    ) -> Verdict:
        """Judge a video: the mean score of frames that are uniform in time; arguments as for pictures.

        Frames without a face take no part. A video that cannot be read is `refused`.

        Raises:
            AgfasError: `frames` is below 1.
        """
        from pipelines.data.video import frame_indices, open_video

        if frames < 1:
            raise AgfasError(f"frames must be at least 1, not {frames}.")
        cropper = self._cropper(aligned)
        try:
            video = open_video(Path(path))
            pictures = video.read(frame_indices(video.count, frames))
            order = sorted(pictures)
            crops = [cropper(pictures[index], all_faces)[0] for index in order]
        except AgfasError as error:
            return self.refusal(str(path), str(error))
        judged = [
            FrameVerdict(
                index,
                index / video.fps if video.fps else None,
                faces[0].score if faces else None,
                tuple(faces),
                pictures[index] if panels else None,
            )
            for index, faces in zip(order, self._judge(crops, panels), strict=True)
        ]
        return self._video_verdict(str(path), judged, cropper)

    def refusal(self, source: str, reason: str) -> Verdict:
        """The verdict on what could not be judged."""
        threshold = self.settings.threshold
        return Verdict(source, REFUSED, reason, None, threshold.value, threshold.origin)

    def _cropper(self, aligned: bool) -> Cropper:
        parser = self.loaded.parser if self.settings.needs_mask else None
        return Cropper(self.settings.face, None if aligned else self.loaded.detector, parser)

    def _judge(self, crops: Sequence[Sequence[Crop]], panels: bool) -> list[list[FaceVerdict]]:
        """The faces of several pictures, judged together."""
        flat = [crop for group in crops for crop in group]
        verdicts: list[FaceVerdict] = []
        for start in range(0, len(flat), self.batch_size):
            part = flat[start : start + self.batch_size]
            scored = self.scorer(np.stack([crop.pixels for crop in part]), _masks(part), panels)
            for crop, score, seen in zip(part, scored.scores, scored.panels, strict=True):
                verdicts.append(self._face_verdict(crop, float(score), seen))
        remaining = iter(verdicts)
        return [[next(remaining) for _ in group] for group in crops]

    def _face_verdict(self, crop: Crop, score: float, panels: dict[str, np.ndarray]) -> FaceVerdict:
        if not math.isfinite(score):
            raise AgfasError("The detector's score is no finite number: its weights are broken. Train it again.")
        verdict, face = self._word(score), crop.face
        if face is None:
            return FaceVerdict(verdict, score, panels=panels)
        left, top, width, height = (float(value) for value in face.box)
        landmarks = tuple((float(x), float(y)) for x, y in face.landmarks)
        return FaceVerdict(verdict, score, (left, top, width, height), landmarks, float(face.score), panels)

    def _picture_verdict(self, look: _Look, faces: list[FaceVerdict], cropper: Cropper, panels: bool) -> Verdict:
        if look.refused:
            return self.refusal(look.source, look.refused)
        verdict = self._answer(look.source, faces[0].score if faces else None, cropper)
        return replace(
            verdict, faces=tuple(faces), photo=look.photo if panels else None,
            notes=(*(self._notes(cropper) if faces else ()), *_count_note(look.found, len(faces))),
        )  # fmt: skip

    def _video_verdict(self, source: str, frames: list[FrameVerdict], cropper: Cropper) -> Verdict:
        scores = [frame.score for frame in frames if frame.score is not None]
        verdict = self._answer(source, math.fsum(scores) / len(scores) if scores else None, cropper)
        missing = len(frames) - len(scores)
        reason = f"{verdict.reason}, the mean of {len(scores)} frames" if scores else verdict.reason
        notes = self._notes(cropper) if scores else ()
        if scores and missing:
            notes += (f"{missing} of {len(frames)} frames show no face and take no part",)
        return replace(verdict, reason=reason, frames=tuple(frames), notes=notes)

    def _answer(self, source: str, score: float | None, cropper: Cropper) -> Verdict:
        threshold = self.settings.threshold
        if score is None:
            name = "no face detector" if cropper.detector is None else cropper.detector.name
            return Verdict(source, NO_FACE, f"{name} found no face", None, threshold.value, threshold.origin)
        sign = ">=" if score >= threshold.value else "<"
        reason = f"score {score:.4f} {sign} threshold {threshold.value:.4f}"
        return Verdict(source, self._word(score), reason, score, threshold.value, threshold.origin)

    def _word(self, score: float) -> str:
        return LIVE if score >= self.settings.threshold.value else ATTACK

    def _notes(self, cropper: Cropper) -> tuple[str, ...]:
        """What the reader should know of a score."""
        face, notes = self.settings.face, []
        if self.settings.is_control:
            notes.append("this detector is a control of an experiment, not one to rely on")
        if cropper.detector is not None and not face.template_known:
            notes.append(
                f"how the training's crops were aligned is not recorded; the template '{face.template}' was taken, and"
                " the score is off where it was another"
            )
        if cropper.detector is not None and face.detector not in (None, cropper.detector.name):
            notes.append(f"the training's faces were found by {face.detector}, these by {cropper.detector.name}")
        return tuple(notes)


@dataclass(frozen=True)
class _Look:
    """A picture and the crops in it, or why there are none."""

    source: str
    photo: np.ndarray | None
    crops: list[Crop]
    found: int
    refused: str = ""


def _look(item: Given, cropper: Cropper, all_faces: bool) -> _Look:
    try:
        photo = item.pixels()
        crops, found = cropper(photo, all_faces)
    except AgfasError as error:
        return _Look(item.source, None, [], 0, str(error))
    except Exception as error:  # decoders and OpenCV raise anything on a stranger's bytes
        reason = f"it could not be processed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        return _Look(item.source, None, [], 0, reason)
    return _Look(item.source, photo, crops, found)


def _count_note(found: int, judged: int) -> tuple[str, ...]:
    return (f"{found} faces were found; the largest was judged",) if found > judged else ()


def _masks(crops: Sequence[Crop]) -> np.ndarray | None:
    masks = [crop.mask for crop in crops if crop.mask is not None]
    return np.stack(masks) if masks else None
