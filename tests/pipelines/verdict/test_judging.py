"""From scores to answers: batches, words, notes and limits, with a scorer that says what the test wants."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from verdict_facts import ABOUT, SETTINGS
from verdict_run import LeftHalf, PaintedFaces, paint

from pipelines.data import video
from pipelines.errors import AgfasError
from pipelines.experiment.config import CueSettings
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.anti_spoofing import BATCH_SIZE, FRAMES
from pipelines.verdict.crops import Loaded, as_given, face_settings, load_parts
from pipelines.verdict.scorer import Scored, pixel_key

FACE = SETTINGS.face.model_copy(update={"crop_size": 32, "template": "agfas", "template_known": True})
PLAIN = SETTINGS.model_copy(update={"face": FACE, "cue": None, "face_detector": None})


class Says:
    """A scorer whose scores are its crops' mean shares of white; K classes if it is given any."""

    def __init__(self, sees: str = "crop", classes: tuple[float, ...] = ()) -> None:
        self.asked: list[tuple[tuple[int, ...], Any, bool]] = []
        self.classes = classes
        self.detector = SimpleNamespace(
            sees=sees, name="probe", look_at_nobody=lambda: np.full((8, 8, 6), 3, np.uint8), look=self.look
        )

    @staticmethod
    def look(photo: np.ndarray, box: Any = None, points: Any = None) -> np.ndarray:
        if box is not None and box[2] < 25:
            raise ValueError("too near the edge")
        return np.full((8, 8, 6), photo[0, 0, 0], np.uint8)

    def __call__(self, crops: np.ndarray, masks: np.ndarray | None = None, panels: bool = False) -> Scored:
        self.asked.append((crops.shape, masks, panels))
        scores = crops.astype(float).mean(axis=(1, 2, 3)) / 255
        seen = [{"face": crop[..., :3]} if panels else {} for crop in crops]
        return Scored(scores, seen, np.tile(np.array(self.classes), (len(crops), 1)))


def model(settings: Any = PLAIN, scorer: Says | None = None, loaded: Loaded | None = None, **options: Any) -> Any:
    return FaceAntiSpoofing(settings, scorer or Says(), lambda: ABOUT, loaded, **options)  # type: ignore[arg-type]


def grey(level: int, side: int = 32) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def test_pictures_are_judged_some_at_a_time_and_answered_in_order():
    scorer = Says()
    levels = [255, 0, 51, 204, 102]
    verdicts = model(scorer=scorer, batch_size=2)([grey(level) for level in levels])
    assert [verdict.score for verdict in verdicts] == pytest.approx([1.0, 0.0, 0.2, 0.8, 0.4])
    assert [verdict.verdict for verdict in verdicts] == ["live", "attack", "attack", "live", "attack"]
    assert [verdict.source for verdict in verdicts] == [f"picture {place}" for place in range(5)]
    assert scorer.asked == [((2, 32, 32, 3), None, False)] * 2 + [((1, 32, 32, 3), None, False)]
    assert [verdict.reason for verdict in verdicts[:2]] == [
        "score 1.0000 >= threshold 0.5000", "score 0.0000 < threshold 0.5000",
    ]  # fmt: skip
    assert (verdicts[0].threshold, verdicts[0].threshold_origin) == (0.5, SETTINGS.threshold.origin)
    assert (model().batch_size, BATCH_SIZE, FRAMES) == (16, 16, 10)
    assert model(batch_size=1)(grey(0))[0].verdict == "attack"
    with pytest.raises(AgfasError, match="batch_size must be at least 1, not 0"):
        model(batch_size=0)
    assert model().about() is ABOUT


def test_a_score_at_the_threshold_is_live():
    settings = PLAIN.model_copy(update={"threshold": SETTINGS.threshold.model_copy(update={"value": 0.2})})
    assert [verdict.verdict for verdict in model(settings)([grey(51), grey(50)])] == ["live", "attack"]


