"""Names and numbers that are checked, and weight files that are read, to the letter and up to their bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from dfg.state_dict import read_state_dict
from oanet.batch import FaceBatch
from oanet.checkpoints import _numpy_scalars, load_weights, read_checkpoint
from oanet.checks import check_name, check_range, nearest
from oanet.detectors import build_detector
from oanet.objectives import build_objective


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", (0, 0.5, 1), (-1e-9, 1.1)),
        ("[0, 1)", (0, 0.999), (-1e-9, 1)),
        ("(0, 1]", (1e-9, 1), (0, 1.1)),
        ("(0, inf)", (1e-9, 1e300), (0, float("inf"), float("nan"))),
        ("[-2, inf)", (-2,), (-2.1, float("nan"))),
    ],
)
def test_bounds_belong_to_the_interval_or_not(interval, inside, outside):
    for value in inside:
        check_range(interval, other=inside[0], size=value)
    for value in outside:
        with pytest.raises(ValueError, match="must be in") as error:
            check_range(interval, other=inside[0], size=value)
        assert str(error.value) == f"size = {value}; it must be in {interval}."


def test_the_nearest_name_is_half_alike():
    assert nearest("oanett", ["oanet", "image_only"]) == "did you mean 'oanet'? Allowed: image_only, oanet."
    assert nearest("vdd", ["deep_svdd", "a"]) == "did you mean 'deep_svdd'? Allowed: a, deep_svdd."  # 6 of 12 letters
    assert nearest("dp", ["anoddpm"]) == "Allowed: anoddpm."  # 4 of 9
    assert nearest("x", []) == "Allowed: none."
    check_name("head", "a", iter("ab"))
    with pytest.raises(ValueError, match=r"^Unknown head 'c'; Allowed: a, b\.$"):
        check_name("head", "c", iter("ab"))


def test_numbers_of_numpy_are_read_with_the_tensors(tmp_path):
    content = {"a": np.float32(0.5), "b": np.float64(2.5), "c": np.int64(3), "d": torch.ones(2)}
    torch.save(content, tmp_path / "a.pt")
    read = read_checkpoint(tmp_path / "a.pt")
    assert {name: float(read[name]) for name in "abc"} == {"a": 0.5, "b": 2.5, "c": 3.0}
    named = {entry[1] for entry in _numpy_scalars() if isinstance(entry, tuple)}
    assert named == {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}  # of numpy 1 and 2


@pytest.mark.parametrize("read", [read_checkpoint, read_state_dict])
def test_files_are_unpickled_safely_and_on_the_cpu(tmp_path, monkeypatch, read):
    torch.save({"weight": torch.ones(2)}, tmp_path / "a.pt")
    asked, plain = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: asked.append(options) or plain(path, **options))
    read(tmp_path / "a.pt")
    assert asked == [{"map_location": "cpu", "weights_only": True}]

    def refused(path, **options):
        raise RuntimeError("\n first line\nsecond line")

    monkeypatch.setattr(torch, "load", refused)
    with pytest.raises(ValueError, match=r"a\.pt cannot be read safely \(first line\)\."):
        read(tmp_path / "a.pt")

    def silent(path, **options):
        raise RuntimeError

    monkeypatch.setattr(torch, "load", silent)
    with pytest.raises(ValueError, match=r"a\.pt cannot be read safely \(RuntimeError\)\."):
        read(tmp_path / "a.pt")


def test_tensors_that_do_not_fit_are_counted():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = network.state_dict()

    def problem(**changes):
        with pytest.raises(ValueError, match=r"^w\.pt does not fit Sequential: it ") as error:
            load_weights(network, {name: changes.get(name, value) for name, value in state.items()} | changes, "w.pt")
        return str(error.value).split(": it ")[1].split(". Check")[0]

    def lacking(*names):
        with pytest.raises(ValueError, match=r"^w\.pt does not fit Sequential: it ") as error:
            load_weights(network, {name: value for name, value in state.items() if name not in names}, "w.pt")
        return str(error.value).split(": it ")[1].split(". Check")[0]

    assert lacking("0.bias") == "lacks 0.bias"
    assert lacking("0.bias", "1.bias", "0.weight") == "lacks 0.weight and 2 more"
    assert problem(other=torch.ones(1)) == "has in excess other"
    assert problem(**{"0.bias": torch.ones(4)}) == "has another shape in 0.bias"
    assert problem(**{"0.bias": 3, "1.bias": None}) == "has another shape in 0.bias and 1 more"
    load_weights(network, {n: v + 1 for n, v in state.items() if n != "1.num_batches_tracked"}, "w.pt")
    torch.testing.assert_close(network[1].running_mean, torch.ones(3))


def test_a_batch_moves_with_all_its_tensors():
    given = torch.zeros(2)
    batch = FaceBatch(given, None, given, given, ["a", "b"], mask=given)
    moved = batch.to("meta")
    assert all(getattr(moved, name).is_meta for name in ("image", "label", "domain", "mask"))
    assert (moved.cue, moved.depth, moved.key) == (None, None, ["a", "b"])
    assert moved.key is not batch.key


FACTOR: tuple[float, ...] = (-0.1, math.inf)
RANGES: dict[str, tuple[str, dict[str, tuple[float, ...]]]] = {
    "label_smoothing": ("cdcn", {"smoothing": (-0.1, 1.0)}),
    "ssdg": ("cdcn", dict.fromkeys(("lambda_triplet", "lambda_adversarial", "margin"), FACTOR)),
    "depth": ("cdcn", dict.fromkeys(("lambda_contrastive", "lambda_cross_entropy"), FACTOR)),
    "ssan": ("ssan_m", dict.fromkeys(("lambda_contrastive", "lambda_adversarial"), FACTOR)),
    "dgua": ("dgua", {"lambda_compact": FACTOR, "lambda_unknown": FACTOR, "smoothing": (-0.1, 1.0)}),
    "apl": ("image_only", {"weight": FACTOR, "scale": (0.0, math.inf)}),
    "auxiliary": (
        "auxiliary",
        {f"lambda_{part}": FACTOR for part in ("cross_entropy", "depth", "reflection", "mask", "domain")},
    ),
    "sa_fas": (
        "image_only",
        {
            **dict.fromkeys(("lambda_contrastive", "max_degrees"), FACTOR),
            **dict.fromkeys(("temperature", "base_temperature"), (0.0, math.inf)),
            **dict.fromkeys(("alignment", "alignment_start"), (-0.1, 1.1)),
            "min_area": (0.0, 1.1),
        },
    ),
    "gd_fas": (
        "gd_fas",
        {
            **dict.fromkeys(("lambda_domain", "lambda_contrastive"), FACTOR),
            **dict.fromkeys(("temperature", "contrastive_temperature"), (0.0, math.inf)),
            **{"spread": (-0.1, 2.1), "min_area": (0.0, 1.1), "max_degrees": (-1.0, 181.0)},
        },
    ),
    "flip_mcl": (
        "flip_mcl",
        {
            **dict.fromkeys(("lambda_contrastive", "lambda_consistency"), FACTOR),
            **{"temperature": (0.0, math.inf), "min_area": (0.0, 1.1), "jitter": (-0.1, 5.1)},
        },
    ),
}


@pytest.mark.parametrize("name", RANGES)
def test_every_number_of_an_objective_has_its_range(name):
    detector = build_detector(RANGES[name][0], preset="tiny")
    for option, values in RANGES[name][1].items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{option} = {value}; it must be in"):
                build_objective(name, detector, 2, **{option: value})


def test_class_weights_have_their_range():
    detector = build_detector("cdcn", preset="tiny")
    for weights, option in (((-0.1, 1.0), "attack_weight"), ((1.0, -0.1), "bonafide_weight")):
        with pytest.raises(ValueError, match=rf"^{option} = -0\.1; it must be in"):
            build_objective("erm", detector, 2, class_weights=weights)
    for weights in ((0.0, 1.0), (1.0, 0.0)):
        build_objective("erm", detector, 2, class_weights=weights)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("livenessnet", {"l2": FACTOR, "width": (0,), "conv_dropout": (-0.1, 1.0), "dropout": (-0.1, 1.0)}),
        ("cdcn", {"theta": (-0.1, 1.1), "width": (3,)}),
        ("cdcn_pp", {"theta": (-0.1, 1.1), "width": (3,)}),
        ("ssdg_m", {"width": (1,)}),
        ("ssan_m", {"width": (1,)}),
        ("auxiliary", {"map_size": (2,)}),
        ("dgua", {"dropout": (-0.1, 1.0)}),
        ("liveness_vit", {"threshold": (-0.1, 1.1)}),
    ],
)
def test_every_number_of_a_detector_has_its_range(name, options):
    for option, values in options.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"^{option} = {value}; it must be in"), torch.device("meta"):
                build_detector(name, preset="tiny", **{option: value})
