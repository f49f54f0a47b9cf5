"""One batch over several processes: who holds which faces, and what must not depend on that.

The global batch of an optimiser step is split into micro-batches, and each of these over the processes, in order and as
evenly as it goes. Three things would make the result depend on the number of processes, and are replaced here: the
statistics of batch normalisation, the random numbers of dropout, and losses that compare faces.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from oanet.networks import Attention, BatchNormAct2d, DropPath, convert_sync_batchnorm
from oanet.objectives.base import Share
from pipelines.errors import AgfasError
from pipelines.processes import on_cpu
from pipelines.streams import stream

# Odd constants of 32-bit integer hashes: the golden ratio, and the two of Wellons' `lowbias32`.
_GOLDEN, _FIRST, _SECOND = 0x9E3779B1 - 2**32, 0x7FEB352D, 0x846CA68B - 2**32


def split(total: int, parts: int, start: int = 0) -> list[slice]:
    """Consecutive parts of `total` items from `start` on; their lengths differ by at most one."""
    bounds = [start + total * number // parts for number in range(parts + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(bounds)]


def shares(size: int, micro_batches: int, processes: int, what: str = "batch_size") -> list[list[slice]]:
    """For each micro-batch, the rows of the global batch that each process holds.

    Args:
        size: faces of the global batch, which is one step of the optimiser.
        micro_batches: `gradient_accumulation`.
        processes: that train together.
        what: names the setting in the error.

    Raises:
        AgfasError: a process would have no face.
    """
    if size < micro_batches * processes:
        accumulated = f" in {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise AgfasError(
            f"{what} = {size}{accumulated} leaves some of {processes} processes without a face. Use at least"
            f" {micro_batches * processes} faces per step, or at most {size // micro_batches} processes."
        )
    return [split(part.stop - part.start, processes, part.start) for part in split(size, micro_batches)]


@dataclass(frozen=True)
class ProcessShare(Share):
    """The share of one of several processes.

    Attributes:
        lengths: faces of each process.
        rank: of this process.
    """

    lengths: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, slices: Sequence[slice], rank: int) -> ProcessShare:
        """The share of process `rank` where the processes hold consecutive slices."""
        return cls(tuple(part.stop - part.start for part in slices), rank)

    @property
    def start(self) -> int:
        """Position of this process's first face in the global batch."""
        return sum(self.lengths[: self.rank])

    def count(self, faces: int) -> int:
        """See `Share.count`."""
        return sum(self.lengths)

    def rows(self, drawn: Tensor) -> Tensor:
        """See `Share.rows`."""
        return drawn[self.start : self.start + self.lengths[self.rank]]

    def gather(self, values: Tensor) -> Tensor:
        """See `Share.gather`."""
        return values if len(self.lengths) == 1 else _Gather.apply(values, self)


class _Gather(torch.autograd.Function):
    """Rows of all processes. Each process computes a loss from them, so its rows' gradient is the sum of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, share: ProcessShare) -> Tensor:
        ctx.share = share
        longest = max(share.lengths)
        # Collectives take equal shapes; shares may differ by one row.
        mine = values.new_zeros(longest, *values.shape[1:])
        mine[: len(values)] = values
        every = [torch.empty_like(mine) for _ in share.lengths]
        dist.all_gather(every, mine)
        return torch.cat([rows[:length] for rows, length in zip(every, share.lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return ctx.share.rows(total), None


class Place:
    """Where this process is in the training: what the dropout of a step depends on.

    Attributes:
        seed: of the step.
        share: of the micro-batch; a face's position in the global batch determines its dropout.
        calls: of dropout layers since the step began.
    """

    seed: int
    share: ProcessShare
    calls: int

    def begin(self, seed: int) -> None:
        """Begin a step."""
        self.seed, self.calls = seed, 0


class PlacedDropout(nn.Module):
    """Dropout whose mask is a hash of the step, the call, the face's position in the global batch, and the element.

    The mask is the same on every device and for any number of processes. A batch may hold every face several times, one
    view after another.

    Args:
        p: probability of zero; named as in torch, since layers around it read it.
        axes: leading axes that are dropped element by element; the others are dropped together. None for all.
        scale: divide what is kept by 1 - rate.
        place: of the training.
    """

    def __init__(self, p: float, axes: int | None, scale: bool, place: Place) -> None:
        super().__init__()
        self.p, self.axes, self.scale, self.place = p, axes, scale, place

    def forward(self, values: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.p == 0:
            return values
        if self.p == 1:
            return values * 0
        self.place.calls += 1
        axes = values.ndim if self.axes is None else self.axes
        kept = self._kept(values.shape[1:axes].numel(), self._positions(len(values), values.device))
        kept = kept.view(*values.shape[:axes], *(1,) * (values.ndim - axes)).to(values.dtype)
        return values * (kept / (1 - self.p) if self.scale else kept)

    def _positions(self, rows: int, device: torch.device) -> Tensor:
        """(rows,) int32: where each row would be if one process held the whole batch."""
        share, row = self.place.share, torch.arange(rows, device=device, dtype=torch.int32)
        mine = share.lengths[share.rank]
        views = torch.div(row, mine, rounding_mode="floor")
        return row % mine + share.start + views * share.count(rows)

    def _kept(self, elements: int, positions: Tensor) -> Tensor:
        """(rows, elements) bool."""
        call = int(stream(self.place.seed, "dropout", self.place.calls).integers(-(2**31), 2**31))
        key = _mix(positions * _GOLDEN + call)[:, None]
        element = torch.arange(elements, device=positions.device, dtype=torch.int32)
        bits = _mix(element * _GOLDEN + key, _mix(key + call))
        return bits >= int(self.p * 2**32) - 2**31


def _mix(bits: Tensor, key: Tensor | None = None) -> Tensor:
    """Hash int32 numbers in place; the products wrap around. The shifts of negative numbers fill with ones: masked."""
    bits.bitwise_xor_((bits >> 16) & 0xFFFF).mul_(_FIRST)
    if key is not None:
        bits.bitwise_xor_(key)
    bits.bitwise_xor_((bits >> 15) & 0x1FFFF).mul_(_SECOND)
    return bits.bitwise_xor_((bits >> 16) & 0xFFFF)


class SynchronizedBatchNorm(_BatchNorm):
    """Batch normalisation over the faces of all processes, on any device; torch's own needs a GPU.

    Attributes:
        biased: the running variance follows the biased variance, see `oanet.detectors.attacknet.DenseBatchNorm`.
        act, drop: what timm's `BatchNormAct2d` does to its result; nothing by default.
    """

    biased = False
    act: nn.Module
    drop: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """See `nn.BatchNorm2d`."""
        return self.act(self.drop(self._normalized(input)))

    def _normalized(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        if input.dtype in (torch.bfloat16, torch.float16):
            return self._normalized(input.float()).to(input.dtype)
        result, mean, variance, count = _Normalize.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._follow(mean, variance if self.biased else variance * (count / (count - 1)))
        return result

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes, since one class replaces all of torch's."""

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        count = cast(Tensor, self.num_batches_tracked).add_(1)
        for buffer, value in ((self.running_mean, mean), (self.running_var, variance)):
            running = cast(Tensor, buffer)
            running.lerp_(value.to(running.dtype), 1 / count.item() if self.momentum is None else self.momentum)


