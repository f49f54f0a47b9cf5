"""Extra live faces and target maps in a batch: counts, shares of two processes, one transform for all, mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_batches import Picture, make_faces
from training_parts import WHOLE

from oanet.detectors import build_detector
from oanet.objectives import build_objective
from pipelines.data.faces import Faces
from pipelines.data.protocols import Fold
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.stages.detector_batches import check_extra_live, count_domains, make_batches
from pipelines.training.balanced import BalancedBatches, ExtraLive, own_live
from pipelines.training.maps import FaceMasks, MapFolder, target_maps
from pipelines.training.parallel import split

EXTRA = {"train.extra_live": {"dataset": "corpus"}, "detector": {"name": "image_only", "preset": "tiny"}}


def corpus(count: int = 20) -> Faces:
    faces = make_faces(count)
    return replace(
        faces,
        keys=np.array([f"corpus/s{i}/v{i}/000" for i in range(count)], dtype=object),
        domains=np.array(["corpus"] * count, dtype=object),
        labels=np.ones(count, dtype=np.int64),
    )


def with_extra(ratio: float = 1.0, number: int = 2, per_cell: int = 4, **options) -> BalancedBatches:
    faces = make_faces()
    extra = ExtraLive(corpus(), np.arange(20), ratio, number, options.pop("extra_maps", {}))
    return BalancedBatches(faces, np.arange(len(faces)), ["a", "b"], None, per_cell, 0, extra=extra, **options)


@pytest.mark.parametrize(("ratio", "own"), [(1.0, 2), (3.0, 1), (1 / 3, 3)])
def test_live_to_attack_is_one_to_one_and_extra_to_own_as_asked(ratio, own):
    batch = with_extra(ratio)(0, WHOLE)
    cells = [(int(d), int(y)) for d, y in zip(batch.domain, batch.label, strict=True)]
    counts = {cell: cells.count(cell) for cell in cells}
    assert counts == {(0, 1): own, (0, 0): 4, (1, 1): own, (1, 0): 4, (2, 1): 2 * (4 - own)}
    assert sum(key.startswith("corpus/") for key in batch.key) == 2 * (4 - own)
    assert batch.label.sum() * 2 == len(batch.label)


def test_every_extra_face_comes_before_any_comes_again():
    batches = with_extra()
    drawn = [key for step in range(5) for key in batches(step, WHOLE).key if key.startswith("corpus")]
    assert len(drawn) == len(set(drawn)) == 20


def test_the_same_step_is_the_same_and_two_processes_see_what_one_sees():
    batches = with_extra(shift=2)
    whole = batches(3, WHOLE)
    assert torch.equal(whole.image, with_extra(shift=2)(3, WHOLE).image)
    parts = [batches(3, rows) for rows in split(batches.size, 2)]
    known = dict(zip(whole.key, whole.image, strict=True))
    assert sorted(key for part in parts for key in part.key) == sorted(whole.key)
    for part in parts:
        for key, image in zip(part.key, part.image, strict=True):
            assert torch.equal(known[key], image)


def test_without_a_domain_extra_faces_are_marked():
    batch = with_extra(number=-1)(0, WHOLE)
    assert [key.startswith("corpus") for key in batch.key] == (batch.domain == -1).tolist()


def test_a_ratio_that_leaves_nothing_is_explained():
    with pytest.raises(AgfasError, match=r"leaves 0 of 2 live faces.*Raise per_cell"):
        own_live(2, 9.0)
    with pytest.raises(AgfasError, match="leaves 2 of 2"):
        own_live(2, 0.1)


class Whole:
    """The face's own red channel as its map, so that a difference in geometry shows."""

    def __init__(self, faces: Faces) -> None:
        self.faces = faces

    def read(self, rows):
        return self.faces.images[rows][..., 0].astype(np.float32) / 255


def test_one_transform_moves_face_cue_and_maps():
    faces = make_faces()
    options = {"maps": {"depth": Whole(faces)}, "shift": 2}
    batch = BalancedBatches(faces, np.arange(len(faces)), ["a", "b"], Picture(faces), 6, 0, **options)(1, WHOLE)
    assert torch.equal(batch.image, batch.cue)
    torch.testing.assert_close(batch.depth, (batch.image[:, :1] + 1) / 2)
    extra = with_extra(maps={"depth": Whole(faces)}, extra_maps={"depth": Whole(corpus())}, shift=2)(1, WHOLE)
    torch.testing.assert_close(extra.depth, (extra.image[:, :1] + 1) / 2)


def write_map(folder: Path, key: str, values: np.ndarray, suffix: str = ".png") -> None:
    path = folder / f"{key}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npz":
        np.savez(path, depth=values)
    elif values.dtype == np.uint16:
        Image.fromarray(values).save(path)
    else:
        Image.fromarray(np.round(values * 255).astype(np.uint8)).save(path)


