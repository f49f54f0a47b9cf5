"""What every importer keeps to, how files are looked for, and how numbers are set against what was found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from dataset_tree import touch

from pipelines.data.importers import IMPORTERS, importer_module, load_importer
from pipelines.data.importers.layout import Expected, check_counts
from pipelines.data.importers.source import LeftOut, SourceFace, files_in, media_in, names_below
from pipelines.data.importers.words import ATTACK_TYPES
from pipelines.data.records import SPLITS
from pipelines.errors import AgfasError

# Layouts of ours have no paper; every other importer names where it learned its layout.
OURS = {"folder", "live", "csv"}
SOURCES = re.compile(r"paper|page|interface|README|documentation|published readers")


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_says_what_it_is(name):
    module = importer_module(name)
    assert all(isinstance(getattr(module, constant), str) for constant in ("TITLE", "CITATION", "LICENCE", "VERIFIED"))
    assert module.TITLE
    assert module.LICENCE.endswith(".")
    assert module.VERIFIED.endswith(".")
    assert load_importer(name).__module__ == module.__name__
    if name in OURS:
        assert "Our own layout" in module.__doc__
    else:
        assert SOURCES.search(module.__doc__)
        assert bool(module.CITATION) == (name != "hf")


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_expected_number_is_of_something(name):
    for number in getattr(importer_module(name), "EXPECTED", ()):
        assert number.label in (0, 1)
        assert number.videos > 0
        assert set(number.splits) <= set(SPLITS)
        assert number.attack_type is None or (number.label == 0 and number.attack_type in ATTACK_TYPES)


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_says_what_an_empty_folder_lacks(name, tmp_path):
    with pytest.raises(AgfasError, match=r"needs the folders|Expected: .{5}|give one list with the columns path"):
        load_importer(name)(tmp_path, "d")


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_says_when_there_is_no_such_folder(name, tmp_path):
    with pytest.raises(AgfasError, match=r"absent"):
        load_importer(name)(tmp_path / "absent", "d")


def test_an_unknown_importer():
    with pytest.raises(AgfasError, match="'oulu'; did you mean 'oulu_npu'"):
        load_importer("oulu")


def test_the_registry_costs_nothing_heavy():
    code = (
        "import sys; from pipelines.data.importers import IMPORTERS, importer_module;"
        "list(map(importer_module, IMPORTERS));"
        "print([name for name in ('torch', 'cv2', 'av', 'datasets', 'numpy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def face(label=1, split="train", video="v", kind="none", domain="d"):
    assert label == (kind == "none")
    return SourceFace(Path("x"), domain, kind, "s", video, split=split)


def test_videos_are_counted_not_frames():
    faces = [face(video="a"), face(video="a"), face(video="b"), face(video="b", domain="e"), face(0, kind="print")]
    (count,) = check_counts(faces, (Expected(1, 5),))
    assert (count.found, count.missing) == (3, 2)


def test_counts_by_split_and_attack_type():
    faces = [face(video="1"), face(video="2", split="dev"), face(0, "test", "3", "print"), face(0, "test", "4", "mask")]
    expected = (
        Expected(1, 1, ("train", "test")),
        Expected(1, 1, ("dev",)),
        Expected(0, 1),
        Expected(0, 2, ("test",), "mask"),
        Expected(0, 1, ("train",)),
    )
    counts = check_counts(faces, expected)
    assert [(count.found, count.missing) for count in counts] == [(1, 0), (1, 0), (2, 0), (1, 1), (0, 1)]


def test_media_are_listed_by_folder_and_name(tmp_path):
    touch(tmp_path, "b.PNG", "a/2.mp4", "a/10.jpg", "c.txt", "a.mov", "__MACOSX/a.png", "a/._2.mp4")
    assert [path.relative_to(tmp_path).as_posix() for path in media_in(tmp_path)] == [
        "a/10.jpg",
        "a/2.mp4",
        "a.mov",
        "b.PNG",
    ]


def test_links_loops_and_devices_are_left_out_and_reported(tmp_path):
    touch(tmp_path, "in/a.png", "out/secret.png")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "secret.png")
    (tmp_path / "in" / "self.png").symlink_to(tmp_path / "in" / "self.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert media_in(tmp_path / "in") == [tmp_path / "in" / "a.png"]
    left_out = {warning.message.path.name: warning.message.reason for warning in caught}
    assert set(left_out) == {"loop", "out", "link.png", "self.png", "pipe.png"}
    assert "link" in left_out["loop"]
    assert "neither" in left_out["pipe.png"]


def test_a_folder_that_cannot_be_read_is_reported_and_the_others_are_read(tmp_path, monkeypatch):
    touch(tmp_path, "shut/a.png", "open/b.png")
    scan = os.scandir

    def scandir(folder):
        if str(folder).endswith("shut"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(LeftOut, match=r"shut was left out: the folder cannot be read \(Permission denied\)"):
        assert media_in(tmp_path) == [tmp_path / "open" / "b.png"]
    with pytest.raises(AgfasError, match="shut cannot be read"):
        files_in(tmp_path / "shut", (".png",))


def test_a_deep_tree_is_no_recursion(tmp_path):
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
    deep.mkdir(parents=True)
    touch(deep, "a.png")
    assert len(media_in(tmp_path)) == 1


def test_names_below_a_folder():
    paths = [
        Path("x/a/b.png"),
        Path("x/c.png"),
        Path("x/c.jpg"),
        Path("x/.png"),
        Path("y/d.png"),
        Path("x/e\udcff.png"),
    ]
    assert names_below(Path("x"), paths) == ["a-b", "c.png", "c.jpg", ".png", "y-d", "e\\udcff"]


def test_a_dataset_that_is_there_twice(tmp_path):
    touch(tmp_path, "a/Train_files/1_1_01_1.avi", "b/Train_files/1_1_01_1.avi")
    with pytest.raises(AgfasError, match=r"OULU-NPU more than once: .*a, .*b"):
        load_importer("oulu_npu")(tmp_path, "d")


def test_a_relative_source(tmp_path, monkeypatch):
    touch(tmp_path, "Train_files/1_1_01_1.avi")
    monkeypatch.chdir(tmp_path)
    (face,) = load_importer("oulu_npu")(Path("."), "d")
    assert face.video == "1_1_01_1"


PLUGIN = """
from pipelines.data.importers.source import SourceFace, media_in

