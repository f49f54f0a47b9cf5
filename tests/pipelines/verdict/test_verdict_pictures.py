"""From pictures and videos of any kind to one answer each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from verdict_run import SIZE, LeftHalf, PaintedFaces, paint, shared_run, write_face

from pipelines.data.alignment import align
from pipelines.data.crop import resized_mask, to_square
from pipelines.data.enhance import Enhancement, enhance
from pipelines.data.held import HeldFile
from pipelines.data.prepare.cutter import Cutter
from pipelines.data.prepare.settings import build_recipe
from pipelines.errors import AgfasError
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.crops import Cropper, face_settings

REALDATA = os.environ.get("AGFAS_REALDATA")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return shared_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def aligned(root) -> FaceAntiSpoofing:
    """Takes crops."""
    return FaceAntiSpoofing.from_run(root, "image_only", batch_size=3)


@pytest.fixture(scope="module")
def detecting(root) -> FaceAntiSpoofing:
    """Finds painted faces."""
    return FaceAntiSpoofing.from_run(root, "image_only", face_detector=PaintedFaces(), batch_size=3)


def test_paths_images_and_arrays_are_one_picture(root, aligned):
    path = write_face(root)
    image = Image.open(path)
    given = [path, str(path), image, np.asarray(image)]
    verdicts = [aligned(item)[0] for item in given]
    assert len({verdict.score for verdict in verdicts}) == 1
    assert [verdict.source for verdict in verdicts] == [str(path), str(path), "picture 0", "picture 0"]
    assert len(aligned(np.stack([np.asarray(image)] * 2))) == 2


def test_bad_pictures_are_refused_and_the_others_answered_in_order(root, aligned, tmp_path):
    good, text = write_face(root), tmp_path / "text.jpg"
    text.write_text("hello")
    grey = np.zeros((SIZE, SIZE), np.uint8)
    verdicts = aligned([text, good, tmp_path / "absent.png", grey, good, tmp_path / "film.mp4"])
    assert [v.verdict == "refused" for v in verdicts] == [True, False, True, True, False, True]
    assert "not a picture" in verdicts[0].reason
    assert "absent.png" in verdicts[2].reason
    assert "(H, W, 3)" in verdicts[3].reason
    assert "judge_video" in verdicts[5].reason
    assert verdicts[0].score is None
    assert verdicts[0].threshold == verdicts[1].threshold
    with pytest.raises(AgfasError, match="type int"):
        aligned([good, 5])
    with pytest.raises(AgfasError, match="type NoneType"):
        aligned(None)


def test_what_is_read_in_part_is_said_beside_its_verdict(root, aligned, tmp_path):
    with Image.open(write_face(root)) as face:
        face.save(tmp_path / "a.gif", save_all=True, append_images=[face.rotate(90)])
        face.save(tmp_path / "b.tif")
    animated, plain = aligned([tmp_path / "a.gif", tmp_path / "b.tif"])
    assert "it is animated; its first frame is read" in animated.notes
    assert plain.score is not None
    assert "first" not in " ".join(plain.notes)


def test_crop_is_square_and_anything_else_asks_for_a_face_detector(aligned, detecting):
    photo = paint(90, 40, [(10, 5, 30)])
    refused = aligned(photo)[0]
    assert refused.verdict == "refused"
    assert "90 x 40" in refused.reason
    assert "--face-detector" in refused.reason
    assert aligned(paint(101, 100, []))[0].verdict in ("live", "attack")
    assert detecting(photo)[0].verdict in ("live", "attack")
    assert detecting(photo, aligned=True)[0].verdict == "refused"


def test_largest_face_decides_and_all_are_listed_where_asked(detecting):
    photo = paint(300, 200, [(10, 20, 40), (120, 30, 90), (240, 20, 30)])
    one, every = detecting(photo)[0], detecting(photo, all_faces=True)[0]
    assert [face.box for face in one.faces] == [(120, 30, 90, 90)]
    assert [face.box[2] for face in every.faces] == [90, 40, 30]
    assert one.score == one.faces[0].score
    assert every.score == pytest.approx(one.score, abs=1e-6)
    assert len({face.score for face in every.faces}) == 3
    assert one.notes[-1] == "3 faces were found; the largest was judged"
    assert every.notes == one.notes[:-1]
    assert len(one.faces[0].landmarks) == 5
    assert one.faces[0].detection_score == pytest.approx(0.9)


def test_no_face_is_an_answer(detecting):
    verdict = detecting(paint(80, 60, []), panels=True)[0]
    assert (verdict.verdict, verdict.score, verdict.faces) == ("no face", None, ())
    assert verdict.reason == "painted found no face"
    assert verdict.photo.shape == (60, 80, 3)


def test_face_is_aligned_as_the_template_says(detecting):
    photo = paint(200, 160, [(40, 30, 90)])
    face = PaintedFaces()(photo)[0]
    expected = align(photo, face.landmarks, "agfas", SIZE).picture
    verdict = detecting(photo, panels=True)[0]
    assert np.array_equal(verdict.panels["face"], expected)
    assert "'agfas' was taken" in verdict.notes[0]


def test_sideways_photo_is_turned_before_its_faces_are_sought(detecting, tmp_path):
    upright = paint(200, 120, [(20, 10, 80)])
    path = tmp_path / "phone.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the left in the file
    Image.fromarray(np.rot90(upright)).save(path, exif=exif)
    assert detecting(path)[0].score == pytest.approx(detecting(upright)[0].score, abs=1e-6)
    assert detecting(path)[0].faces[0].box == (20, 10, 80, 80)
    assert detecting(Image.open(path))[0].faces[0].box == (20, 10, 80, 80)


def test_prepared_dataset_decides_crop_template_enhancement_and_least_score():
    recipe = {"template": "arcface", "size": 48, "aligned": False, "min_score": 0.95, "enhance": {"gamma": 2.0}}
    settings = face_settings({"recipe": recipe}, SIZE)
    assert (settings.template, settings.template_known, settings.crop_size) == ("arcface", True, 48)
    photo = paint(200, 160, [(40, 30, 90)])
    assert Cropper(settings, PaintedFaces())(photo) == ([], 0)
    cropper = Cropper(settings.model_copy(update={"min_score": 0.5}), PaintedFaces())
    crop = cropper(photo)[0][0].pixels
    face = PaintedFaces()(photo)[0]
    enhanced = enhance(align(photo, face.landmarks, "arcface", 48).picture, Enhancement(gamma=2.0))
    assert np.array_equal(crop, to_square(Image.fromarray(enhanced), SIZE))
    plain = Cropper(settings.model_copy(update={"min_score": 0.5, "enhancement": None}), PaintedFaces())
    assert not np.array_equal(crop, plain(photo)[0][0].pixels)


@pytest.mark.parametrize("aligned", [False, True])
def test_crop_and_mask_are_those_that_prepare_makes(aligned):
    chosen = {"template": "arcface", "size": 48, "aligned": aligned, "enhance": True}
    recipe = build_recipe({**chosen, "face_detector": "yunet"}, "a test")
    photo = paint(160, 160, [(40, 30, 90)])
    finder = None if aligned else PaintedFaces()
    cutter = Cutter(recipe, finder, LeftHalf())
    prepared = cutter.take(photo) if aligned else cutter.cut(photo, cutter.find(photo)[0])
    settings = face_settings({"recipe": recipe.of_the_result()}, SIZE)
    crop = Cropper(settings, finder, LeftHalf())(photo)[0][0]
    assert np.array_equal(crop.pixels, to_square(Image.fromarray(prepared.picture), SIZE))
    assert np.array_equal(crop.mask, resized_mask(prepared.mask, SIZE))
    assert crop.mask.any()


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA, reason="AGFAS_REALDATA is not set")
def test_real_faces_in_one_photo_are_found_boxed_and_judged(root):
    weights = Path(str(REALDATA)).parent / "weights" / "yunet.onnx"
    detector = FaceAntiSpoofing.from_run(root, "image_only", face_detector="yunet", weights=weights)
    photo = Image.new("RGB", (900, 400), (110, 120, 130))
    paths = sorted(Path(str(REALDATA)).glob("live/utkface/*"))[::1500][:3]
    for path, (left, side) in zip(paths, [(20, 200), (300, 320), (700, 160)], strict=True):
        photo.paste(Image.open(path).convert("RGB").resize((side, side)), (left, 40))
    faces = detector(photo, all_faces=True)[0].faces
    assert len(faces) == 3
    centres = [face.box[0] + face.box[2] / 2 for face in faces]
    assert centres == pytest.approx([460, 120, 780], abs=60)
    assert detector(Image.new("RGB", (640, 480), (110, 120, 130)))[0].verdict == "no face"


def test_another_face_detector_than_the_training_s_is_said(root):
    model = FaceAntiSpoofing.from_run(root, "image_only", face_detector=PaintedFaces())
    known = face_settings({"recipe": {"template": "agfas", "size": 48, "face_detector": "yunet"}}, SIZE)
    model.settings = model.settings.model_copy(update={"face": known})
    assert model(paint(120, 100, [(10, 10, 60)]))[0].notes == (
        "the training's faces were found by yunet, these by painted",
    )
    assert model(paint(120, 100, []))[0].notes == ()


def test_dataset_of_crops_says_nothing_of_a_template():
    assert not face_settings({"recipe": {"aligned": True, "template": "arcface", "size": 48}}, SIZE).template_known
    plain = face_settings({"fingerprint": "0", "settings": {"size": 64}}, SIZE)
    assert (plain.template, plain.crop_size, plain.enhancement) == ("agfas", SIZE, None)


def test_face_that_cannot_be_aligned_is_refused(root):
    class Confused(PaintedFaces):
        def __call__(self, picture):
            face = super().__call__(picture)[0]
            face.landmarks[:] = face.landmarks[0]
            return [face]

    detector = FaceAntiSpoofing.from_run(root, "image_only", face_detector=Confused())
    verdict = detector(paint(80, 60, [(10, 10, 40)]))[0]
    assert verdict.verdict == "refused"
    assert "coincide" in verdict.reason


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)  # lossless
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "bgr0"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_video_is_the_mean_over_the_frames_that_show_a_face(detecting, tmp_path):
    frames = [paint(160, 120, [] if place == 2 else [(20 + 5 * place, 10, 80)], seed=place) for place in range(5)]
    path = tmp_path / "film.mkv"
    write_video(path, frames)
    verdict = detecting.judge_video(path, frames=5, panels=True)
    scores = [detecting(frame)[0].score for frame in frames]
    assert [frame.index for frame in verdict.frames] == [0, 1, 2, 3, 4]
    assert [frame.seconds for frame in verdict.frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert verdict.frames[2].score is None
    shown = [score for score in scores if score is not None]
    assert [f.score for f in verdict.frames if f.score is not None] == pytest.approx(shown, abs=1e-6)
    assert verdict.score == pytest.approx(np.mean(shown), abs=1e-6)
    assert verdict.reason.endswith("the mean of 4 frames")
    assert verdict.notes[-1] == "1 of 5 frames show no face that can be judged, and are ignored"
    assert np.array_equal(verdict.frames[2].photo, frames[2])
    assert len(detecting.judge_video(path, frames=2).frames) == 2


def test_video_without_a_face_and_file_that_is_no_video(detecting, tmp_path):
    empty = tmp_path / "empty.mkv"
    write_video(empty, [paint(64, 48, [])] * 3)
    assert detecting.judge_video(empty).verdict == "no face"
    text = tmp_path / "text.mp4"
    text.write_text("hello")
    refused = detecting.judge_video(text)
    assert (refused.verdict, refused.score) == ("refused", None)
    assert "text.mp4" in refused.reason
    with pytest.raises(AgfasError, match="frames must be at least 1"):
        detecting.judge_video(empty, frames=0)


def test_answers_print_in_words(root, aligned):
    verdict = aligned(write_face(root))[0]
    assert str(verdict).startswith(f"{verdict.verdict}: score {verdict.score:.4f} ")
    assert repr(verdict) == f"<{verdict.source}: {verdict}>"
    assert verdict.to_dict()["faces"][0]["score"] == verdict.score
    assert len(repr(verdict)) < 300


def test_a_file_in_memory_is_judged_as_one_on_disk(root, aligned, detecting, tmp_path):
    path = write_face(root)
    (held,) = aligned(HeldFile(path.name, path.read_bytes()))
    assert held.to_dict() == {**aligned(path)[0].to_dict(), "source": path.name}
    clip = tmp_path / "a.mp4"
    write_video(clip, [paint(64, 64, [(8, 8, 40)])] * 6)
    judged = detecting.judge_video(HeldFile("a.mp4", clip.read_bytes()), 3)
    assert judged.to_dict() == {**detecting.judge_video(clip, 3).to_dict(), "source": "a.mp4"}
    assert len(judged.frames) == 3
    refused = aligned(HeldFile("film.mp4", b"hello"))[0]
    assert refused.reason.startswith("film.mp4 is not a picture")
