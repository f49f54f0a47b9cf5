"""A look-alike of one CUDA device in memory of the CPU: what a GPU would refuse or wait for, on any machine.

A tensor "on the GPU" is a `DeviceTensor`. It computes on an inner CPU tensor, says that it is on cuda:0, refuses what
CUDA refuses (operands on two devices, NumPy, a generator of another device), and records

* host synchronisations: where the processor waits for the device, as `torch.cuda.set_sync_debug_mode` reports them;
* copies from the host to the device.

Each record names the operation and the line of ours that caused it. Kernels are the CPU's: speed, memory, streams and
rounding of a GPU are not imitated. For autograd in C++ a `DeviceTensor` is on the meta device, since a build of torch
without a GPU cannot record a gradient on another one; what leaks of that is undone here.

    def test_it(lookalike):
        model.to("cuda")(image.to("cuda"))
        assert lookalike.synchronisations == []
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from lookalike_tensor import (
    AUTOCAST,
    CUDA,
    INSTALLED,
    DeviceGenerator,
    DeviceTensor,
    Generator,
    Lookalike,
    Mode,
    Record,
    is_cuda,
    remembering,
    waits_between_calls,
)
from torch import library as operators
from torch.utils._device import DeviceContext
from torch.utils._pytree import tree_map_only

__all__ = ["DeviceTensor", "Lookalike", "Record", "installed", "waits_between_calls"]

# What `torch.autocast("cuda")` runs in the lower precision and in float32; the rest keeps its operands' types.
LOWER = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv1d", "conv2d", "conv3d", "conv_transpose2d.input")
LOWER = (*LOWER, "scaled_dot_product_attention", "prelu", "einsum")
FLOAT32 = ("layer_norm", "group_norm", "mse_loss", "cosine_similarity", "nll_loss", "softmax.int", "log_softmax.int")
FLOAT32 = (*FLOAT32, "binary_cross_entropy_with_logits", "exp", "log", "pow.Tensor_Scalar", "sum", "sum.dim_IntList")


class Stream:
    """A stream of the device, on which everything is done at once."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.device = CUDA

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def wait_stream(self, stream: Any) -> None:
        """Nothing is left to wait for."""

    wait_event = wait_stream

    def record_event(self, event: Any = None) -> Event:
        return event or Event()

    def synchronize(self) -> None:
        """The host waits."""
        INSTALLED[-1].wait("synchronize")


class Event(Stream):
    """A mark on a stream."""

    def record(self, stream: Any = None) -> None:
        """It has been passed already."""

    wait = record

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Event) -> float:
        return 0.0