LICENCE = "Of the plug-in."


def find(source, domain):
    return [SourceFace(path, domain, "none", path.stem, path.stem) for path in media_in(source)]


class Find:
    def __call__(self, source, domain, *, kind="print"):
        return [SourceFace(path, domain, kind, path.stem, path.stem) for path in media_in(source)]
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package with two importers, one of them an entry point."""
    (tmp_path / "own_dataset.py").write_text(PLUGIN)
    info = tmp_path / "own_dataset-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-dataset\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agfas.importers]\nown = own_dataset:Find\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield touch(tmp_path / "pictures", "a.png")
    sys.modules.pop("own_dataset", None)


def test_importers_of_other_packages(plugin):
    for name, label, kind in (("own_dataset:find", 1, "none"), ("own_dataset:Find", 0, "print"), ("own", 0, "print")):
        (face,) = load_importer(name)(plugin, "mine")
        assert (face.label, face.attack_type, face.subject) == (label, kind, "a")
        assert importer_module(name).LICENCE == "Of the plug-in."
    assert list(IMPORTERS)[-1] == "own"


@pytest.mark.parametrize("address", ["own_dataset:absent", "absent_module:find"])
def test_an_importer_that_cannot_be_imported(plugin, address):
    with pytest.raises(AgfasError, match=f"importer '{address}' cannot be imported"):
        load_importer(address)