def test_by_class_the_likeliest_attack_is_the_limit():
    settings = PLAIN.model_copy(update={"threshold": SETTINGS.threshold.model_copy(update={"by_class": True})})
    scorer = Says(classes=(0.1, 0.4))
    live, attack = model(settings, scorer)([grey(255), grey(51)])
    assert (live.reason, live.threshold) == ("score 1.0000 >= 0.4000 of the likeliest attack", 0.4)
    assert (attack.verdict, attack.faces[0].attack_classes) == ("attack", (0.1, 0.4))
    # Without `by_class` the classes decide nothing.
    assert model(PLAIN, Says(classes=(0.1, 0.9)))(grey(204))[0].verdict == "live"


def test_all_faces_or_the_largest_ones():
    photo = paint(300, 200, [(10, 20, 40), (120, 30, 90), (240, 20, 30)])
    found = model(loaded=Loaded(PaintedFaces()))
    one = found(photo, panels=True)[0]
    assert [face.box for face in one.faces] == [(120.0, 30.0, 90.0, 90.0)]
    assert one.faces[0].detection_score == pytest.approx(0.9)
    assert one.faces[0].landmarks[2] == (165.0, 75.0)
    assert one.photo is not None
    assert sorted(one.panels) == ["face"]
    assert one.notes == ("3 faces were found; the largest was judged",)
    two = found(photo, all_faces=True, most_faces=2)[0]
    assert [face.box[2] for face in two.faces] == [90.0, 40.0]
    assert two.notes == ("3 faces were found; the 2 largest were judged",)
    assert two.photo is None
    every = found(photo, all_faces=True)[0]
    assert (len(every.faces), every.notes, every.score) == (3, (), every.faces[0].score)
    assert len(found(photo, most_faces=2)[0].faces) == 1
    assert found(photo, aligned=True)[0].verdict == "refused"
    wall = found(paint(60, 60, []))[0]
    assert (wall.verdict, wall.reason, wall.notes) == ("no face", "painted found no face", ())


def noted(settings: Any, detector: Any = None, sees: str = "crop") -> tuple[str, ...]:
    verdict = model(settings.model_copy(update={"sees": sees}), Says(sees), Loaded(detector))(
        paint(60, 60, [(5, 5, 50)])
    )
    return verdict[0].notes


def test_every_note():
    assert noted(PLAIN) == ()
    control = PLAIN.model_copy(update={"cue": CueSettings(source="zero")})
    said = "this detector is a control of an experiment; do not rely on it"
    unknown = FACE.model_copy(update={"template_known": False})
    template = (
        "the dataset does not record how its crops were aligned; the template 'agfas' was taken, and the score is wrong"
        " if it was another"
    )
    assert noted(control) == (said,)
    assert noted(control.model_copy(update={"face": unknown}), PaintedFaces()) == (said, template)
    assert noted(PLAIN.model_copy(update={"face": unknown})) == ()
    other = FACE.model_copy(update={"detector": "yunet"})
    assert noted(PLAIN.model_copy(update={"face": other}), PaintedFaces()) == (
        "the training's faces were found by yunet, these by painted",
    )
    same = FACE.model_copy(update={"detector": "painted"})
    assert noted(PLAIN.model_copy(update={"face": same}), PaintedFaces()) == ()
    assert noted(PLAIN.model_copy(update={"face": other})) == ()
    whole = "the score is of the whole picture, whichever face is in it"
    assert noted(PLAIN.model_copy(update={"face": other}), PaintedFaces(), "picture") == (whole,)
    assert noted(PLAIN, sees="picture") == ()
    assert noted(PLAIN.model_copy(update={"face": other}), PaintedFaces(), "box") == ()


def test_a_network_that_cuts_its_own_input():
    photo = paint(120, 100, [(5, 5, 50), (70, 5, 30)])
    scorer = Says("box")
    settings = PLAIN.model_copy(update={"sees": "box"})
    two = model(settings, scorer, Loaded(PaintedFaces()))(photo, all_faces=True)[0]
    assert [face.box[2] for face in two.faces] == [50.0, 30.0]
    assert scorer.asked[0][0] == (2, 8, 8, 6)
    small = model(settings, Says("box"), Loaded(PaintedFaces()))(paint(60, 60, [(5, 5, 20)]))[0]
    assert (small.verdict, small.reason) == ("refused", "too near the edge")
    # One behind keeps nobody from a verdict.
    behind = model(settings, Says("box"), Loaded(PaintedFaces()))(
        paint(120, 100, [(90, 5, 20), (5, 5, 50)]), all_faces=True
    )[0]
    assert [face.box[2] for face in behind.faces] == [50.0]
    assert behind.notes == ("2 faces were found; the largest was judged",)
    with pytest.raises(AgfasError, match="'probe' cuts its own input out of whole pictures"):
        model(settings, Says("points"))(photo)
    whole = model(PLAIN.model_copy(update={"sees": "picture"}), Says("picture"), Loaded(PaintedFaces()))
    seen = whole(photo, all_faces=True)[0]
    assert [face.box[2] for face in seen.faces] == [50.0]  # one score for all
    assert "faces were found" not in " ".join(seen.notes)


