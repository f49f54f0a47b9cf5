"""Counts what a model does without doing it: it runs on fake tensors, which have shapes and no values.

Everything is taken from the real module: parameters, the floating-point operations of each layer, the bytes that each
operation moves, and the bytes alive at the worst moment. Nothing is allocated, so that Stable Diffusion's training
step is counted in seconds on any machine.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from oanet.trunks import forget_constants

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Number types of autocast by the setting `mixed_precision`."""

Module = TypeVar("Module", bound=nn.Module)

_ATEN = torch.ops.aten
_CONVOLUTIONS = (_ATEN.convolution, _ATEN._convolution, _ATEN.convolution_backward)

# Operations that a GPU's autocast does in float32 and a CPU's in the lower precision; they decide a GPU's activations.
_FLOAT32_ON_GPU = ("group_norm", "layer_norm", "softmax", "log_softmax", "cross_entropy")


@dataclass(frozen=True)
class Operation:
    """What one operation needs of a machine.

    Attributes:
        kind: `conv`, `matmul` (attention too) or `move` for everything without products.
        dtype: of its result, such as `float32`.
        flops: a multiplication with its addition counts as two.
        moved: bytes read and written.
    """

    kind: str
    dtype: str
    flops: int
    moved: int


@dataclass
class Count:
    """What some computation needs.

    Attributes:
        operations: how often each operation occurs.
        peak: bytes alive at the worst moment, beyond those alive before.
        left: bytes alive at the end, beyond those alive before.
    """

    operations: Counter[Operation] = field(default_factory=Counter)
    peak: int = 0
    left: int = 0

    @property
    def flops(self) -> int:
        """Floating-point operations in all."""
        return sum(operation.flops * times for operation, times in self.operations.items())


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, new tensors have a shape and no values: they take no memory, and computing with them no time."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        forget_constants()


def as_fake(module: Module) -> Module:
    """A module that was built on the device `meta`, with fake tensors of a CPU in place of its own.

    It cannot be built from fake tensors, since initialisations and `Module.to` need values or exchange tensors.
    """
    made: dict[int, torch.Tensor] = {}  # tied weights stay tied

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            trained = tensor.requires_grad
            made[id(tensor)] = nn.Parameter(empty, trained) if isinstance(tensor, nn.Parameter) else empty
        return made[id(tensor)]

    for part in module.modules():
        # Some modules keep constants as plain attributes.
        spaces: tuple[dict[str, Any], ...] = (part._parameters, part._buffers, part.__dict__)
        for space in spaces:
            space.update({name: fake(value) for name, value in space.items() if isinstance(value, torch.Tensor)})
    return module


def count(work: Callable[[], Any], mixed_precision: str = "no", gpu: bool = False) -> Count:
    """Run `work` on fake tensors and count.

    Args:
        work: called once, inside `fake_tensors`.
        mixed_precision: `no`, `bf16` or `fp16`; `work` runs under autocast.
        gpu: whether autocast is that of a GPU, which keeps norms and losses in float32.
    """
    tally = _Tally()
    with _autocast(mixed_precision), _float32_norms(gpu and mixed_precision != "no"), tally:
        kept = work()
    tally.count.left = tally.alive
    del kept
    return tally.count


def step_of(
    objective: Callable[[Any, float], Mapping[str, Any]], batches: list[Any], precision: str, gpu: bool
) -> Count:
    """Forward and backward of one optimiser step.

    Args:
        objective: gives a mapping with `loss`.
        batches: its micro-batches; the gradients of the first are there during the second.
        precision, gpu: as of `count`.
    """
    tally = _Tally()
    for batch in batches:
        with tally, _float32_norms(gpu and precision != "no"):
            with _autocast(precision):
                loss = objective(batch, 0.5)["loss"]
            loss.float().backward()
        del loss
    tally.count.left = tally.alive
    return tally.count


def number_of(parameters: Any) -> int:
    """Number of values in some tensors."""
    return sum(parameter.numel() for parameter in parameters)


def size_of(tensors: Any) -> int:
    """Bytes of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Tally(TorchDispatchMode):
    """Sees every operation, and every block of memory until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.alive, self.known = Count(), 0, set[int]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        result = func(*args, **given)
        made = [value for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        for tensor in made:
            self._keep(tensor)
        if made and not func.is_view:
            read = [value for value in tree_leaves((args, given)) if isinstance(value, torch.Tensor)]
            dtype = str(made[0].dtype).removeprefix("torch.")
            kind, flops = _products(func._overloadpacket, args, given, result)
            self.count.operations[Operation(kind, dtype, flops, size_of([*read, *made]))] += 1
        return result

    def _keep(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place not in self.known:
            self.known.add(place)
            self.alive += size
            self.count.peak = max(self.count.peak, self.alive)
            weakref.finalize(storage, self._drop, place, size)

    def _drop(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.alive -= size


def _products(packet: Any, args: tuple[Any, ...], given: dict[str, Any], result: Any) -> tuple[str, int]:
    """The kind of an operation and its FLOPs; attention on a CPU is not in torch's table."""
    if packet is _ATEN._scaled_dot_product_flash_attention_for_cpu:
        return "matmul", sdpa_flop_count(*(value.shape for value in args[:3]))
    if packet is _ATEN._scaled_dot_product_flash_attention_for_cpu_backward:
        return "matmul", sdpa_backward_flop_count(*(value.shape for value in args[:4]))
    if packet not in flop_registry:
        return "move", 0
    kind = "conv" if packet in _CONVOLUTIONS else "matmul"
    return kind, int(flop_registry[packet](*args, **given, out_val=result))


@contextmanager
def _autocast(mixed_precision: str) -> Iterator[None]:
    if mixed_precision == "no":
        yield
        return
    with torch.autocast("cpu", DTYPES[mixed_precision]):
        yield


@contextmanager
def _float32_norms(enabled: bool) -> Iterator[None]:
    """Autocast of a GPU, on fake tensors of a CPU: some functions take and give float32.

    The functions are replaced, since a `TorchFunctionMode` does not see layers that run again in a backward pass.
    """
    before = {name: getattr(F, name) for name in _FLOAT32_ON_GPU} if enabled else {}
    for name, function in before.items():
        setattr(F, name, partial(_in_float32, function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(F, name, function)


def _in_float32(function: Callable[..., torch.Tensor], given: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return function(given.float(), *args, **kwargs)