def test_maps_are_read_by_key_and_zero_for_the_other_label(tmp_path):
    faces = make_faces(6)
    live = np.flatnonzero(faces.labels == 1)
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    write_map(tmp_path, str(faces.keys[live[0]]), values)
    write_map(tmp_path, str(faces.keys[live[1]]), values, ".npz")
    maps = MapFolder(faces, tmp_path, 1, np.arange(6), "train.depth_maps")
    read = maps.read(np.arange(6))
    assert not read[faces.labels == 0].any()
    np.testing.assert_allclose(read[live[0]], values, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(read[live[1]], values, atol=1e-6)
    write_map(tmp_path, str(faces.keys[live[0]]), (values * 65535).astype(np.uint16))
    np.testing.assert_allclose(maps.read(live[:1])[0], values, atol=1e-4)


def test_missing_and_broken_maps_are_explained(tmp_path):
    faces = make_faces(6)
    live = np.flatnonzero(faces.labels == 1)
    write_map(tmp_path, str(faces.keys[live[0]]), np.ones((8, 8), np.float32))
    with pytest.raises(AgfasError, match=rf"1 of 2 live faces have no map.*{faces.keys[live[1]]}"):
        MapFolder(faces, tmp_path, 1, np.arange(6), "train.depth_maps")
    write_map(tmp_path, str(faces.keys[live[1]]), np.full((8, 8), 7, np.float32), ".npz")
    maps = MapFolder(faces, tmp_path, 1, np.arange(6), "train.depth_maps")
    broken = maps._find(str(faces.keys[live[1]]))
    for values in (np.full((8, 8), 1.1), np.full((8, 8), -0.1), np.full((8, 8), np.nan), np.zeros((1, 8, 8))):
        np.savez(broken, depth=values)
        with pytest.raises(
            AgfasError, match=r"train\.depth_maps: .*npz cannot be .* in \[0, 1\], got one of shape \("
        ) as no:
            maps.read(live)
        assert str(values.shape) in str(no.value)
    np.savez(broken, depth=np.ones((8, 8)), other=np.ones((8, 8)))
    with pytest.raises(AgfasError, match="it holds 2 arrays instead of one"):
        maps.read(live)
    np.savez(broken, depth=np.eye(4))  # from 0 to 1, of another size
    assert maps.read(live[1:])[0].max() == 1
    write_map(tmp_path, str(faces.keys[live[1]]), np.zeros((8, 8), np.float32))
    assert not maps.read(live[1:]).any()  # a PNG counts before an array
    for path in (broken, broken.with_suffix(".png")):
        path.unlink()
    with pytest.raises(AgfasError, match=rf"{faces.keys[live[1]]} cannot be read as a map: the file was removed"):
        maps.read(live)
    with pytest.raises(
        AgfasError, match=rf"2 of 2 attacks have no map in .*{faces.keys[np.flatnonzero(faces.labels == 0)[0]]}"
    ):
        target_maps(("reflection",), (), faces, np.arange(4), {"reflection": tmp_path})
    with pytest.raises(
        AgfasError, match=r"The objective requires depth maps\. Set train\.depth_maps to a folder of them\.$"
    ):
        target_maps(("depth",), ("depth",), faces, live, {})
    with pytest.raises(AgfasError, match="parsing-weights"):
        target_maps(("mask",), ("mask",), faces, live, {})
    with pytest.raises(AgfasError, match="parsing-weights"):
        FaceMasks(faces)
    with pytest.raises(AgfasError, match=r"reflection_target = ellipse"):
        target_maps(("reflection",), ("reflection",), faces, live, {"reflection": None})
    assert target_maps(("depth", "mask"), (), faces, live, {"depth": None}) == {}
    masked = replace(faces, masks=np.ones((6, 8, 8), np.uint8))
    assert target_maps(("depth", "mask"), (), masked, live, {"depth": None})["mask"].read(live).shape == (2, 8, 8)
    assert list(target_maps(("depth", "mask"), (), masked, live[:1], {"depth": tmp_path})) == ["depth", "mask"]


def experiment(**overrides) -> Experiment:
    return with_overrides(Experiment(), {**EXTRA, "train.per_cell": 4, **overrides})


def together() -> Faces:
    one, other = make_faces(), corpus()
    names = ("keys", "labels", "domains", "subjects", "videos", "attack_types", "splits", "images")
    return replace(one, **{name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names})


def objective(name: str = "ssdg", domains: int = 2):
    return build_objective(name, build_detector("image_only", preset="tiny"), domains)


def test_the_stage_draws_from_the_corpus_of_the_same_dataset():
    faces, fold = together(), Fold("to_c", ("a", "b"), ("a", "b"), ("c",))
    rows = np.flatnonzero(faces.domains != "corpus")
    for domain, number in (("own", 2), ("none", -1)):
        wanted = experiment(**{"train.extra_live.domain": domain})
        assert count_domains(wanted, fold) == (3 if domain == "own" else 2)
        batch = make_batches(wanted, faces, None, fold, rows, objective())(0, WHOLE)
        assert set(batch.domain[[key.startswith("corpus") for key in batch.key]].tolist()) == {number}
        loss = objective(domains=count_domains(wanted, fold))(batch, 0.5)["loss"]
        assert torch.isfinite(loss)


def test_mistakes_with_extra_faces_are_explained():
    fold = Fold("to_c", ("a", "b"), ("a", "b"), ("corpus",))
    faces = together()
    with pytest.raises(AgfasError, match="which the protocol trains or tests on"):
        make_batches(experiment(), faces, None, fold, np.arange(48), objective())
    with pytest.raises(AgfasError, match="has no live faces"):
        make_batches(experiment(), make_faces(), None, fold, np.arange(48), objective())
    with pytest.raises(AgfasError, match=r"'oanet' takes a cue"):
        check_extra_live(experiment(detector={"name": "oanet", "preset": "tiny"}), objective())
    with pytest.raises(AgfasError, match=r"extra_live\.domain = none"):
        check_extra_live(experiment(), objective("sa_fas"))
    check_extra_live(experiment(**{"train.extra_live.domain": "none"}), objective("sa_fas"))
    with pytest.raises(AgfasError, match="reads no depth maps"):
        make_batches(
            experiment(**{"train.depth_maps": "maps"}), faces, None, replace(fold, test_domains=("c",)),
            np.arange(48), objective(),
        )  # fmt: skip
