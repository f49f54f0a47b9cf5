"""Shares of a batch, and dropout that depends on a face's position in the global batch alone."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from timm.layers import Attention, ConvNormAct, DropPath
from torch import nn

from oanet.detectors.attacknet import DenseBatchNorm
from pipelines.errors import AgfasError
from pipelines.streams import stream
from pipelines.training import parallel
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


def hashed(seed: int, call: int, position: int, elements: int) -> list[int]:
    """The hashes of a face's elements as signed numbers, computed with unsigned ones."""
    golden, drawn = 0x9E3779B1, int(stream(seed, "dropout", call).integers(-(2**31), 2**31)) % 2**32
    key = mixed((position * golden + drawn) % 2**32)
    other = mixed((key + drawn) % 2**32)
    hashes = [mixed((element * golden + key) % 2**32, other) for element in range(elements)]
    return [one - 2**32 if one >= 2**31 else one for one in hashes]


def test_the_mask_is_a_hash_of_step_call_position_and_element():
    """A resumed training, on any machine, drops what it would have dropped. An element on the very bound stays."""
    layer = placed(nn.Dropout(0.3), (2, 3), 1, seed=3)
    on_the_bound = (hashed(3, 2, 2, 20)[7] + 2**31) / 2**32
    for call, rate in ((1, 0.3), (2, on_the_bound)):
        layer.p = rate
        kept = layer(torch.ones(3, 4, 5)).view(3, 20) != 0
        for row in range(3):
            expected = [one >= int(rate * 2**32) - 2**31 for one in hashed(3, call, row + 2, 20)]
            assert kept[row].tolist() == expected, (call, row)


def placed(module: nn.Module, lengths: tuple[int, ...], rank: int, seed: int = 3) -> nn.Module:
    place = Place()
    place.begin(seed)
    place.share = ProcessShare(lengths, rank)
    model = nn.Sequential(module)
    make_independent(model, place, processes=1)
    return model.train()[0]


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
    unscaled = placed(DropPath(0.5, scale_by_keep=False), (40,), 0)(values)
    assert torch.equal(unscaled, (faces > 0).float())
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
    assert torch.equal(placed(DropPath(0.0), (3,), 0)(values), values)
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


class Ring:
    """What several processes do together, done by as many threads; in place of `torch.distributed`."""

    def __init__(self, count: int) -> None:
        self.count, self.values = count, [torch.empty(0)] * count
        self.barrier, self.here = threading.Barrier(count, timeout=10), threading.local()

    def get_world_size(self) -> int:
        return self.count

    def all_gather(self, every: list[torch.Tensor], mine: torch.Tensor) -> None:
        for place, value in zip(every, self._exchanged(mine), strict=True):
            place.copy_(value)

    def all_reduce(self, values: torch.Tensor) -> None:
        values.copy_(sum(self._exchanged(values.clone())))

    def _exchanged(self, mine: torch.Tensor) -> list[torch.Tensor]:
        self.values[self.here.rank] = mine
        self.barrier.wait()
        found = list(self.values)
        self.barrier.wait()
        return found

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """`work` of every rank."""

        def of_one(rank: int) -> Any:
            self.here.rank = rank
            try:
                return work(rank)
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(of_one, range(self.count)))


@pytest.fixture
def ring(monkeypatch) -> Ring:
    """Two processes, which hold 3 and 4 of 7 faces."""
    made = Ring(2)
    monkeypatch.setattr(parallel, "dist", made)
    monkeypatch.setattr(parallel, "on_cpu", lambda: True)
    return made


SHARES = [slice(0, 3), slice(3, 7)]


def test_gathered_rows_are_those_of_all_and_their_gradient_is_of_all_losses(ring):
    values = torch.randn(7, 2)
    weights = torch.randn(2, 7, 2)  # each process weighs the rows its own way

    def work(rank: int) -> tuple[torch.Tensor, ...]:
        share, own = ProcessShare.of(SHARES, rank), values[SHARES[rank]].clone().requires_grad_()
        assert (share.lengths, share.start, share.count(0)) == ((3, 4), (0, 3)[rank], 7)
        assert torch.equal(share.rows(values), own)
        every = share.gather(own)
        (every * weights[rank]).sum().backward()
        return every.detach(), own.grad

    for rank, (every, gradient) in enumerate(ring.run(work)):
        assert torch.equal(every, values)
        torch.testing.assert_close(gradient, weights.sum(0)[SHARES[rank]])
    alone = ProcessShare((7,), 0)
    assert alone.gather(values) is values
    assert alone.rows(values).shape == (7, 2)


