"""`FaceAntiSpoofing`: from pictures and videos to verdicts; what `agfas detect` and the demo use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from oanet.published import CROP, PICTURE
from pipelines.data.held import File
from pipelines.errors import AgfasError
from pipelines.verdict.answers import FaceVerdict, FrameVerdict, Verdict
from pipelines.verdict.crops import (
    Crop,
    Cropper,
    GivenDetector,
    GivenParser,
    GivenPicture,
    Loaded,
    Picture,
    as_given,
    load_parts,
    look_at,
)
from pipelines.verdict.scorer import Parts, Scorer
from pipelines.verdict.settings import About, ModelSettings
from pipelines.verdict.wording import face_verdict, picture_verdict, refusal, video_verdict

if TYPE_CHECKING:
    from pipelines.verdict.exported import ExportedScorer
    from pipelines.verdict.sightings import Sighting
    from pipelines.verdict.watching import Pace

BATCH_SIZE = 16
FRAMES = 10

Self = TypeVar("Self", bound="FaceAntiSpoofing")


class FaceAntiSpoofing:
    """Judges whether the faces in pictures and videos are live.

    Made by `from_run`, `from_pretrained` or `from_published`, which give the class they are called on.

    Args:
        settings: everything that decides a score besides the weights.
        scorer: detector, generator and cue.
        describe: makes the facts for the model card.
        loaded: face detector and face parser.
        batch_size: faces judged at once. Another one may change a score in its last digits.
    """

    def __init__(
        self,
        settings: ModelSettings,
        scorer: Scorer | ExportedScorer,
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
                f"The cue of {settings.label} is masked by a face parser: give its weights, facexlib's"
                " parsing_bisenet.pth, with --parsing-weights."
            )

    @classmethod
    def from_run(
        cls: type[Self],
        run: str | Path,
        label: str | None = None,
        fold: str | None = None,
        *,
        face_detector: GivenDetector = None,
        weights: str | Path | None = None,
        face_parser: GivenParser = None,
        batch_size: int = BATCH_SIZE,
    ) -> Self:
        """Open a detector of a finished experiment.

        Args:
            run: the output folder of a quickstart, a sweep or a single experiment.
            label: the experiment; default: the first finished one with a generator's cue.
            fold: the protocol's fold; default: the first.
            face_detector: a name of `pipelines.data.detection.DETECTORS`, or a detector.
            weights: for a detector given by name.
            face_parser: its weights, or a parser, for a cue with `mask: face`.
            batch_size: faces judged at once.

        Raises:
            AgfasError: no run, nothing finished, an unknown name, or a missing part.
        """
        from pipelines.verdict.from_run import open_run

        loaded = load_parts(face_detector, weights, face_parser)
        return cls(*open_run(Path(run), label, fold, loaded), batch_size)

    @classmethod
    def from_pretrained(
        cls: type[Self],
        folder: str | Path,
        *,
        face_detector: GivenDetector = None,
        weights: str | Path | None = None,
        face_parser: GivenParser = None,
        batch_size: int = BATCH_SIZE,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Open a folder that `save_pretrained` or `agfas export` wrote; every file is checked, nothing unpickled.

        Args:
            folder: the saved model, or its name on the hub, `USER/NAME`, with @REVISION or not; see
                `pipelines.verdict.hub.local_model`, also for `revision`, `token`, `cache_dir` and `local_files_only`.
            face_detector: used instead of the folder's, by name or as an object.
            weights: for a detector given by name, or for the folder's if its weights are not stored there.
            face_parser: used instead of the folder's, its weights or an object.
            batch_size: faces judged at once.

        Raises:
            AgfasError: a folder of another kind, a missing part, a changed file, or no such model on the hub.
        """
        from pipelines.verdict.exported import is_exported, open_exported
        from pipelines.verdict.folder import open_folder
        from pipelines.verdict.hub import local_model

        place = local_model(folder, revision, token, cache_dir, local_files_only)
        if is_exported(place):
            return cls(*open_exported(place, face_detector, weights), batch_size)
        return cls(*open_folder(place, face_detector, weights, face_parser), batch_size)

    @classmethod
    def from_published(
        cls: type[Self],
        name: str,
        weights: str | Path,
        *,
        face_detector: GivenDetector = None,
        face_weights: str | Path | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Self:
        """A published network with its publisher's weights, input and decision, without any training here.

        Args:
            name: of `oanet.published.published_names`.
            weights: the published file, or a folder with it, known by its content.
            face_detector: by name or as an object; a network that sees the whole picture needs none.
            face_weights: for a face detector given by name; default: found in the folder `weights`.
            batch_size: faces judged at once.

        Raises:
            AgfasError: an unknown name, or files that are missing or of another network.
        """
        from pipelines.verdict.published import open_published

        place = Path(weights)
        return cls(*open_published(name, place, face_detector, face_weights), batch_size)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write one folder with detector, generator, face detector, settings and a model card.

        Raises:
            AgfasError: the folder holds something else, or cannot be written.
        """
        from pipelines.verdict.exported import ExportedScorer
        from pipelines.verdict.folder import save_folder

        if isinstance(self.scorer, ExportedScorer):
            raise AgfasError(
                "An exported model holds no weights to save. Copy or push its folder, or save the model it is of."
            )
        save_folder(Path(folder), Parts(self.settings, self.scorer, self._describe, self.loaded))

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = True,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload by agfas",
        create_pr: bool = False,
        licence_checked: Collection[str] = (),
    ) -> str:
        """Save the model and push it to the hub as one commit; returns the commit's address.

        huggingface_hub's `ModelHubMixin` is not used: it builds an object from the arguments of its constructor in a
        `config.json`, where this one opens parts, and it pushes many files in several commits.

        Args:
            name: `USER/NAME`; the repository is made if it is new.
            private, token, commit_message, create_pr: see `pipelines.hub.Push`.
            revision: a branch, made if it is new. Default: main.
            licence_checked: parts that this program withholds, whose licence you have read and which you may share.

        Raises:
            AgfasError: a part that may not be shared, an exported model, or what the hub refuses.
        """
        from tempfile import TemporaryDirectory

        from pipelines.hub import Push
        from pipelines.verdict.shipment import pack, send

        with TemporaryDirectory() as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder)
            how = Push(private, token, commit_message, create_pr)
            return send(pack(folder), name, revision, how, licence_checked)

    def as_prepared(self: Self) -> Self:
        """The same detector for crops whose light and contrast `agfas prepare` has corrected already."""
        same = copy(self)
        face = self.settings.face.model_copy(update={"enhancement": None})
        same.settings = self.settings.model_copy(update={"face": face})
        return same

    def about(self) -> About:
        """Training data, error rates, and the licence of every part."""
        return self._describe()

    def __call__(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        all_faces: bool = False,
        most_faces: int | None = None,
        aligned: bool = False,
        panels: bool = False,
    ) -> list[Verdict]:
        """Judge pictures.

        Args:
            pictures: one or many: paths, files in memory, PIL images, or arrays (H, W, 3) uint8 RGB.
            all_faces: judge every face; the largest still decides the picture's verdict. A network that sees the whole
                picture has one score for all.
            most_faces: with `all_faces`, judge only so many, the largest; the time of a crowd is then bounded.
            aligned: use every picture as an aligned crop, without the face detector.
            panels: fill `FaceVerdict.panels` and `Verdict.photo`, for overlays.

        Returns:
            One verdict per picture, in order. A picture that cannot be read or judged is `refused`, with the reason.

        Raises:
            AgfasError: a value that is neither a path, an image nor an array, or a network that needs a face detector.
        """
        cropper = self.cropper(aligned)
        given = as_given(pictures)
        verdicts: list[Verdict] = []
        for start in range(0, len(given), self.batch_size):
            looks = [look_at(item, cropper, all_faces, most_faces) for item in given[start : start + self.batch_size]]
            for look, faces in zip(looks, self._judge([look.crops for look in looks], panels), strict=True):
                verdicts.append(picture_verdict(self.settings, look, faces, cropper, panels))
        return verdicts

    def judge_video(
        self,
        path: str | File,
        frames: int = FRAMES,
        *,
        all_faces: bool = False,
        most_faces: int | None = None,
        aligned: bool = False,
        panels: bool = False,
    ) -> Verdict:
        """Judge a video by the mean score of frames that are evenly spaced in time; arguments as for pictures.

        Frames without a face that can be judged are ignored. A video that cannot be read is `refused`.

        Raises:
            AgfasError: `frames` is below 1.
        """
        from pipelines.data.video import frame_indices, read_chosen

        if frames < 1:
            raise AgfasError(f"frames must be at least 1, not {frames}.")
        cropper = self.cropper(aligned)
        try:
            video, pictures = read_chosen(
                Path(path) if isinstance(path, str) else path, lambda count: frame_indices(count, frames)
            )
        except AgfasError as error:
            return self.refusal(str(path), str(error))
        order = sorted(pictures)
        looks = [look_at(GivenPicture("", pictures[index]), cropper, all_faces, most_faces) for index in order]
        if looks and all(look.refused for look in looks):
            return self.refusal(str(path), looks[0].refused)
        crops = [look.crops for look in looks]
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
        verdict = video_verdict(self.settings, str(path), judged, cropper)
        return replace(verdict, notes=(*verdict.notes, video.note)) if video.note else verdict

    def watch(
        self, source: str | int, pace: Pace | None = None, *, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Sighting]:
        """Judge a camera or stream while it runs: every face is followed, its scores averaged over a window.

        Args:
            source: a camera's number, `/dev/videoN`, or an address such as `rtsp://host/path`.
            pace: how often, how long, and when a connection is given up.
            stop: asked ten times a second whether to end.

        Raises:
            AgfasError: no camera or stream, no face detector, or a source that cannot be connected.
        """
        from pipelines.verdict.watching import MOST_FACES, Pace, watch

        if self.loaded.detector is None and self.settings.sees != PICTURE:
            raise AgfasError(
                "The faces in a camera's pictures must be found first: name a face detector, for example with"
                " --face-detector yunet --weights yunet.onnx."
            )

        self.rehearse(panels=False)  # so that the first picture is not judged seconds after it came

        def judge(photo: np.ndarray) -> Verdict:
            return self(photo, all_faces=True, most_faces=MOST_FACES)[0]

        return watch(str(source), pace or Pace(), judge, self.settings.threshold, stop)

    def refusal(self, source: str, reason: str) -> Verdict:
        """The verdict for a file that cannot be judged."""
        return refusal(self.settings, source, reason)

    def rehearse(self, panels: bool = True) -> FaceVerdict:
        """Judge a grey picture as if a face filled its middle; it loads what is loaded lazily."""
        side = self.settings.face.size
        crop = np.full((side, side, 3), 128, np.uint8)
        network = self.scorer.detector
        pixels = crop if network is None or self.settings.sees == CROP else network.look_at_nobody()
        mask = np.ones((side, side), np.uint8) if self.settings.needs_mask else None
        return self._judge([[Crop(pixels, mask=mask)]], panels)[0][0]

    def cropper(self, aligned: bool) -> Cropper:
        """What cuts faces out of pictures, or takes pictures as aligned crops."""
        parser = self.loaded.parser if self.settings.needs_mask else None
        return Cropper(self.settings.face, None if aligned else self.loaded.detector, parser, self.scorer.detector)

    def _judge(self, crops: Sequence[Sequence[Crop]], panels: bool) -> list[list[FaceVerdict]]:
        """The faces of several pictures, judged in common batches."""
        flat = [crop for group in crops for crop in group]
        verdicts: list[FaceVerdict] = []
        for start in range(0, len(flat), self.batch_size):
            part = flat[start : start + self.batch_size]
            scored = self.scorer(np.stack([crop.pixels for crop in part]), _masks(part), panels)
            own = [None] * len(part) if scored.raw is None else scored.raw.tolist()
            for crop, score, classes, raw, seen in zip(
                part, scored.scores, scored.attack_classes, own, scored.panels, strict=True
            ):
                verdicts.append(face_verdict(self.settings, crop, float(score), tuple(classes.tolist()), raw, seen))
        remaining = iter(verdicts)
        return [[next(remaining) for _ in group] for group in crops]


def _masks(crops: Sequence[Crop]) -> np.ndarray | None:
    masks = [crop.mask for crop in crops if crop.mask is not None]
    return np.stack(masks) if masks else None