def _with_index(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` with cuda:0 for cuda, whose current index C++ would ask the driver for."""

    def indexed(value: Any) -> Any:
        return CUDA if isinstance(value, str | torch.device) and _looks_like_cuda(value) else value

    def called(*args: Any, **options: Any) -> Any:
        return call(*map(indexed, args), **{name: indexed(value) for name, value in options.items()})

    return called


def _looks_like_cuda(value: str | torch.device) -> bool:
    return str(value).split(":")[0] == "cuda"


def _moved(to: Callable[..., Any]) -> Callable[..., Any]:
    """`Tensor.to` that knows on which device a `DeviceTensor` is."""

    def moved(self: torch.Tensor, *args: Any, copy: bool = False, **options: Any) -> torch.Tensor:
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        elif args and type(args[0]) is int:
            args = (CUDA, *args[1:])
        if len(args) > 3:
            *args, copy = args  # type: ignore[assignment]
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **options)
        if is_cuda(device):
            device = None if isinstance(self, DeviceTensor) else CUDA
        return to(self, device, dtype, non_blocking, copy, memory_format=memory_format)

    return moved


@contextmanager
def installed() -> Iterator[Lookalike]:
    """The look-alike inside the block, in this thread and in those that it starts; nothing of it afterwards."""
    if torch.cuda.is_available():
        pytest.skip("a real GPU is at hand: the look-alike would hide it")
    seen = Lookalike()
    with pytest.MonkeyPatch.context() as patch, _autocast(), _flags():
        _patch_tensors(patch, seen)
        _patch_device(patch, seen)
        _patch_accelerate(patch)
        INSTALLED.append(seen)
        try:
            with Mode():
                yield seen
        finally:
            INSTALLED.pop()
            DeviceGenerator.made.clear()


def _patch_tensors(patch: pytest.MonkeyPatch, seen: Lookalike) -> None:
    patch.setattr(torch.Tensor, "to", _moved(torch.Tensor.to))
    patch.setattr(torch.Tensor, "cuda", lambda self, *args, **options: self.to(CUDA, **options))
    patch.setattr(torch.Tensor, "pin_memory", lambda self, device=None: seen.pin(self))
    patch.setattr(torch.Tensor, "is_pinned", lambda self, device=None: seen.is_pinned(self))
    patch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    for name in ("tensor", "as_tensor", "asarray"):
        patch.setattr(torch, name, _with_index(getattr(torch, name)))
    patch.setattr(torch, "Generator", Generator)
    patch.setattr(DeviceContext, "__torch_function__", remembering(DeviceContext.__torch_function__))
    run = threading.Thread.run

    def run_in_mode(thread: threading.Thread) -> None:
        with Mode():
            run(thread)

    patch.setattr(threading.Thread, "run", run_in_mode)
    grouped = torch._C._group_tensors_by_device_and_dtype

    def grouped_there(*args: Any, **options: Any) -> dict:
        groups = grouped(*args, **options).items()
        return {(CUDA if device.type == "meta" else device, dtype): group for (device, dtype), group in groups}

    patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", grouped_there)
    for owner in (torch.utils._foreach_utils, import_module("torch.optim.optimizer")):
        patch.setattr(owner, "_foreach_supported_types", [*owner._foreach_supported_types, DeviceTensor])


def _patch_device(patch: pytest.MonkeyPatch, seen: Lookalike) -> None:
    facts = SimpleNamespace(
        name="look-alike", total_memory=2**34, major=8, minor=0, multi_processor_count=1, uuid="look-alike"
    )
    answers: dict[str, Any] = {
        "is_available": True, "device_count": 1, "current_device": 0, "_lazy_init": None, "set_device": None,
        "empty_cache": None, "manual_seed_all": None, "manual_seed": None, "is_bf16_supported": True,
        "is_current_stream_capturing": False, "get_device_name": facts.name, "get_device_properties": facts,
        "get_device_capability": (8, 0), "memory_allocated": 0, "max_memory_allocated": 0, "memory_reserved": 0,
        "max_memory_reserved": 0, "reset_peak_memory_stats": None, "mem_get_info": (2**34, 2**34),
        "set_rng_state": None, "ipc_collect": None,
    }  # fmt: skip
    for name, answer in answers.items():
        patch.setattr(torch.cuda, name, lambda *args, answer=answer, **options: answer)
    patch.setattr(torch.cuda, "get_rng_state", lambda *args, **options: torch.get_rng_state())
    patch.setattr(torch.cuda, "synchronize", lambda *args, **options: seen.wait("synchronize"))
    for name, made in {"Stream": Stream, "Event": Event, "current_stream": Stream, "default_stream": Stream}.items():
        patch.setattr(torch.cuda, name, made)
    patch.setattr(torch.cuda, "stream", lambda stream: stream)
    patch.setattr(torch.accelerator, "is_available", lambda: True)
    patch.setattr(torch.accelerator, "device_count", lambda: 1)
    patch.setattr(torch.accelerator, "current_accelerator", lambda *args, **options: torch.device("cuda"))
    patch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    patch.setattr(torch.accelerator, "synchronize", lambda *args: seen.wait("synchronize"))
    patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic training sets
    patch.setattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None, raising=False)


def _patch_accelerate(patch: pytest.MonkeyPatch) -> None:
    """accelerate remembers the device of the process: let it look again, and afterwards remember what it knew."""
    for state in (PartialState, AcceleratorState, GradientState):
        patch.setattr(state, "_shared_state", {})


@contextmanager
def _flags() -> Iterator[None]:
    """What a program may set for a GPU, and what the look-alike sets, is afterwards as before."""
    lifted = torch._C._only_lift_cpu_tensors()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    kernels = [(torch.backends.cuda.matmul, "allow_tf32")]
    kernels += [(torch.backends.cudnn, name) for name in ("allow_tf32", "benchmark", "deterministic")]
    before = [getattr(owner, name) for owner, name in kernels]
    # `torch.tensor(..., device="cuda")` makes a CPU tensor and copies it, which the look-alike can see.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        for (owner, name), value in zip(kernels, before, strict=True):
            setattr(owner, name, value)


@contextmanager
def _autocast() -> Iterator[None]:
    """`torch.autocast("cuda")`: torch's own kernels cast only what is on CUDA in C++."""
    casts = operators.Library("aten", "IMPL", "AutocastCUDA")
    for name in (*LOWER, *FLOAT32):
        casts.impl(name, _casting(name, None if name in LOWER else torch.float32), allow_override=True)
    try:
        yield
    finally:
        casts._destroy()


def _casting(name: str, dtype: torch.dtype | None) -> Callable[..., Any]:
    """The operation with its floating-point operands in `dtype`, or in the one of the autocast."""
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def cast(*args: Any, **options: Any) -> Any:
        to = torch.get_autocast_dtype("cuda") if dtype is None else dtype

        def narrowed(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(to) if isinstance(tensor, DeviceTensor) and tensor.is_floating_point() else tensor

        with torch._C._ExcludeDispatchKeyGuard(AUTOCAST):
            args, options = tree_map_only(torch.Tensor, narrowed, (args, options))
            return operation(*args, **options)

    return cast
