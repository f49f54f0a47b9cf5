"""Face datasets after damage: columns, faces and kept pictures are what was written, or a sentence says so."""

from __future__ import annotations

import base64
import io
import random
import shutil

import numpy as np
import pytest
import xxhash
from datasets import Dataset, Features
from datasets import Image as Stored
from PIL import Image

from pipelines.data import intact
from pipelines.data.faces import open_faces
from pipelines.data.intact import SUMS_NAME, check_all, check_file, write_sums
from pipelines.data.join import join_faces
from pipelines.data.prepare.dataset import TaskFiles
from pipelines.data.records import CARD_NAME, checked_table, face_features, load_faces, picture_features, read_card
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.sums import CheckedFile, Damaged
from pipelines.synthetic import drawing

ARROW = "data-00000-of-00001.arrow"
COUNT = 6
# Larger than a block, and without compression, so that no decoder notices a flipped bit.
SIDE = 180


def bitmap(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "BMP")
    return {"bytes": stream.getvalue(), "path": None}


def write_faces(folder, seed=0):
    draws = np.random.default_rng(seed)
    faces = draws.integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
    pictures = draws.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    columns = {
        "key": [f"d/s{n}/v/{n:03d}" for n in range(COUNT)],
        "image": [bitmap(face) for face in faces],
        "label": [n % 2 for n in range(COUNT)],
        **{name: [name] * COUNT for name in ("attack_type", "domain", "video", "split")},
        "subject": [f"s{n}" for n in range(COUNT)],
        "frame": list(range(COUNT)),
        "landmarks": [[[1.0, 2.0]] * 5] * COUNT,
        "picture": [bitmap(picture) for picture in pictures],
        "box": [[1.0, 2.0, 3.0, 4.0]] * COUNT,
        "points": [[[float(n), 2.0]] * 5 for n in range(COUNT)],
    }
    features = Features({**face_features(), **picture_features()})
    Dataset.from_dict(columns, features=features).save_to_disk(str(folder))
    write_json(folder / CARD_NAME, {"fingerprint": f"content{seed}"})
    write_sums(folder)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "faces"
    write_faces(folder)
    return folder


@pytest.fixture
def folder(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "faces")


def everything(folder):
    """All that a dataset gives, as its readers see it."""
    faces = open_faces(folder, 8)
    rows = [faces.picture(row).tobytes() for row in range(COUNT)]
    columns = {name: column.tolist() for name, column in faces.columns().items()}
    return [np.asarray(faces.images).tobytes(), rows, columns, faces.boxes.tolist(), faces.points.tolist()]


def flip(path, place, bit=4):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def fuzz(clean, folder, seed, expected):
    """Flip one bit of any file of a dataset, before or after its pixels were decoded."""
    draws = random.Random(seed)
    shutil.copytree(clean, folder)
    if draws.random() < 0.3:
        open_faces(folder, 8)
    path = draws.choice(sorted(folder.iterdir()))
    flip(path, draws.randrange(path.stat().st_size), draws.randrange(8))
    try:
        found = everything(folder)
    except AgfasError as error:
        return f"{path.name} is" in str(error) or path.name in str(error)
    return found == expected


@pytest.mark.parametrize("seed", range(8))
def test_one_flipped_bit_changes_no_face(clean, tmp_path, seed):
    assert fuzz(clean, tmp_path / "faces", seed, everything(shutil.copytree(clean, tmp_path / "clean")))


@pytest.mark.slow
def test_hundreds_of_flipped_bits_change_no_face(clean, tmp_path):
    expected = everything(shutil.copytree(clean, tmp_path / "clean"))
    assert [seed for seed in range(500) if not fuzz(clean, tmp_path / str(seed), seed, expected)] == []


def position(folder, of):
    return (folder / ARROW).read_bytes().index(of)


def test_a_flipped_bit_in_a_picture_is_noticed_when_it_is_decoded(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)[2][-1, :, ::-1].tobytes()
    flip(folder / ARROW, position(folder, pixels))
    with pytest.raises(AgfasError, match=rf"{ARROW} is not what was written \(its checksum differs\). Create"):
        open_faces(folder, 8)
    with pytest.raises(AgfasError, match="is not what was written"):
        load_faces(folder)
    with pytest.raises(AgfasError, match="is not what was written"):
        join_faces([folder], folder.parent / "joined")


