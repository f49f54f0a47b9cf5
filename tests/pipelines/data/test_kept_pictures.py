"""The picture around a face: kept as it was read, with the face's place in it, through every way into a dataset."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Image, Value
from output_folder import write_faces
from PIL import ExifTags
from PIL import Image as Pillow
from prepare_stubs import SMALL, SquareDetector, people, png, save, save_video, scene

from pipelines import progress
from pipelines.data import faces as faces_module
from pipelines.data.faces import Faces, open_faces
from pipelines.data.importers.source import SourceFace
from pipelines.data.join import join_faces
from pipelines.data.prepare import dataset as dataset_module
from pipelines.data.prepare import job as job_module
from pipelines.data.prepare.cutter import Cutter
from pipelines.data.prepare.pool import Task
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.worker import Worker
from pipelines.data.records import PICTURE_COLUMNS, load_faces, open_table, read_card
from pipelines.data.sheet import contact_sheet
from pipelines.errors import AgfasError
from pipelines.stages.prepare import run


def process(path: Path, **recipe) -> list[dict]:
    face = SourceFace(path, "d", "none", "s", "v", 3, "train")
    cutter = Cutter.load(PrepareRecipe(size=64, keep_picture=True, **recipe), SquareDetector)
    return list(Worker(cutter, path.parent, path.parent).process(face))


def decoded(content: bytes) -> np.ndarray:
    with Pillow.open(io.BytesIO(content)) as picture:
        assert not picture.getexif()
        return np.asarray(picture.convert("RGB"))


def red_box(picture: np.ndarray) -> list[int]:
    """Left, top, width, height of the red in a picture, by rows and columns that have some."""
    red = (picture[..., 0] > 170) & (picture[..., 1] < 100) & (picture[..., 2] < 100)
    across, down = np.flatnonzero(red.any(0)), np.flatnonzero(red.any(1))
    return [across[0], down[0], across[-1] - across[0] + 1, down[-1] - down[0] + 1]


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.jpg", {"quality": 95}), ("a.bmp", {})])
def test_an_upright_file_is_kept_byte_for_byte(tmp_path, name, options):
    path = save(tmp_path / name, scene((40, 20, 70), size=(120, 150)), **options)
    (record,) = process(path)
    assert record["picture"] == path.read_bytes()
    assert record["box"] == pytest.approx(red_box(decoded(record["picture"])), abs=1)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_turned_file_is_kept_upright_without_loss(tmp_path, orientation, suffix):
    """The camera stored it lying on its side: picture, box and points are of the upright one."""
    exif = Pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turns = {3: 2, 6: 1, 8: 3}[orientation]
    upright = scene((20, 30, 70), size=(150, 120))
    path = save(tmp_path / f"a.{suffix}", np.rot90(upright, turns), exif=exif)
    (record,) = process(path)
    picture = decoded(record["picture"])
    assert picture.shape == (150, 120, 3)
    assert record["picture"].startswith(b"\x89PNG")
    stored = np.asarray(Pillow.open(path).convert("RGB"))
    assert np.array_equal(picture, np.rot90(stored, -turns))
    assert record["box"] == pytest.approx([20, 30, 70, 70], abs=1)
    assert record["points"][0] == pytest.approx([20 + 0.3 * 70, 30 + 0.35 * 70], abs=1)


def test_it_is_kept_only_when_asked_for(tmp_path):
    path = save(tmp_path / "a.png", scene((40, 20, 70)))
    (record,) = process(path)
    cutter = Cutter.load(PrepareRecipe(size=64), SquareDetector)
    (plain,) = Worker(cutter, path.parent, path.parent).process(SourceFace(path, "d", "none", "s", "v", 3, "train"))
    assert plain["picture"] is None
    assert {name: value for name, value in record.items() if name != "picture"} == {
        name: value for name, value in plain.items() if name != "picture"
    }


def test_every_face_of_a_picture_has_its_place_in_it(tmp_path):
    path = save(tmp_path / "a.png", scene((5, 5, 30), (60, 40, 60)))
    records = process(path, all_faces=True)
    assert [record["box"] for record in records] == [[60, 40, 60, 60], [5, 5, 30, 30]]
    assert {record["picture"] for record in records} == {path.read_bytes()}


def test_a_given_crop_is_its_own_picture_and_has_no_place(tmp_path):
    path = save(tmp_path / "a.png", scene(size=(96, 96)))
    (record,) = process(path, aligned=True)
    assert record["picture"] == path.read_bytes()
    assert record["box"] is record["points"] is None


def test_a_frame_is_kept_without_loss(tmp_path):
    from pipelines.data.video import open_video

    frames = [scene((10 + 8 * n, 20, 44), seed=n, size=(96, 144)) for n in range(6)]
    path = save_video(tmp_path / "a.mp4", frames)
    records = process(path, frames=3)
    read = open_video(path).read([1, 3, 5])
    assert [record["source_frame"] for record in records] == [1, 3, 5]
    for record, index in zip(records, (1, 3, 5), strict=True):
        assert np.array_equal(decoded(record["picture"]), read[index])
        assert record["box"][0] == pytest.approx(10 + 8 * index, abs=2)
    square = save_video(tmp_path / "b.mp4", [scene(seed=n, size=(96, 96)) for n in range(4)])
    assert [record["box"] for record in process(square, frames=2, aligned=True)] == [None, None]


# The dataset


class Here:
    """A pool that works in this process: starting one takes seconds, and test_prepare_interrupted.py starts them."""

    def __init__(self, setup, workers, describe) -> None:
        self.work = setup()

    def run(self, tasks):
        for number, items in tasks:
            self.work(Task(number, items), lambda place: None)
            yield len(items)


@pytest.fixture(scope="module", autouse=True)
def _in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "Pool", Here)
        patch.setattr(progress, "_hidden", progress._hidden)  # what a worker changes for its process
        threads = cv2.getNumThreads()
        yield
        cv2.setNumThreads(threads)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Three persons with a video of one, prepared with their pictures."""
    source = people(tmp_path_factory.mktemp("in"), subjects=3, pictures=1)
    save_video(source / "bonafide" / "s1" / "film.mp4", [scene((30, 20, 60), seed=n, size=(96, 128)) for n in range(4)])
    out = tmp_path_factory.mktemp("kept") / "faces"
    assert run(source, out, PrepareRecipe(**SMALL, keep_picture=True, domain="d"), SquareDetector) == 0
    return out


