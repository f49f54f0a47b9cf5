"""Recipes and names: what is refused before any work, and that names stay apart and in their folder."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.data.importers import load_importer
from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.names import check_keys, safe_name, with_safe_names
from pipelines.data.prepare.settings import PrepareRecipe, SplitSettings, build_recipe, check_options
from pipelines.errors import AgfasError
from pipelines.stages.prepare import read_recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sise": 96}, "unknown key 'sise'; did you mean 'size'"),
        ({"splits": {"trian": 0.5}}, "unknown key 'splits.trian'; did you mean 'train'"),
        ({"splits": {"train": 0.9, "dev": 0.2}}, "train and dev together are 1.1, more than 1"),
        ({"size": 8}, "'size' = 8: Input should be greater than or equal to 16"),
        ({"frame_rule": "all"}, "'frame_rule' = 'all'"),
        ({"importer": "nua"}, "Unknown importer 'nua'; did you mean 'nuaa'"),
        ({"face_detector": "yunit"}, "no face_detector 'yunit'; did you mean 'yunet'"),
        ({"template": "agfaces"}, "no template 'agfaces'; did you mean 'agfas'"),
        ({"aligned": True, "max_yaw": 30}, "max_yaw needs a face detector"),
        ({"aligned": True, "all_faces": True, "min_score": 0.5}, "all_faces and min_score needs"),
        ({"enhance": {"gama": 1.0}}, "no setting 'gama'; did you mean 'gamma'"),
        ({"enhance": "papr"}, "no enhancement 'papr'; did you mean 'paper'"),
        ({"quality": "papers"}, "'quality' = 'papers'"),
        ({"ratio": 0.5}, "'ratio' = 0.5"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_fix(content, message):
    with pytest.raises(AgfasError, match=r"my\.yaml") as caught:
        build_recipe(content, "my.yaml")
    assert message in str(caught.value)


def test_the_command_line_overrides_the_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("size: 128\nframes: 5\nsplits: {train: 0.7}\noptions: {image: picture}\n")
    recipe = read_recipe(path, {"size": 96, "frames": None, "aligned": True}, ["bonafide=1", "label=class"])
    assert (recipe.size, recipe.frames, recipe.aligned, recipe.splits.train) == (96, 5, True, 0.7)
    assert recipe.options == {"image": "picture", "bonafide": 1, "label": "class"}
    with pytest.raises(AgfasError, match="'bonafide' is not an option"):
        read_recipe(None, {}, ["bonafide"])
    with pytest.raises(AgfasError, match="No recipe at"):
        read_recipe(tmp_path / "absent.yaml", {}, [])
    path.write_text("- a list")
    with pytest.raises(AgfasError, match="mapping"):
        read_recipe(path, {}, [])


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ({"size": 5000}, [], "In the override '--size 5000': 'size' = 5000"),
        ({"face_detector": "yunett"}, [], "In the override '--face-detector yunett': there is no face_detector"),
        ({}, ["label=[a] #3"], "--option label: '#3' follows the value"),
    ],
)
def test_a_mistake_of_the_command_line_is_its_own(tmp_path, given, options, words):
    (tmp_path / "recipe.yaml").write_text("frames: 3\n")
    with pytest.raises(AgfasError) as caught:
        read_recipe(tmp_path / "recipe.yaml", given, options)
    assert words in str(caught.value)


def test_options_are_those_that_the_importer_takes():
    def find(source, domain, *, image="image"):
        return []

    check_options(PrepareRecipe(options={"image": "x"}), find)
    with pytest.raises(AgfasError, match="no option 'imaeg': did you mean 'image'"):
        check_options(PrepareRecipe(options={"imaeg": "x"}), find)
    with pytest.raises(AgfasError, match="nor any other"):
        check_options(PrepareRecipe(options={"image": "x"}), lambda source, domain: [])


def test_how_the_work_is_done_is_no_part_of_the_result():
    same = [
        PrepareRecipe(),
        PrepareRecipe(workers=3),
        PrepareRecipe(max_refused=1),
        PrepareRecipe(weights=Path("a.onnx")),
    ]
    assert all(recipe.of_the_result() == same[0].of_the_result() for recipe in same)
    assert PrepareRecipe(size=128).of_the_result() != same[0].of_the_result()
    assert PrepareRecipe().crop().enhancement is None
    assert PrepareRecipe(enhance={"gamma": 1.5}).crop().enhancement.gamma == 1.5
    assert PrepareRecipe(enhance=True).crop().enhancement == PrepareRecipe(enhance="paper").crop().enhancement
    assert PrepareRecipe(enhance="released").crop().enhancement.unsharp_amount == 0.5


NAMES = ["a", "..", ".", "", "a/b", "a%2Fb", "a\\b", "a b", "-rf", "ann.1", ".hidden", "é", "e\u0301", "日本", "\udcff",
         "a\n", "%", "A", "a..b", "con:", "x" * 300, "🙂", "\0"]  # fmt: skip


def test_safe_names_cannot_leave_a_folder_and_stay_apart():
    for name in NAMES:
        safe = safe_name(name)
        assert safe not in ("", ".", "..")
        assert not safe.startswith(".")
        assert not set(safe) & set("/\\\0\n: ")
        safe.encode()
    for one, other in itertools.combinations(NAMES, 2):
        assert safe_name(one) != safe_name(other)
    assert safe_name("ann-1_b.png") == "ann-1_b.png"


def face(video: str, path: str = "a.png", label: int = 1, subject: str = "s", frame: int = 0) -> SourceFace:
    return SourceFace(Path(path), "d/1", "none" if label else "print", subject, video, frame)


def test_all_parts_of_a_key_are_made_safe():
    (one,) = with_safe_names([face("../v", subject="a b")])
    assert (one.domain, one.subject, one.video) == ("d%2F1", "a%20b", "%2E.%2Fv")


@pytest.mark.parametrize(
    ("faces", "all_faces", "message"),
    [
        ([face("v", "a.png"), face("v", "b.png")], False, "a.png and b.png both have the key d/1/s/v/000"),
        ([face("v", "a.mp4"), face("v", "b.png", frame=4)], False, "a.mp4 and b.png both have"),
        ([face("v"), face("v", subject="t", frame=1)], False, "has the subjects 's' and 't'"),
        ([face("v", subject=name, frame=n) for n, name in enumerate("zxy")], False, "has the subjects 'x' and 'y'"),
        ([replace(face("v"), row=0), replace(face("v"), row=3)], False, "a.png row 0 and a.png row 3 both have"),
        ([face("v"), face("v", label=0, frame=1)], False, "both bona fide and attack"),
        ([face("v"), face("v-face1")], True, "name that a further face of 'v'"),
    ],
)
def test_keys_that_are_not_unique_are_refused_before_any_work(faces, all_faces, message):
    with pytest.raises(AgfasError) as caught:
        check_keys(faces, all_faces)
    assert message in str(caught.value)
    check_keys(faces[:1], all_faces)


def test_a_name_like_a_further_face_is_fine_where_it_cannot_clash():
    check_keys([face("v"), face("v-face1")], all_faces=False)
    check_keys([face("v"), face("w-face1")], all_faces=True)
    check_keys([face("v"), replace(face("v-face1"), domain="e")], all_faces=True)
    check_keys([face("v", "a.mp4"), replace(face("v", "b.png", frame=4), domain="e")], all_faces=False)


def test_paths_that_differ_and_only_look_the_same_are_said_to():
    forms = [face("v", f"{name}.png") for name in ("\u00e9", "e\u0301")]
    for faces, said in ((forms, True), ([face("v"), face("v")], False), ([face("v"), face("v", "b.png")], False)):
        with pytest.raises(AgfasError) as caught:
            check_keys(faces, all_faces=False)
        assert ("two forms of one name in Unicode" in str(caught.value)) == said


BOUNDS = {
    "limit": (1, None), "frames": (1, None), "size": (16, 2048), "max_yaw": (0.1, 90), "max_pitch": (0.1, 90),
    "ratio": (1, None), "workers": (1, None), "min_score": (0, 1), "min_quality": (0, 1), "max_refused": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_settings_are_allowed_up_to_their_bounds(name):
    least, most = BOUNDS[name]
    for value in (least, most):
        assert value is None or getattr(build_recipe({name: value}, "it"), name) == value
    for value in (0 if least == 0.1 else least - 1, *([most + 1] if most else [])):
        with pytest.raises(AgfasError, match=f"'{name}' = "):
            build_recipe({name: value}, "it")


def test_splits_share_at_most_everything():
    assert SplitSettings(train=0.75, dev=0.25).assignment() == {
        **{"official": True, "train": 0.75, "dev": 0.25, "dev_from_train": 0.0, "seed": 0},
    }
    for wrong in ({"train": 0.75, "dev": 0.26}, {"seed": -1}, {"largest_group": 1.1}, {"dev_from_train": -0.1}):
        with pytest.raises(AgfasError):
            build_recipe({"splits": wrong}, "it")
    assert SplitSettings(seed=0, largest_group=1.0, dev_from_train=1.0).seed == 0


def test_whole_numbers_of_options_have_one_form():
    options = {"a": 1.0, "b": 1.5, "c": "1.0", "d": 1, "e": True}
    found = PrepareRecipe(options=options).options
    assert {name: repr(value) for name, value in found.items()} == {
        "a": "1",
        "b": "1.5",
        "c": "'1.0'",
        "d": "1",
        "e": "True",
    }


def test_what_decides_the_dataset_and_how_faces_are_cut():
    decides = PrepareRecipe().of_the_result()
    assert set(PrepareRecipe.model_fields) - set(decides) == {
        *("workers", "max_refused", "allow_missing", "allow_leaks", "weights", "parsing_weights", "alike"),
        "na_subjects",
    }
    crop = PrepareRecipe(size=64, template="agfas", min_score=0.25).crop()
    assert (crop.size, crop.template, crop.min_score) == (64, "agfas", 0.25)


EXAMPLE = Path(__file__).parents[3] / "configs" / "prepare.yaml"


def test_the_example_recipe_says_the_defaults():
    assert read_recipe(EXAMPLE, {}, []) == PrepareRecipe()


def test_what_the_example_recipe_leaves_out_is_allowed_too():
    """Its commented keys, each with its example; together with the others they are all that there are."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"# ([a-z_]+): (.*?)(?:\s+# .*)?", line) for line in lines]
    others = dict(match.groups() for match in found if match)
    recipe = read_recipe(EXAMPLE, {name: yaml.safe_load(text) for name, text in others.items()}, [])
    assert all(getattr(recipe, name) != getattr(PrepareRecipe(), name) for name in others)
    said = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert set(said) | set(others) == set(PrepareRecipe.model_fields)
    assert set(said) & set(others) == set()
    assert set(said["splits"]) == set(SplitSettings.model_fields)
    check_options(recipe, load_importer("hf"))