def test_a_flipped_bit_in_a_kept_picture_is_noticed_when_that_picture_is_used(folder):
    open_faces(folder, 8)  # decodes the faces
    place = position(folder, b"BM" + (54 + 3 * SIDE * SIDE).to_bytes(4, "little"))
    flip(folder / ARROW, place + 3 * SIDE * SIDE + 50)  # of the first, far from any other column
    faces = open_faces(folder, 8)
    assert faces.picture(COUNT - 1) is not None
    with pytest.raises(AgfasError, match="is not what was written"):
        faces.picture(0)


def test_columns_are_compared_when_a_dataset_is_opened(folder):
    flip(folder / ARROW, position(folder, b"s0s1s2"), 1)
    with pytest.raises(AgfasError, match="is not what was written"):
        open_faces(folder, 8)


def test_an_arrow_file_of_another_dataset_is_noticed(folder, tmp_path):
    write_faces(tmp_path / "other", seed=1)
    assert (tmp_path / "other" / ARROW).stat().st_size == (folder / ARROW).stat().st_size
    shutil.copy(tmp_path / "other" / ARROW, folder / ARROW)
    with pytest.raises(AgfasError, match="is not what was written"):
        open_faces(folder, 8)


def test_decoded_pixels_of_another_dataset_are_noticed(folder, tmp_path):
    write_faces(tmp_path / "other", seed=1)
    open_faces(tmp_path / "other", 8)
    shutil.copy(tmp_path / "other" / "pixels-8.npy", folder)
    with pytest.raises(AgfasError, match=r"pixels-8\.npy is not what was written .* Remove pixels-8\.npy: the next"):
        open_faces(folder, 8)


def test_cards_and_lists_are_compared(folder):
    (folder / "refused.csv").write_text("path,frame,reason,tried\n")
    write_sums(folder)
    flip(folder / "refused.csv", 5)
    with pytest.raises(AgfasError, match=r"refused\.csv is not what was written"):
        load_faces(folder)
    card = folder / CARD_NAME
    card.write_text(card.read_text().replace("content0", "content1"))
    with pytest.raises(AgfasError, match=f"{CARD_NAME} is not what was written"):
        read_card(folder)


def test_datasets_of_earlier_versions_are_read_and_cards_for_people_may_be_edited(folder, clean, tmp_path):
    expected = everything(shutil.copytree(clean, tmp_path / "clean"))
    (folder / "README.md").write_text("mine")
    assert everything(folder) == expected
    (folder / SUMS_NAME).unlink()
    (folder / "pixels-8.npy").unlink()
    assert everything(folder) == expected
    load_faces(folder)


def test_a_damaged_task_is_made_again(tmp_path):
    files = TaskFiles(tmp_path)
    files.make_folders()
    files.records(0).write_bytes(bytes(range(100)))
    files.finish(0, {"refused": []})
    assert files.is_done(0)
    flip(files.records(0), 50)
    assert not files.is_done(0)
    flip(files.records(0), 50)
    flip(files.marker(0), 30)
    assert not files.is_done(0)
    files.marker(0).write_text('{"bytes": 100, "refused": []}')  # of an earlier version
    assert files.is_done(0)
    files.records(0).write_bytes(bytes(99))
    assert not files.is_done(0)