class _Normalize(torch.autograd.Function):
    """Normalise by the mean and variance over all processes.

    torch's kernel for fixed statistics computes forward and most of backward. Only what its backward leaves out is
    added: how the statistics themselves depend on the input.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        mean, variance, count = _statistics(values)
        ctx.save_for_backward(values, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values, weight, mean, variance, count = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        factor = weight if weight is not None else torch.ones_like(mean)
        of_values, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], values, factor, mean, variance, mean, inverse, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_weight, of_bias])
        dist.all_reduce(sums)
        # d/dx of the statistics: -(sum(dy) + x_hat sum(dy x_hat)) / n, times weight / sigma; linear in x per channel.
        slope = factor * inverse.square() * sums[0] / count
        offset = factor * inverse * sums[1] / count - slope * mean
        shape = (1, -1, *(1,) * (values.ndim - 2))
        of_values.addcmul_(values, slope.view(shape), value=-1).sub_(offset.view(shape))
        affine = weight is not None
        return of_values, of_weight if affine else None, of_bias if affine else None, None


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and the number of values per channel (), over all processes."""
    mean, variance = torch.batch_norm_update_stats(values, None, None, 0.0)  # nn.BatchNorm's own kernel
    count = torch.full_like(mean, values.numel() / values.shape[1])
    mine = torch.stack([count, mean, variance]).double()
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(every, mine)
    counts, means, variances = torch.stack(every, dim=1)  # (processes, C) each
    total = counts.sum(0)
    joint = (counts * means).sum(0) / total
    # The variance of a union: the mean of the variances, plus that of the means.
    spread = (counts * (variances + (means - joint).square())).sum(0) / total
    return joint.to(values.dtype), spread.to(values.dtype), total[:1].to(values.dtype)


def make_independent(module: nn.Module, place: Place, processes: int) -> None:
    """Replace the batch normalisation and dropout of a module's parts, in place.

    Parameters, buffers and names stay. Dropout is replaced for one process too, so that its masks are those of several.

    Args:
        module: it may hold such layers, but not be one.
        place: of the training.
        processes: that train together.
    """
    for parent in list(module.modules()):
        if isinstance(parent, Attention) and parent.attn_drop.p > 0:
            parent.fused_attn = False  # type: ignore[misc]  # the fused kernel draws its own dropout
        for name, child in list(parent.named_children()):
            if (replaced := _independent(child, place, processes)) is not None:
                setattr(parent, name, replaced)


def _independent(layer: nn.Module, place: Place, processes: int) -> nn.Module | None:
    if isinstance(layer, nn.Dropout):
        return PlacedDropout(layer.p, None, True, place)
    if isinstance(layer, nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):  # of whole channels
        return PlacedDropout(layer.p, 2, True, place)
    if isinstance(layer, DropPath):
        return PlacedDropout(layer.drop_prob or 0.0, 1, layer.scale_by_keep, place)
    if isinstance(layer, _BatchNorm) and processes > 1 and not isinstance(layer, SynchronizedBatchNorm):
        return _synchronized(layer)
    return None


def _synchronized(layer: _BatchNorm) -> nn.Module:
    biased = getattr(layer, "biased", False)
    known = (BatchNormAct2d, nn.SyncBatchNorm)
    if not (biased or isinstance(layer, known) or type(layer).forward is _BatchNorm.forward):
        raise AgfasError(
            f"{type(layer).__name__} normalises batches in a way of its own, which several processes cannot do"
            " together. Train with one process, or with a network of torch's or timm's layers."
        )
    if on_cpu() or biased:
        joint = SynchronizedBatchNorm(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        )
        joint.weight, joint.bias = layer.weight, layer.bias
        joint.running_mean, joint.running_var = layer.running_mean, layer.running_var
        joint.num_batches_tracked = layer.num_batches_tracked
        joint.biased = biased
        joint.drop, joint.act = (getattr(layer, name, nn.Identity()) for name in ("drop", "act"))
        return joint.train(layer.training)
    return convert_sync_batchnorm(layer)