def test_they_are_read_from_the_dataset_by_row(kept):
    faces = open_faces(kept, 32)
    assert faces.boxes is not None
    assert faces.boxes.shape == (10, 4)
    assert faces.boxes.dtype == np.float32
    assert faces.points is not None
    assert faces.points.shape == (10, 5, 2)
    assert faces.has_picture.all()
    rows = load_faces(kept)
    for row in range(len(faces)):
        picture = faces.picture(row)
        assert picture is not None
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, np.asarray(rows[row]["picture"]))
        assert faces.boxes[row] == pytest.approx(red_box(picture), abs=3)
        assert np.array_equal(faces.points[row], np.array(rows[row]["points"], np.float32))
    (kept / "pixels-32.npy").unlink()


def test_they_are_of_the_datasets_identity(kept):
    source = people(kept.parent / "source", subjects=3, pictures=1)
    cards = []
    for name, keep in (("with", True), ("without", False)):
        run(source, kept.parent / name, PrepareRecipe(**SMALL, keep_picture=keep), SquareDetector)
        cards.append(read_card(kept.parent / name))
    assert cards[0]["fingerprint"] != cards[1]["fingerprint"]
    assert cards[0]["recipe"]["keep_picture"] is True
    assert "| keep_picture | `True` |" in (kept.parent / "with" / "README.md").read_text()
    faces = open_faces(kept.parent / "without", 32)
    assert not faces.has_picture.any()
    assert faces.picture(0) is None
    assert faces.boxes is not None