@pytest.mark.parametrize(("sees", "shape"), [("crop", (1, 32, 32, 3)), ("box", (1, 8, 8, 6))])
def test_a_rehearsal_is_a_grey_face_with_everything(sees, shape):
    cue = CueSettings(mask="face")
    scorer = Says(sees)
    settings = PLAIN.model_copy(update={"sees": sees, "cue": cue})
    face = model(settings, scorer, Loaded(PaintedFaces(), parser=LeftHalf())).rehearse()
    ((crops, masks, panels),) = scorer.asked
    assert (crops, panels) == (shape, True)
    assert masks.tolist() == np.ones((1, 32, 32)).tolist()
    assert face.score == pytest.approx(128 / 255 if sees == "crop" else 3 / 255)
    assert sorted(face.panels) == ["face"]
    scorer = Says()
    model(PLAIN, scorer).rehearse()
    assert scorer.asked[0][1] is None


def test_a_masked_cue_gets_the_mask_of_each_crop():
    scorer = Says()
    masked = model(PLAIN.model_copy(update={"cue": CueSettings(mask="face")}), scorer, Loaded(parser=LeftHalf()))
    masked([grey(9), grey(8)])
    assert scorer.asked[0][1].shape == (2, 32, 32)
    assert scorer.asked[0][1][:, :, :16].all()
    assert not scorer.asked[0][1][:, :, 16:].any()
    scorer = Says()
    model(PLAIN, scorer, Loaded(parser=LeftHalf()))(grey(9))  # a parser decides nothing here
    assert scorer.asked[0][1] is None
    with pytest.raises(AgfasError, match="The cue of ours is masked by a face parser: give its weights"):
        model(PLAIN.model_copy(update={"cue": CueSettings(mask="face")}))


def film(monkeypatch: Any, frames: dict[int, np.ndarray], fps: float = 10.0, note: str = "") -> list[list[int]]:
    """What the next video holds; the indices that are asked for, of a video of 20 frames."""
    asked: list[list[int]] = []

    def read(path: Any, choose: Any) -> Any:
        asked.append(list(choose(20)))
        return SimpleNamespace(fps=fps, note=note), frames

    monkeypatch.setattr(video, "read_chosen", read)
    return asked


def test_a_video_frame_by_frame(monkeypatch):
    frames = {15: paint(60, 60, []), 5: paint(60, 60, [(5, 5, 50)], 1), 0: paint(60, 60, [(5, 5, 50)])}
    asked = film(monkeypatch, frames, note="its sound is ignored")
    found = model(loaded=Loaded(PaintedFaces()))
    verdict = found.judge_video("film.mkv", panels=True)
    assert len(asked[0]) == 10
    scores = [found(frames[index])[0].score for index in (0, 5)]
    assert [(frame.index, frame.seconds, frame.score) for frame in verdict.frames] == [
        (0, 0.0, scores[0]), (5, 0.5, scores[1]), (15, 1.5, None),
    ]  # fmt: skip
    mean = (scores[0] + scores[1]) / 2
    assert verdict.score == pytest.approx(mean)
    assert verdict.source == "film.mkv"
    assert verdict.reason == f"score {mean:.4f} {'>=' if mean >= 0.5 else '<'} threshold 0.5000, the mean of 2 frames"
    assert verdict.notes == (
        "1 of 3 frames show no face that can be judged, and are ignored", "its sound is ignored",
    )  # fmt: skip
    assert all(np.array_equal(frame.photo, frames[frame.index]) for frame in verdict.frames)
    asked = film(monkeypatch, frames, fps=0.0)
    plain = found.judge_video("film.mkv", frames=1, all_faces=True)
    assert len(asked[0]) == 1
    assert [frame.seconds for frame in plain.frames] == [None] * 3
    assert [frame.photo for frame in plain.frames] == [None] * 3
    with pytest.raises(AgfasError, match="frames must be at least 1, not 0"):
        found.judge_video("film.mkv", frames=0)


