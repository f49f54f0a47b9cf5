"""What every importer keeps to, how files are looked for, and how numbers are set against what was found."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from dataset_tree import touch

from pipelines.data.formats import SUFFIXES, VIDEO_SUFFIXES
from pipelines.data.importers import IMPORTERS, importer_module, load_importer
from pipelines.data.importers.layout import Expected, Layout, check_counts
from pipelines.data.importers.source import LeftOut, SourceFace, files_in, media_in, names_below, split_of
from pipelines.data.importers.words import ATTACK_TYPES
from pipelines.data.prepare.card import expectation
from pipelines.data.records import SPLITS
from pipelines.errors import AgfasError

# Layouts of ours have no paper; every other importer names where it learned its layout.
OURS = {"folder", "live", "csv"}
LABELS = ("bona fide", "attack")
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


# Title, top folders and an example of every dataset; none of the folders: files may be anywhere.
LAYOUTS = {
    "msu_mfsd": ("MSU-MFSD", "scene01/", "scene01/real/real_client001_android_SD_scene01.mp4"),
    "casia_fasd": ("CASIA-FASD", "train_release/, test_release/", "train_release/1/HR_2.avi"),
    "replay_attack": (
        "Idiap Replay-Attack",
        "train/, devel/, test/, replayattack-train/, replayattack-devel/, replayattack-test/",
        "train/attack/hand/attack_print_client001_session01_highdef_photo_adverse.mov",
    ),
    "oulu_npu": ("OULU-NPU", "Train_files/, Dev_files/, Test_files/", "Train_files/1_1_01_1.avi"),
    "hkbu_mars": ("HKBU-MARs", "", "real/01/01_01_1.avi (version 2) or 01_03_02.mp4 (version 1)"),
    "wffd": ("WFFD", "Protocol3/, Protocol1/, Protocol2/", "Protocol3/Train/real/0001.jpg"),
    "rose_youtu": ("ROSE-Youtu", "", "2/G_NT_5s_wg_E_2_1.mp4"),
    "siw": ("SiW", "Train/, Test/", "Train/live/003/003-1-1-1-1.mov"),
    "wmca": ("WMCA", "face-station/", "face-station/12.02.18/100_03_015_2_10.mp4"),
    "celeba_spoof": ("CelebA-Spoof", "Data/", "Data/train/1/live/000184.png"),
    "ffhq": ("FFHQ", "", "images1024x1024/00000/00000.png"),
    "threedmad": ("3DMAD", "session01/, session02/, session03/", "session01/Data/04_01_05.mp4"),
    "csmad": ("CSMAD", "bonafide/, attack/", "bonafide/A/A_gen_i0_061.mp4"),
    "msspoof": ("MSSpoof", "real/, attack/", "attack/VS/IR/train/02_1_vs_ir_3_1.pgm"),
    "nuaa": (
        "NUAA",
        "bonafide/, attack/, ClientRaw/, ImposterRaw/, ClientFace/, ImposterFace/",
        "ClientRaw/0001/0001_00_00_01_12.jpg",
    ),
    "utkface": ("UTKFace", "", "20_0_0_20170117134042772.jpg"),
}
LIST = "path, label and, optionally, subject, video, attack_type, domain, split, age, sex, ethnicity"
EMPTY = {
    "folder": "HERE needs the folders bonafide/ and attack/; bonafide/ is missing. Rename them, or say which are bona"
    " fide with --option bonafide=FOLDER; for live faces alone use --importer live.",
    "hf": "HERE holds no picture. Expected: [SPLIT/]CLASS/FILE, for example train/live/1.png.",
    "csv": f"HERE holds 0 .csv files; give one list with the columns {LIST}.",
    "live": f"No pictures or videos in HERE: none of its files ends in {', '.join(SUFFIXES + VIDEO_SUFFIXES)}."
    " Expected: pictures or videos of live faces, in folders of any names.",
}
ABSENT = {
    "folder": "HERE cannot be read as a folder (No such file or directory).",
    "hf": "No folder at HERE. Expected: a folder of a Hugging Face dataset, or a hub id USER/NAME.",
    "csv": f"HERE holds no file; give one list with the columns {LIST}.",
}


def lacking(name: str, others: dict[str, str], without_folders: str) -> str:
    """What the importer of a name says of HERE."""
    if name in others:
        return others[name]
    title, folders, example = LAYOUTS.get(name, ("", "", ""))
    if not folders:
        return without_folders.format(title=title, example=example)
    return f"No {title} at HERE: it contains none of {folders}. Expected: {example}. Give the folder that contains it."


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_says_what_an_empty_or_absent_folder_lacks(name, tmp_path):
    nothing = "No pictures or videos of {title} in HERE. Expected: {example}."
    for here, wanted in (
        (tmp_path, lacking(name, EMPTY, nothing)),
        (tmp_path / "absent", lacking(name, ABSENT, "No folder at HERE.")),
    ):
        with pytest.raises(AgfasError) as caught:
            load_importer(name)(here, "d")
        assert str(caught.value).replace(str(here), "HERE") == wanted


def test_our_own_layouts_have_plain_titles():
    titles = {name: importer_module(name).TITLE for name in IMPORTERS if name not in LAYOUTS}
    assert titles == {
        "folder": "your own pictures and videos",
        "live": "your own pictures and videos",
        "hf": "a Hugging Face dataset",
        "csv": "a list of your own",
    }


def test_full_copies_have_the_numbers_of_their_papers():
    """Bona fide and attack videos, by the splits that are counted together."""
    both = " of train and test [training and test, as the leave-one-out protocols use them]"
    numbers = {
        "msu_mfsd": [("bona fide", 70), ("attack (print)", 70), ("attack (replay)", 140)],
        "casia_fasd": pairs((" of train", 60, 180), (" of test", 90, 270)),
        "replay_attack": pairs((both, 140, 700), (" of dev", 60, 300)),
        "oulu_npu": pairs((both, 720, 2880), (" of dev", 270, 1080)),
        "siw": pairs((" of train", 714, 1703), (" of test", 599, 1462)),
        "wmca": [
            *(("bona fide", 347), ("attack (print)", 200), ("attack (replay)", 348), ("attack (head)", 122)),
            *(("attack (mask)", 137), ("attack (flexible_mask)", 379), ("attack (paper_mask)", 71)),
            ("attack (partial) [glasses]", 75),
        ],
        "ffhq": [("bona fide of train", 60_000), ("bona fide of dev", 10_000)],
        "threedmad": pairs((" of train", 70, 35), (" of dev", 50, 25), (" of test", 50, 25)),
        "csmad": pairs(("", 87, 159)),
        "msspoof": pairs((" [pictures]", 1253, 3010)),
    }
    for name in IMPORTERS:
        counts = check_counts([], getattr(importer_module(name), "EXPECTED", ()))
        wanted = [f"{what}: 0 of {number} videos, {number} MISSING" for what, number in numbers.get(name, [])]
        assert [expectation(count) for count in counts] == wanted


def pairs(*rows: tuple[str, int, int]) -> list[tuple[str, int]]:
    return [(f"{label}{where}", number) for where, *two in rows for label, number in zip(LABELS, two, strict=True)]


def test_what_a_file_is_unless_an_importer_says_more(tmp_path):
    touch(tmp_path, "1_1_01_1.avi")
    (only,) = load_importer("oulu_npu")(touch(tmp_path, "Train_files/1_1_01_1.avi"), "Jose\u0301")
    unsaid = {"frame": 0, "subject_known": True, "age": -1, "sex": "", "ethnicity": ""}
    path = tmp_path / "Train_files" / "1_1_01_1.avi"
    names = {"domain": "Jos\u00e9", "subject": "01", "video": "1_1_01_1", "attack_type": "none", "split": "train"}
    assert asdict(only) == {"path": path, **names, **unsaid, "row": -1, "column": "", "content": ""}
    assert only.is_video
    assert not replace(only, row=0).is_video


def test_a_source_and_the_split_behind_its_sign(tmp_path):
    (tmp_path / "me@home").mkdir()
    for given, place, split in (
        *(("a/b@train", "a/b", "train"), ("a@b/c", "a@b/c", ""), ("a/b", "a/b", ""), ("a@b@c", "a@b", "c")),
        (f"{tmp_path}/me@home", f"{tmp_path}/me@home", ""),
    ):
        assert split_of(Path(given)) == (Path(place), split)


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
    touch(tmp_path, "d/" * 100 + "a.png")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        assert len(media_in(tmp_path)) == 1
    finally:
        sys.setrecursionlimit(before)


def test_names_below_a_folder():
    paths = [
        Path("x/a/b.png"),
        Path("x/c.png"),
        Path("x/c.jpg"),
        Path("x/.png"),
        Path("y/d.png"),
        Path("x/e\udcff.png"),
        Path("/X/f.png"),
    ]
    assert names_below(Path("x"), paths) == ["a-b", "c.png", "c.jpg", ".png", "y-d", "e\\udcff", "X-f"]


def test_a_dataset_that_is_there_twice(tmp_path):
    touch(tmp_path, "a/Train_files/1_1_01_1.avi", "b/Train_files/1_1_01_1.avi")
    with pytest.raises(AgfasError, match=r"OULU-NPU more than once: .*a, .*b"):
        load_importer("oulu_npu")(tmp_path, "d")


def test_top_folders_are_looked_for_two_levels_down_and_not_behind_links(tmp_path, monkeypatch):
    two, three = ("1/2/Train_files/1_1_01_1.avi", "1/2/3/Train_files/1_1_01_1.avi")
    assert len(load_importer("oulu_npu")(touch(tmp_path / "two", two), "d")) == 1
    (touch(tmp_path / "linked", "x") / "1").symlink_to(tmp_path / "two")
    for source in (touch(tmp_path / "three", three), tmp_path / "linked"):
        with pytest.raises(AgfasError, match=r"No OULU-NPU at .*Give the folder that contains it"):
            load_importer("oulu_npu")(source, "d")
    scan = os.scandir

    def scandir(folder):
        if str(folder).endswith("shut"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    touch(tmp_path / "two", "shut/x")
    monkeypatch.setattr(os, "scandir", scandir)
    assert len(load_importer("oulu_npu")(tmp_path / "two", "d")) == 1


def test_at_most_three_of_the_files_that_do_not_fit_are_listed():
    layout = Layout("Three", (), "", "a/b.png")
    said = [str(layout.not_so_called([Path(name) for name in names])) for names in ("x", "xyz", "xyzw")]
    advice = "Move files that are not part of the dataset elsewhere, or use another importer (`folder`, `csv`)."
    assert said == [
        f"1 file is not called as in Three (a/b.png): x. {advice}",
        f"3 files are not called as in Three (a/b.png): x, y, z. {advice}",
        f"4 files are not called as in Three (a/b.png): x, y, z and 1 more. {advice}",
    ]


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