def test_undersampling_keeps_the_pictures_of_the_rest(tmp_path):
    source = people(tmp_path / "in", subjects=3, pictures=2)
    for number in range(2):
        (source / "attack" / "s0" / f"{number}.png").unlink()
    recipe = PrepareRecipe(**SMALL, keep_picture=True, ratio=1, splits={"train": 1.0, "dev": 0.0})
    assert run(source, tmp_path / "out", recipe, SquareDetector) == 0
    table = open_table(tmp_path / "out")
    assert len(table) == 8
    for row in table.select(["source", "picture"]).to_pylist():
        assert row["picture"]["bytes"] == (source / row["source"]).read_bytes()


def test_rows_of_a_hugging_face_dataset(tmp_path):
    content = png(scene((40, 20, 70)))
    rows = {"image": [{"bytes": content, "path": None}] * 2, "label": ["live", "spoof"]}
    features = Features({"image": Image(), "label": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "in"))
    recipe = PrepareRecipe(**SMALL, importer="hf", keep_picture=True)
    run(tmp_path / "in", tmp_path / "out", recipe, SquareDetector)
    stored = open_table(tmp_path / "out").column("picture").to_pylist()
    assert [cell["bytes"] for cell in stored] == [content] * 2


def test_a_joined_dataset_keeps_what_its_parts_have(kept, tmp_path):
    write_faces(tmp_path / "drawn", domains=("phone",), subjects=3)
    faces = open_faces(join_faces([tmp_path / "drawn", kept], tmp_path / "joined"), 16)
    assert faces.boxes is not None
    drawn = faces.domains == "phone"
    assert np.array_equal(np.isnan(faces.boxes).any(axis=1), drawn)
    assert np.array_equal(~faces.has_picture, drawn)
    first, own = int(np.flatnonzero(~drawn)[0]), open_faces(kept, 16)
    assert np.array_equal(faces.picture(first), own.picture(0))
    assert np.array_equal(faces.points[first], own.points[0])
    assert set(PICTURE_COLUMNS) <= set(load_faces(tmp_path / "joined").column_names)
    assert faces.labels[drawn].tolist() == open_table(tmp_path / "drawn").column("label").to_pylist()


def test_a_damaged_picture_costs_only_those_who_ask_for_it(kept, tmp_path, monkeypatch):
    """Nothing decodes the pictures on its way to the crops."""

    def damaged(content: bytes) -> np.ndarray:
        raise OSError("broken data stream")

    monkeypatch.setattr(faces_module, "decode_picture", damaged)
    monkeypatch.setattr(Image, "decode_example", counting(Image.decode_example, sizes := []))
    faces = open_faces(kept, 24)
    contact_sheet(load_faces(kept), tmp_path / "sheet.png")
    assert set(sizes) == {(32, 32)}
    with pytest.raises(AgfasError, match=r"picture of row 2 .* cannot be decoded \(broken data stream\)"):
        faces.picture(2)


def counting(decode, sizes: list):
    def decoding(self, value, *args, **options):
        picture = decode(self, value, *args, **options)
        sizes.append(picture.size)
        return picture

    return decoding


def test_a_dataset_made_anew_at_the_same_place_is_read_anew(kept, tmp_path):
    def at(folder: Path, fingerprint: str) -> Faces:
        nothing = np.zeros(0)
        return Faces(*[nothing] * 7, images=nothing, fingerprint=fingerprint, folder=folder)

    write_faces(tmp_path / "faces", domains=("phone",))
    assert at(tmp_path / "faces", "old").boxes is None
    (tmp_path / "faces").rename(tmp_path / "gone")
    kept_copy = tmp_path / "faces"
    kept_copy.symlink_to(kept)
    assert at(kept_copy, "new").boxes is not None


def test_large_pictures_are_written_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "_BYTES_AT_ONCE", 1000)
    names = dataset_module.task_schema().names
    records = [{**dict.fromkeys(names), "key": str(n), "picture": bytes(400 if n < 6 else 10)} for n in range(9)]
    dataset_module.write_records(tmp_path / "task.arrow", iter(records))
    with pa.memory_map(str(tmp_path / "task.arrow")) as source:
        batches = [len(batch) for batch in pa.ipc.open_stream(source)]
    assert batches == [3, 3, 3]