def test_a_video_without_a_face_or_without_a_crop(monkeypatch):
    film(monkeypatch, {0: paint(60, 60, [])})
    wall = model(loaded=Loaded(PaintedFaces())).judge_video("film.mkv")
    assert (wall.verdict, wall.reason, wall.notes, wall.score) == ("no face", "painted found no face", (), None)
    film(monkeypatch, {0: grey(9), 1: np.zeros((20, 50, 3), np.uint8)})
    part = model().judge_video("film.mkv")
    assert part.notes == ("1 of 2 frames show no face that can be judged, and are ignored",)
    film(monkeypatch, {0: np.zeros((20, 50, 3), np.uint8)})
    refused = model().judge_video("film.mkv")
    assert (refused.verdict, refused.source) == ("refused", "film.mkv")
    assert "50 x 20" in refused.reason
    film(monkeypatch, {})
    assert model().judge_video("film.mkv").reason == "no face detector found no face"


def test_a_score_that_is_no_number_is_no_verdict(monkeypatch):
    scorer = Says()
    monkeypatch.setattr(Says, "__call__", lambda *_, **__: Scored(np.array([np.nan]), [{}], np.empty((1, 0))))
    with pytest.raises(AgfasError, match="The detector's score is not finite"):
        model(scorer=scorer)(grey(9))


def test_whatever_a_decoder_raises_is_a_refusal(monkeypatch):
    class Breaks(PaintedFaces):
        def __call__(self, picture: np.ndarray) -> Any:
            raise MemoryError("no  room\nat all" + "x" * 300)

    refused = model(loaded=Loaded(Breaks()))(grey(9))[0]
    assert refused.reason == f"it could not be processed (MemoryError: no room at all{'x' * 186})"


def test_what_is_given_is_one_picture_or_many():
    assert [item.source for item in as_given(np.zeros((2, 3, 3, 3), np.uint8))] == ["picture 0", "picture 1"]
    assert [item.source for item in as_given(np.zeros((3, 3, 3), np.uint8))] == ["picture 0"]
    assert [item.source for item in as_given(["a.png", grey(1)])] == ["a.png", "picture 1"]
    with pytest.raises(AgfasError, match="Picture 1 is of the type float"):
        as_given(["a.png", 0.5])


def test_settings_follow_the_dataset_s_recipe():
    whole = face_settings(
        {"recipe": {"template": "arcface", "size": 48, "min_score": 0.7, "face_detector": "yunet"}}, 32
    )
    assert (whole.size, whole.crop_size, whole.template, whole.template_known) == (32, 48, "arcface", True)
    assert (whole.detector, whole.min_score, whole.enhancement) == ("yunet", 0.7, None)
    crops = face_settings({"recipe": {"aligned": True, "template": "arcface", "face_detector": "yunet"}}, 32)
    assert (crops.crop_size, crops.template, crops.template_known, crops.detector) == (32, "agfas", False, None)
    assert crops.min_score == 0.0


def test_the_key_of_a_crop_is_the_hash_of_its_pixels():
    crop = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for pixels in (crop, crop[:, ::-1]):
        assert pixel_key(pixels) == hashlib.sha256(pixels.tobytes()).hexdigest()


def test_parts_are_recorded_as_they_will_be_read():
    loaded = load_parts(PaintedFaces(), None, LeftHalf())
    assert (loaded.detector_weights, loaded.parser_weights) == (None, None)
    assert loaded.detector_part.model_dump() == {
        "name": "painted", "weights": None, "licence": "its publisher's",
        "fingerprint": {"name": "painted", "threshold": 0.5, "size": [1, 2]},
    }  # fmt: skip
    assert (loaded.parser_part.name, Loaded().detector_part, Loaded().parser_part) == ("bisenet", None, None)
    with pytest.raises(AgfasError, match="are weights of a face detector without its name"):
        load_parts(None, "a.onnx", None)
