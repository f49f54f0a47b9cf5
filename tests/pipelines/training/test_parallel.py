"""Shares of a batch, and dropout that depends on a face's position in the global batch alone."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import ConvNormAct, DropPath
from torch import nn

from pipelines.errors import AgfasError
from pipelines.streams import stream
from pipelines.training.parallel import (
    Place,
    PlacedDropout,
    ProcessShare,
    SynchronizedBatchNorm,
    make_independent,
    shares,
    split,
)


@pytest.mark.parametrize(("total", "parts"), [(12, 4), (13, 4), (64, 64), (7, 3)])
def test_a_split_is_in_order_complete_and_even(total, parts):
    slices = split(total, parts)
    assert [row for part in slices for row in range(total)[part]] == list(range(total))
    assert {part.stop - part.start for part in slices} <= {total // parts, -(-total // parts)}


def test_micro_batches_are_split_before_processes():
    assert shares(13, 2, 3) == [
        [slice(0, 2), slice(2, 4), slice(4, 6)],
        [slice(6, 8), slice(8, 10), slice(10, 13)],
    ]


def test_a_batch_too_small_for_the_processes_is_refused_with_what_would_do():
    with pytest.raises(AgfasError, match=r"per_cell = 7 in 2 micro-batches .* 4 processes .* at least 8 .* at most 3"):
        shares(7, 2, 4, "per_cell")


def test_a_batch_just_large_enough_is_shared_out():
    assert shares(8, 2, 4) == [[slice(n, n + 1) for n in range(4)], [slice(n, n + 1) for n in range(4, 8)]]
    with pytest.raises(AgfasError, match=r"batch_size = 3 leaves some of 4 processes .* at least 4 faces .* at most 3"):
        shares(3, 1, 4)


def mixed(number: int, key: int = 0) -> int:
    """Wellons' lowbias32 of unsigned numbers, with a key after its first product."""
    number = (number ^ number >> 16) * 0x7FEB352D % 2**32 ^ key
    number = (number ^ number >> 15) * 0x846CA68B % 2**32
    return number ^ number >> 16


def test_the_mask_is_a_hash_of_step_call_position_and_element():
    """The same with unsigned numbers: a resumed training, on any machine, drops what it would have dropped."""
    seed, rate, golden = 3, 0.3, 0x9E3779B1
    layer = placed(nn.Dropout(rate), (2, 3), 1, seed)
    for call in (1, 2):
        kept = layer(torch.ones(3, 4, 5)).view(3, 20) != 0
        drawn = int(stream(seed, "dropout", call).integers(-(2**31), 2**31)) % 2**32
        for row in range(3):
            key = mixed(((row + 2) * golden + drawn) % 2**32)
            other = mixed((key + drawn) % 2**32)
            hashes = [mixed((element * golden + key) % 2**32, other) for element in range(20)]
            # Compared as signed numbers.
            expected = [(h - 2**32 if h >= 2**31 else h) >= int(rate * 2**32) - 2**31 for h in hashes]
            assert kept[row].tolist() == expected, (call, row)


def placed(module: nn.Module, lengths: tuple[int, ...], rank: int, seed: int = 3) -> nn.Module:
    place = Place()
    place.begin(seed)
    place.share = ProcessShare(lengths, rank)
    model = nn.Sequential(module)
    make_independent(model, place, processes=1)
    return model.train()


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), nn.Dropout2d(0.3), DropPath(0.3)])
@pytest.mark.parametrize("views", [1, 2])
def test_the_dropout_of_shares_is_that_of_the_whole(layer, views):
    values = torch.ones(13 * views, 4, 5, 5)
    whole = placed(layer, (13,), 0)(values).view(views, 13, 4, 5, 5)
    for rank, rows in enumerate(split(13, 3)):
        lengths = tuple(part.stop - part.start for part in split(13, 3))
        share = placed(layer, lengths, rank)(values[: views * lengths[rank]])
        assert torch.equal(share.view(views, -1, 4, 5, 5), whole[:, rows])


def test_what_is_dropped_together():
    values = torch.ones(40, 8, 6, 6)
    channels = placed(nn.Dropout2d(0.5), (40,), 0)(values)
    assert torch.equal(channels.amax((2, 3)), channels.amin((2, 3)))
    faces = placed(DropPath(0.5), (40,), 0)(values)
    assert torch.equal(faces.amax((1, 2, 3)), faces.amin((1, 2, 3)))
    assert {0.0, 2.0} == set(channels.unique().tolist()) == set(faces.unique().tolist())
    elements = placed(nn.Dropout(0.5), (40,), 0)(values)
    assert (elements.amax((2, 3)) != elements.amin((2, 3))).all()


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_as_many_elements_are_dropped_as_wanted_and_the_mean_is_kept(rate):
    dropped = placed(nn.Dropout(rate), (64,), 0)(torch.ones(64, 4096))
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / dropped.numel()) ** 0.5)
    assert dropped.max().item() == pytest.approx(1 / (1 - rate))
    # Neither rows nor columns nor neighbours have anything in common.
    kept = (dropped > 0).double() - (1 - rate)
    scale = rate * (1 - rate)
    rows, columns = kept @ kept.T / 4096 / scale, kept.T @ kept / 64 / scale
    assert rows.fill_diagonal_(0).abs().max() < 5 / 4096**0.5
    assert columns.fill_diagonal_(0).square().mean() < 1.2 / 64


def test_another_call_step_or_seed_drops_others():
    values = torch.ones(4, 1000)
    layer = placed(nn.Dropout(0.5), (4,), 0)
    first, second = layer(values), layer(values)
    assert 0.4 < (first != second).float().mean() < 0.6
    assert torch.equal(placed(nn.Dropout(0.5), (4,), 0)(values), first)
    assert not torch.equal(placed(nn.Dropout(0.5), (4,), 0, seed=4)(values), first)


def test_nothing_is_dropped_at_rate_zero_or_in_evaluation_and_all_at_one():
    values = torch.rand(3, 5)
    assert torch.equal(placed(nn.Dropout(0.0), (3,), 0)(values), values)
    assert torch.equal(placed(nn.Dropout(0.5), (3,), 0).eval()(values), values)
    assert not placed(nn.Dropout(1.0), (3,), 0)(values).any()


def test_names_of_parameters_stay():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Dropout(0.1)))
    names = list(model.state_dict())
    weights = list(model.parameters())
    make_independent(model, Place(), processes=2)
    assert list(model.state_dict()) == names
    assert all(one is other for one, other in zip(weights, model.parameters(), strict=True))
    assert isinstance(model[2][0], PlacedDropout)


@pytest.mark.parametrize("cpu", [True, False])
def test_the_activation_of_timms_batch_norm_stays(monkeypatch, cpu):
    monkeypatch.setattr("pipelines.training.parallel.on_cpu", lambda: cpu)
    model = nn.Sequential(ConvNormAct(3, 4), nn.BatchNorm2d(4)).eval()
    names = list(model.state_dict())
    plain = copy.deepcopy(model)
    make_independent(model, Place(), 2)
    assert isinstance(model[0].bn, SynchronizedBatchNorm if cpu else nn.SyncBatchNorm)
    assert list(model.state_dict()) == names
    values = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(model(values), plain(values))


def test_a_batch_norm_of_its_own_way_is_refused():
    class Odd(nn.BatchNorm2d):
        def forward(self, input):
            return super().forward(input) * 2

    model = nn.Sequential(Odd(3))
    make_independent(model, Place(), 1)
    with pytest.raises(AgfasError, match="Odd normalises batches in a way of its own"):
        make_independent(model, Place(), 2)
