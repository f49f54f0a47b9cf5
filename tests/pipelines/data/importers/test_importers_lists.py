"""Lists as CSV, made by strangers."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_tree import said, touch

from pipelines.data.importers import load_importer
from pipelines.errors import AgfasError


def listed(folder, text, encoding="utf-8"):
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return load_importer("csv")(path, "mine")


def test_every_column(tmp_path):
    (face,) = listed(
        tmp_path,
        "path,label,subject,video,attack_type,domain,split,age,sex,ethnicity\n"
        "sub/a.png,Spoof,ann,v1,print,phones,validation,34,female,Asian\n",
    )
    assert said(face) == (0, "print", "ann", "v1", 0, "dev")
    assert (face.path, face.domain, face.subject_known) == (tmp_path / "sub" / "a.png", "phones", True)
    assert (face.age, face.sex, face.ethnicity) == (34, "female", "Asian")


@pytest.mark.parametrize("word", ["bonafide", "live", "Real", "genuine", "BONA_FIDE", " bona fide "])
def test_words_for_bona_fide(tmp_path, word):
    (face,) = listed(tmp_path, f"path,label\na.png,{word}\n")
    assert (face.label, face.attack_type) == (1, "none")


@pytest.mark.parametrize("word", ["attack", "SPOOF", "fake", "Presentation-Attack"])
def test_words_for_attack(tmp_path, word):
    (face,) = listed(tmp_path, f"path,label\na.png,{word}\n")
    assert (face.label, face.attack_type) == (0, "attack")


def test_without_subjects_none_is_known_and_every_row_is_its_own_video(tmp_path):
    one, two, film = listed(tmp_path, "path,label\na/1.png,live\n\nb/1.png,live\nc.mp4,live\n")
    assert [face.subject for face in (one, two, film)] == ["a-1", "b-1", "c"]
    assert not any(face.subject_known for face in (one, two, film))
    assert [face.is_video for face in (one, two, film)] == [False, False, True]
    assert one.domain == "mine"
    assert (one.age, one.sex, one.ethnicity, one.split) == (-1, "", "", "")


def test_pictures_of_one_video_are_numbered(tmp_path):
    text = "label;path;subject;video\nlive;2.png;ann;v\nlive;1.png;ann;v\nlive;3.png;bob;w\nlive;4.png;ann;\n"
    text += "live;5.mp4;ann;v\nlive;6.png;;v\n"
    faces = listed(tmp_path, text, "utf-8-sig")
    assert [(face.subject, face.video, face.frame) for face in faces] == [
        *(("ann", "v", 0), ("ann", "v", 1), ("bob", "w", 0), ("ann", "ann-4", 0), ("ann", "v", 0), ("v", "v", 0))
    ]
    assert [face.subject_known for face in faces] == [True] * 5 + [False]


def test_a_folder_with_one_list(tmp_path):
    listed(tmp_path, "path,label\na.png,live\n").pop()
    (tmp_path / "list.csv").rename(tmp_path / "list.CSV")
    (tmp_path / "._list.csv").write_text("of a Mac")
    assert len(load_importer("csv")(tmp_path, "mine")) == 1


def test_absolute_paths_are_taken_as_they_are(tmp_path):
    (face,) = listed(tmp_path, "path,label\n/elsewhere/a.png,live\n")
    assert (face.path.as_posix(), face.subject) == ("/elsewhere/a.png", "elsewhere-a")


@pytest.mark.parametrize("path", ["../a.png", "sub/../../a.png", ".."])
def test_a_path_that_leaves_the_folder(tmp_path, path):
    with pytest.raises(AgfasError, match=r"line 2: .* leaves the folder of the list by `\.\.`"):
        listed(tmp_path, f"path,label\n{path},live\n")


def test_a_path_with_dots_that_stays(tmp_path):
    (face,) = listed(tmp_path, "path,label\nsub/../a..b.png,live\n")
    assert face.path == tmp_path / "a..b.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lable\na.png,live\n", "no column is called 'lable'; did you mean 'label'"),
        ("path\na.png\n", "the column 'label' is missing"),
        ("path,label,label\na.png,live,live\n", "'label' appears twice"),
        ("path,label\na.png,lvie\n", r"'lvie' \(line 2\) has no common meaning \(did you mean 'live'"),
        ("path,label\na.png,live\nb.png\n", "line 3: 1 values for 2 columns"),
        (f"path,label\na.png,{'x' * 200_000}\n", r"not a list of comma-separated values \(field larger than"),
        ("path,label,split\na.png,live,\nb.png,live,train\nc.png,live,\n", "line 2: no split, though"),
        ("path,label\n,live\n", "line 2: the path is empty"),
        ("path,label\na.png,\n", "line 2: no label"),
        ("path,label\na.png,live\nb.png,live\n./a.png,live\n", "line 4: ./a.png is the file of line 2 again"),
        ("path,label,age\na.png,live,old\n", "line 2: the age 'old'"),
        ("path,label,age\na.png,live,1999\n", "line 2: the age '1999'"),
        ("path,label,age\na.png,live,-1\n", "line 2: the age '-1' is no number of years"),
        ("path,label\na\0.png,live\n", "line 2: the path is no text|not a list of comma"),
        ("path,label,split\na.png,live,trian\n", "line 2: 'trian' is no split; did you mean 'train'"),
        ("path,label,split\na.png,live,train\nb.png,live,\n", "line 3: no split, though"),
        ("path,label,attack_type\na.png,live,print\n", "line 2: attack_type 'print' does not go with the label 'live'"),
        ("path,label,attack_type\na.png,fake,none\n", "attack_type 'none' does not go with"),
        ("path,label\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_mistakes_are_answered_with_the_fix(tmp_path, text, message):
    with pytest.raises(AgfasError, match=message):
        listed(tmp_path, text)


def test_a_list_that_is_no_text(tmp_path):
    with pytest.raises(AgfasError, match="not UTF-8"):
        listed(tmp_path, "path,label\nä.png,live\n", "latin-1")


def test_a_folder_with_two_lists(tmp_path):
    listed(tmp_path, "path,label\na.png,live\n")
    (tmp_path / "other.csv").write_text("")
    with pytest.raises(AgfasError, match=r"2 \.csv files"):
        load_importer("csv")(tmp_path, "mine")


def test_numbers_are_asked_for_and_named_by_an_option(tmp_path):
    text = "path,label\na.png,0\nb.png,1\n"
    with pytest.raises(AgfasError, match=r"Which labels mean bona fide\? '0' \(line 2\).* there are: 0, 1\."):
        listed(tmp_path, text)
    for option, value in (("live", 0), ("bonafide", "0"), ("bonafide", "0.0")):
        faces = load_importer("csv")(tmp_path / "list.csv", "mine", **{option: value})
        assert [face.label for face in faces] == [1, 0]


def test_files_are_found_in_the_spelling_of_another_system(tmp_path):
    """Backslashes of Windows, the Unicode form of a Mac, and case that neither of them minds."""
    touch(tmp_path, "Live/Jos\u00e9.png", "Live/b.png", "twice/C.png", "twice/c.png")
    values = ("live\\jose\u0301.PNG", "Live\\b.png", "twice/C.PNG")
    *found, unclear = listed(tmp_path, "path,label\n" + "".join(f"{value},live\n" for value in values))
    assert [face.path for face in found] == [tmp_path / "Live" / "Jos\u00e9.png", tmp_path / "Live" / "b.png"]
    # Two files differ in case alone, so neither is meant for sure; it is refused when it is read.
    assert unclear.path == tmp_path / "twice" / "C.PNG"
    with pytest.raises(AgfasError, match="leaves the folder"):
        listed(tmp_path, "path,label\n..\\d.png,live\n")


def test_one_file_by_two_links_is_listed_twice(tmp_path):
    (touch(tmp_path, "a.png") / "b.png").hardlink_to(tmp_path / "a.png")
    with pytest.raises(AgfasError, match=r"line 3: b\.png is the file of line 2 again"):
        listed(tmp_path, "path,label\na.png,live\nb.png,live\n")


@pytest.mark.parametrize("text", ["\ufeffPath;Label;Attack Type\r\na.png;Print;\r\n", "PATH\tLABEL\ra.png \t print\r"])
def test_lists_as_spreadsheets_write_them(tmp_path, text):
    (face,) = listed(tmp_path, text)
    assert (face.path, face.attack_type) == (tmp_path / "a.png", "print")


def test_ages_and_names_of_files_are_kept_as_they_are(tmp_path):
    """A carriage return is allowed in a name."""
    faces = listed(tmp_path, 'path,label,age\n"a\rb.png",live,116\nc.png,live,0\n')
    assert [(face.path.name, face.age) for face in faces] == [("a\rb.png", 116), ("c.png", 0)]


def test_a_list_that_cannot_be_opened(tmp_path, monkeypatch):
    def shut(*_, **__):
        raise PermissionError(13, "Permission denied")

    source = touch(tmp_path, "list.csv") / "list.csv"
    monkeypatch.setattr(Path, "open", shut)
    with pytest.raises(AgfasError, match=r"list\.csv cannot be read \(Permission denied\)\. Check its permissions"):
        load_importer("csv")(source, "mine")


def test_a_path_below_a_file_is_refused_when_it_is_read(tmp_path):
    (face,) = listed(touch(tmp_path, "a.png"), "path,label\nA.PNG/b.png,live\n")
    assert face.path == tmp_path / "A.PNG" / "b.png"
