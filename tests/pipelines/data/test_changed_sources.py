"""Pictures that were replaced under their names, with sizes and times as before, are other sources."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture
from prepare_stubs import SMALL, SquareDetector

from pipelines.data.contents import folder_hash
from pipelines.data.importers.hf import picture_bytes
from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.job import open_job, run_job
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import contents, find_sources, listing
from pipelines.errors import AgfasError
from pipelines.fingerprint import file_sha256


def known_of(faces: list[SourceFace], source: Path) -> list[list[Any]]:
    """What a job depends on."""
    return listing(faces, contents(faces), source)


def bitmap(value: int) -> bytes:
    """Of one length for every value."""
    stream = io.BytesIO()
    Picture.fromarray(np.full((32, 32, 3), value, np.uint8)).save(stream, "BMP")
    return stream.getvalue()


def rows(value: int):
    from datasets import Dataset, Features, Image, Value

    pictures = [{"bytes": bitmap(value), "path": None}, {"bytes": bitmap(value + 1), "path": None}]
    features = Features({"image": Image(), "label": Value("string")})
    return Dataset.from_dict({"image": pictures, "label": ["live", "spoof"]}, features=features)


def parquet(folder: Path, value: int) -> None:
    pq.write_table(rows(value).with_format("arrow")[:], folder / "train.parquet", compression="none")


def saved(folder: Path, value: int) -> None:
    if value == 0:
        rows(value).save_to_disk(str(folder))
    else:
        (table,) = folder.glob("*.arrow")
        table.write_bytes(table.read_bytes().replace(bitmap(1), bitmap(value + 1)).replace(bitmap(0), bitmap(value)))


def class_folders(folder: Path, value: int) -> None:
    for name, content in (("bonafide", bitmap(value)), ("attack", bitmap(value + 1))):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "1.bmp").write_bytes(content)


def zipped(folder: Path, value: int) -> None:
    files = {
        "metadata.csv": "file_name,label\n0.bmp,live\n1.bmp,spoof\n",
        "0.bmp": bitmap(value),
        "1.bmp": bitmap(value + 1),
    }
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def shards(folder: Path, value: int) -> None:
    with tarfile.open(folder / "train-0.tar", "w") as archive:
        for name, content in {"0.bmp": bitmap(value), "0.cls": b"0", "1.bmp": bitmap(value + 1), "1.cls": b"1"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def listed(folder: Path, value: int) -> None:
    class_folders(folder, value)
    (folder / "list.csv").write_text("path,label\nbonafide/1.bmp,live\nattack/1.bmp,spoof\n")


def videos(folder: Path, value: int) -> None:
    for name in ("bonafide", "attack"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "1.mp4").write_bytes(bitmap(value))


def named_elsewhere(folder: Path, value: int) -> None:
    pictures = folder.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "1.bmp").write_bytes(bitmap(value))
    if value == 0:
        from datasets import Dataset, Features, Image, Value

        features = Features({"image": Image(decode=False), "label": Value("string")})
        cells = [{"bytes": None, "path": str(pictures / "1.bmp")}] * 2
        data = Dataset.from_dict({"image": cells, "label": ["live", "spoof"]}, features=features)
        data.cast_column("image", Image()).to_parquet(str(folder / "train.parquet"))


KINDS = [
    ("hf", parquet, {}),
    ("hf", saved, {}),
    ("hf", named_elsewhere, {}),
    ("hf", class_folders, {"bonafide": "bonafide"}),
    pytest.param("hf", zipped, {"bonafide": "live"}, marks=pytest.mark.slow),
    pytest.param("hf", shards, {"image": "bmp", "label": "cls", "bonafide": "1"}, marks=pytest.mark.slow),
    ("folder", class_folders, {}),
    ("folder", videos, {}),
    ("csv", listed, {}),
]


def replaced(source: Path, write) -> None:
    """Another picture in each place; sizes and times are put back."""
    files = [file for file in source.parent.rglob("*") if file.is_file() and "cache" not in file.parts]
    before = {file: file.stat() for file in files}
    write(source, 100)
    for file, found in before.items():
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
        assert file.stat().st_size == found.st_size


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize(
    ("importer", "write", "options"),
    KINDS,
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_replaced_pictures_are_other_sources(tmp_path, importer, write, options):
    source = tmp_path / "in"
    source.mkdir()
    write(source, 0)
    recipe = PrepareRecipe(importer=importer, options=options, **SMALL)
    first = find_sources(source, recipe).faces
    before = known_of(first, source)
    assert known_of(find_sources(source, recipe).faces, source) == before
    replaced(source, write)
    faces = find_sources(source, recipe).faces
    changed = known_of(faces, source)
    assert [now for now, then in zip(changed, before, strict=True) if now == then] == []
    if importer == "hf":
        assert {picture_bytes(face) for face in faces if face.row >= 0} <= {bitmap(100), bitmap(101)}


def test_the_place_of_the_sources_does_not_count(tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        parquet(tmp_path / name, 0)
    recipe = PrepareRecipe(importer="hf", domain="one", **SMALL)
    lists = [known_of(find_sources(tmp_path / name, recipe).faces, tmp_path / name) for name in ("here", "there")]
    assert lists[0] == lists[1]


@pytest.mark.parametrize(("importer", "write"), [("folder", class_folders), ("hf", saved)])
def test_a_picture_that_is_replaced_during_the_job_stops_it(tmp_path, monkeypatch, importer, write):
    source, recipe = tmp_path / "in", PrepareRecipe(aligned=True, importer=importer, **SMALL)
    source.mkdir()
    write(source, 0)
    job = open_job(source, tmp_path / "out", recipe, find_sources(source, recipe), SquareDetector)
    monkeypatch.setattr("pipelines.data.prepare.job._make_tasks", lambda *arguments: replaced(source, write))
    with pytest.raises(AgfasError, match="changed while they were read"):
        run_job(job)
    assert not any((tmp_path / "out" / ".work").iterdir())


def one_failure(monkeypatch, number: int) -> None:
    """The first source file that is hashed cannot be read, and can be a moment later."""
    left = [OSError(number, os.strerror(number), "a.png")]

    def fails_once(path: Path) -> str:
        if left:
            raise left.pop()
        return file_sha256(path)

    monkeypatch.setattr("pipelines.data.contents.file_sha256", fails_once)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [(errno.EACCES, AgfasError, "changed while they were read"), (errno.EIO, OSError, "Input/output error")],
)
def test_a_file_that_cannot_be_read_for_a_moment_is_not_taken_for_another(tmp_path, monkeypatch, number, kind, words):
    source, recipe = tmp_path / "in", PrepareRecipe(aligned=True, importer="folder", **SMALL)
    source.mkdir()
    class_folders(source, 0)
    sources = find_sources(source, recipe)
    one_failure(monkeypatch, number)
    monkeypatch.setattr("pipelines.data.contents._THREADS", 1)
    with pytest.raises(kind, match=words):
        run_job(open_job(source, tmp_path / "out", recipe, sources, SquareDetector))
    card = run_job(open_job(source, tmp_path / "out", recipe, sources, SquareDetector))
    assert card["identity"] == open_job(source, tmp_path / "out", recipe, sources, SquareDetector).identity()


def test_a_link_in_a_circle_ends(tmp_path):
    parquet(tmp_path, 0)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert len(folder_hash(tmp_path)) == 64