def test_a_damaged_part_of_an_unfinished_benchmark_is_refused(tmp_path):
    part = tmp_path / "00000.arrow"
    drawing.store([{"key": "a", "image": {"bytes": bytes(900), "path": None}}], part)
    assert drawing.stored(part)[0]["key"] == "a"
    flip(part, part.stat().st_size // 2)
    with pytest.raises(AgfasError, match=r"00000\.arrow is not what was written .* run the command again"):
        drawing.stored(part)


def test_checksums_are_of_blocks_of_64_kib(tmp_path):
    content = np.random.default_rng(0).bytes(150_000)
    for name in ("a.arrow", "README.md", "pixels-8.npy", ".hidden", SUMS_NAME):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "folder").mkdir()
    write_sums(tmp_path)
    pieces = [content[:65_536], content[65_536:131_072], content[131_072:]]
    sums = b"".join(xxhash.xxh3_64_intdigest(piece).to_bytes(8, "little") for piece in pieces)
    found = read_json(tmp_path / SUMS_NAME)
    assert found["block"] == 65_536
    assert found["files"]["a.arrow"] == {"bytes": 150_000, "sums": base64.b64encode(sums).decode()}
    assert found["files"]["empty.csv"]["bytes"] == 0
    assert set(found["files"]) == {"a.arrow", "empty.csv"}
    check_all(tmp_path)
    for place in (0, 65_535, 65_536, 149_999):
        flip(tmp_path / "a.arrow", place)
        with pytest.raises(Damaged, match=r"a\.arrow is not what was written \(its checksum differs\)"):
            check_file(tmp_path, "a.arrow")
        flip(tmp_path / "a.arrow", place)
    check_file(tmp_path, "a.arrow")
    (tmp_path / "a.arrow").write_bytes(content[:-1])
    with pytest.raises(Damaged, match=r"its (length|checksum) differs"):
        check_file(tmp_path, "a.arrow")
    (tmp_path / "a.arrow").unlink()
    with pytest.raises(Damaged, match="its existence differs") as caught:
        check_file(tmp_path, "a.arrow")
    assert str(caught.value).endswith(f"Create {tmp_path} again, or copy it again from where it is whole.")
    check_file(tmp_path, "nobody-listed.me")
    write_json(tmp_path / SUMS_NAME, {"block": 65_536, "files": {"a.arrow": {"bytes": 1}}})
    with pytest.raises(Damaged, match=f"{SUMS_NAME} is not what was written"):
        check_all(tmp_path)


def test_a_file_that_does_not_change_is_compared_once(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"content")
    write_sums(tmp_path)
    compared = []
    monkeypatch.setattr(CheckedFile, "check", lambda self, start, stop: compared.append((start, stop)))
    for _ in range(3):
        check_file(tmp_path, "a")
    assert compared == [(0, 7)]
    (tmp_path / "a").write_bytes(b"CONTENT")
    check_file(tmp_path, "a")
    assert len(compared) == 2


def test_all_but_the_inside_of_pictures_is_compared_when_a_dataset_is_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "SIDE", 12)
    monkeypatch.setattr(intact, "_BLOCK", 4)  # buffers begin and end at edges of blocks
    write_faces(tmp_path / "faces")
    content = (tmp_path / "faces" / ARROW).read_bytes()
    inside = set()
    for side in (8, 12):
        length = 54 + 3 * side * side
        start = content.index(b"BM" + length.to_bytes(4, "little"))
        assert start % 4 == (COUNT * length) % 4 == 0
        inside |= set(range(start // 4, (start + COUNT * length) // 4))
    compared = []
    monkeypatch.setattr(CheckedFile, "check_block", lambda self, block: compared.append(block))
    table = checked_table(tmp_path / "faces")
    everything = range(len(content) // 4 + bool(len(content) % 4))
    state = len(compared) - len(everything) + len(inside)  # the blocks of state.json
    assert compared[state:] == [block for block in everything if block not in inside]
    compared.clear()
    table.check_pictures()
    assert compared == list(everything)


def test_pictures_are_found_by_their_row_in_any_file(tmp_path):
    for seed in (0, 1):
        write_faces(tmp_path / f"part{seed}", seed)
    table = load_faces(tmp_path / "part1")
    renamed = table.remove_columns("domain").add_column("domain", ["else"] * COUNT)
    renamed = renamed.remove_columns("picture").add_column(
        "picture", [None if row == 2 else cell for row, cell in enumerate(stored(table, "picture"))],
        feature=picture_features()["picture"],
    )  # fmt: skip
    shutil.rmtree(tmp_path / "part1")
    renamed.save_to_disk(str(tmp_path / "other"))
    write_json(tmp_path / "other" / CARD_NAME, {"fingerprint": "else"})
    whole = checked_table(join_faces([tmp_path / "part0", tmp_path / "other"], tmp_path / "whole"))
    for column in ("image", "picture"):
        expected = [cell and cell["bytes"] for cell in whole.table.column(column).to_pylist()]
        assert [whole.picture(column, row) for row in range(2 * COUNT)] == expected
        assert [row for row, cell in enumerate(expected) if cell is None] == (
            [COUNT + 2] if column == "picture" else []
        )


def stored(table, column):
    return table.cast_column(column, Stored(decode=False))[column][:]