NORMS = {
    "plain": lambda: nn.BatchNorm2d(3, eps=0.1, momentum=0.3),
    "of columns": lambda: nn.BatchNorm1d(3),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None),
    "without weights": lambda: nn.BatchNorm2d(3, affine=False),
    "without memory": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "as Keras": lambda: DenseBatchNorm(3, eps=1e-3, momentum=0.2),
    "with activation": lambda: ConvNormAct(2, 3).bn,
}


def filled(norm: nn.Module) -> nn.Module:
    for number, parameter in enumerate(norm.parameters()):
        nn.init.uniform_(parameter, 0.5 + number, 1.5 + number)
    return norm.double()


def passed(model: nn.Module, rows: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Two steps; results, gradients of rows and parameters, and what the layer remembers."""
    rows = rows.clone().requires_grad_()
    for _ in range(2):
        found = model(rows)
        (found * weight).sum().backward()
    return [found.detach(), rows.grad, [p.grad for p in model.parameters()], list(model.buffers())]


@pytest.mark.parametrize("kind", NORMS)
def test_statistics_of_two_processes_are_those_of_one(ring, kind):
    torch.manual_seed(0)
    shape = (7, 3) if kind in ("of columns", "as Keras") else (7, 3, 2, 4)
    values, weight = torch.randn(shape, dtype=torch.double) * 3 + 5, torch.randn(shape, dtype=torch.double)
    values[:3] -= 4  # the shares have different means
    whole = nn.Sequential(filled(NORMS[kind]()))
    models = [copy.deepcopy(whole) for _ in SHARES]
    for model in models:
        make_independent(model, Place(), 2)
        assert isinstance(model[0], SynchronizedBatchNorm)
        make_independent(model, Place(), 2)
    found = ring.run(lambda rank: passed(models[rank], values[SHARES[rank]], weight[SHARES[rank]]))
    result, gradient, of_parameters, buffers = passed(whole, values, weight)
    torch.testing.assert_close(torch.cat([one[0] for one in found]), result)
    torch.testing.assert_close(torch.cat([one[1] for one in found]), gradient)
    torch.testing.assert_close([a + b for a, b in zip(found[0][2], found[1][2], strict=True)], of_parameters)
    for one in found:
        torch.testing.assert_close(one[3], buffers)
    whole.eval()
    for model, rows in zip(models, SHARES, strict=True):
        torch.testing.assert_close(model.eval()(values[rows]), whole(values[rows]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_of_half_numbers_are_computed_in_float32(ring, dtype):
    values = (torch.randn(7, 3, 2) + 8).to(dtype)
    models = [nn.Sequential(nn.BatchNorm1d(3)) for _ in SHARES]
    for model in models:
        make_independent(model, Place(), 2)
    found = ring.run(lambda rank: models[rank](values[SHARES[rank]]).detach())
    exact = nn.BatchNorm1d(3)(values.float())
    assert torch.equal(torch.cat(found), exact.to(dtype)) or (torch.cat(found).float() - exact).abs().max() < 0.02
    assert {one.dtype for one in found} == {dtype}


def test_a_replaced_layer_stays_in_its_mode_and_keras_statistics_are_kept_on_a_gpu_too(monkeypatch):
    monkeypatch.setattr(parallel, "on_cpu", lambda: False)
    model = nn.Sequential(DenseBatchNorm(3), nn.BatchNorm1d(3), nn.SyncBatchNorm(3)).eval()
    make_independent(model, Place(), 2)
    assert [type(layer) for layer in model] == [SynchronizedBatchNorm, nn.SyncBatchNorm, nn.SyncBatchNorm]
    assert not any(layer.training for layer in model)
    monkeypatch.setattr(parallel, "on_cpu", lambda: True)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.SyncBatchNorm(3)).train()
    make_independent(model, Place(), 2)
    assert all(isinstance(layer, SynchronizedBatchNorm) and layer.training for layer in model)
    assert not any(layer.biased for layer in model)


@pytest.mark.parametrize(("rate", "fused"), [(0.0, True), (0.3, False)])
def test_attention_with_dropout_of_its_own_leaves_the_fused_kernel(rate, fused):
    layer = Attention(8, num_heads=2, attn_drop=rate, proj_drop=0.2)
    layer.fused_attn = True
    make_independent(layer, Place(), 1)
    assert layer.fused_attn is fused
    assert (layer.attn_drop.p, layer.proj_drop.p) == (rate, 0.2)
    assert isinstance(layer.attn_drop, PlacedDropout)
    assert isinstance(layer.proj_drop, PlacedDropout)
