"""Machines: what the data sheets of some GPUs say, and a short measurement of the machine at hand.

A sheet's peak is never reached. The shares below are assumptions, of the order that eager PyTorch reaches on large
convolutions and matrix products; nothing here was measured on these cards. Expect hours within a factor of two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pipelines.errors import AgfasError, nearest

GIB = 2**30

TENSOR_CORES, PLAIN_CORES, MEMORY_BANDWIDTH, LINK = 0.5, 0.8, 0.8, 0.7
"""Shares of the sheet's peaks that are assumed to be reached."""

USABLE = 0.93
"""Share of a GPU's memory that tensors can take: CUDA's context, its libraries and fragments take the rest."""

PER_MACHINE = 8
"""GPUs of one machine; more are joined by a network."""

NETWORK = 25e9
"""Bytes a second and GPU between machines, as of one 200 Gbit/s adapter for each GPU."""

_LAUNCH = 8e-6  # seconds in which eager PyTorch starts one kernel
_PROBE = 0.1  # seconds of each measurement of the machine at hand


@dataclass(frozen=True)
class Machine:
    """One processor or GPU, perhaps several of the same.

    Attributes:
        name: for people.
        memory: bytes that tensors can take.
        rates: floating-point operations a second that are reached, by `conv` or `matmul` and number type; `tf32` is
            float32 multiplied in TF32.
        bandwidth: bytes a second that are read and written.
        launch: seconds that starting one operation takes; small models wait for this.
        link: bytes a second that a GPU sends to others of its machine.
        is_gpu: whether it is one.
        count: how many there are.
        source: where the figures are from.
    """

    name: str
    memory: float
    rates: Mapping[str, float]
    bandwidth: float
    launch: float
    link: float
    is_gpu: bool
    source: str
    count: int = 1

    def rate(self, kind: str, dtype: str) -> float:
        """Operations a second for `conv` or `matmul` in a number type; that of float32 for unknown types."""
        return self.rates.get(f"{kind} {dtype}", self.rates[f"{kind} float32"])

    def in_tf32(self, enabled: bool) -> Machine:
        """The machine as it multiplies float32 numbers in TF32, if it can."""
        faster = {f"{kind} float32": self.rates.get(f"{kind} tf32") for kind in ("conv", "matmul")}
        known = {name: rate for name, rate in faster.items() if rate is not None}
        return replace(self, rates={**self.rates, **known}) if enabled else self

    @property
    def title(self) -> str:
        """Name and number."""
        return self.name if self.count == 1 else f"{self.count} x {self.name}"

    @property
    def unit(self) -> str:
        """What one process runs on."""
        return "GPU" if self.is_gpu else "process"

    @property
    def exchange(self) -> float:
        """Bytes a second that each of the `count` sends while all exchange."""
        return self.link if self.count <= PER_MACHINE else min(self.link, NETWORK)


@dataclass(frozen=True)
class _Sheet:
    """A data sheet: dense operations a second, without sparsity."""

    name: str
    memory: float  # GiB
    bfloat16: float
    tf32: float
    float32: float
    bandwidth: float
    link: float

    def machine(self) -> Machine:
        """The machine that is assumed for it."""
        half, tf32, single = TENSOR_CORES * self.bfloat16, TENSOR_CORES * self.tf32, PLAIN_CORES * self.float32
        by_type = {"bfloat16": half, "float16": half, "tf32": tf32, "float32": single}
        rates = {f"{kind} {name}": rate for kind in ("conv", "matmul") for name, rate in by_type.items()}
        return Machine(
            self.name, USABLE * self.memory * GIB, rates, MEMORY_BANDWIDTH * self.bandwidth, _LAUNCH, LINK * self.link,
            is_gpu=True, source="its data sheet and assumed utilisation",
        )  # fmt: skip


GPUS: dict[str, _Sheet] = {
    # NVIDIA A100 data sheet, SXM: NVLink carries 300 GB/s in each direction.
    "a100-40": _Sheet("A100 40 GB", 40, 312e12, 156e12, 19.5e12, 1.555e12, 300e9),
    "a100-80": _Sheet("A100 80 GB", 80, 312e12, 156e12, 19.5e12, 2.039e12, 300e9),
    # NVIDIA H100 data sheet, SXM: NVLink carries 450 GB/s in each direction.
    "h100": _Sheet("H100 80 GB", 80, 989e12, 494e12, 67e12, 3.35e12, 450e9),
    # NVIDIA Ada architecture, bfloat16 summed in float32; PCI Express 4.0 x16 through the host.
    "rtx4090": _Sheet("RTX 4090", 24, 165.2e12, 82.6e12, 82.6e12, 1.008e12, 20e9),
}
"""GPUs by the value of `--gpu`."""


def machine_of(gpu: str | None = None, count: int | None = None) -> Machine:
    """The machine that an estimate is for.

    Args:
        gpu: one of `GPUS`; None is the machine at hand, which is measured for about a second.
        count: number of GPUs; default: 1, or those that the machine at hand has. Processes of a machine without GPUs
            share its cores and its memory.

    Raises:
        AgfasError: an unknown GPU, or fewer than one.
    """
    check_gpu(gpu, count)
    if gpu is not None:
        return replace(GPUS[gpu].machine(), count=count or 1)
    here = machine_at_hand()
    if count is None or here.is_gpu:
        return replace(here, count=count or here.count)
    rates = {name: rate / count for name, rate in here.rates.items()}
    return replace(here, count=count, rates=rates, bandwidth=here.bandwidth / count, memory=here.memory / count)


def check_gpu(gpu: str | None, count: int | None) -> None:
    """Raise AgfasError for an unknown GPU, or fewer than one."""
    if gpu is not None and gpu not in GPUS:
        raise AgfasError(f"--gpu {gpu}: {nearest(gpu, GPUS)}")
    if count is not None and count < 1:
        raise AgfasError(f"--gpus {count}: give a number of GPUs from 1.")


def machine_at_hand() -> Machine:
    """The GPUs here, or the processor; their speed is measured for about a second."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        return Machine(
            facts.name, USABLE * facts.total_memory, *_measured("cuda"), link=LINK * GPUS["rtx4090"].link,
            is_gpu=True, source="measured here for a second", count=torch.cuda.device_count(),
        )  # fmt: skip
    threads = torch.get_num_threads()
    name = f"processor, {threads} thread{'s' if threads > 1 else ''}"
    memory = USABLE * _main_memory()
    return Machine(name, memory, *_measured("cpu"), link=10e9, is_gpu=False, source="measured here for a second")


def _measured(device: str) -> tuple[dict[str, float], float, float]:
    """Rates, bandwidth and seconds of a start, of matrices, pictures and blocks of the size that models have.

    On a processor without instructions for bfloat16, that type is a hundred times slower than float32: the pieces are
    small enough that this takes a second too.
    """
    import torch

    from dfg.speed import use_tf32

    on_gpu = device == "cuda"
    side, faces, channels, wide = (4096, 32, 320, 2**28) if on_gpu else (384, 1, 64, 2**24)
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, **({"tf32": torch.float32} if on_gpu else {})}
    rates = {}
    for name, dtype in types.items():
        use_tf32(name == "tf32")
        matrix = torch.randn(side, side, device=device, dtype=dtype)
        rates[f"matmul {name}"] = 2 * side**3 / _seconds(partial(torch.mm, matrix, matrix), device)
        picture = torch.randn(faces, channels, 32, 32, device=device, dtype=dtype)
        kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        flops = 2 * faces * 32 * 32 * channels**2 * 9
        rates[f"conv {name}"] = flops / _seconds(partial(torch.conv2d, picture, kernel, padding=1), device)
    use_tf32(False)
    block = torch.randn(wide // 4, device=device)
    bandwidth = 3 * wide / _seconds(partial(torch.add, block, block), device)
    one = torch.zeros(1, device=device)
    return rates, bandwidth, _seconds(partial(torch.add, one, one), device)


def _seconds(work: Callable[[], object], device: str) -> float:
    """The median time of one call, in a tenth of a second or in one call that takes longer."""
    import torch

    def timed(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls

    first = timed(1)
    if first > _PROBE:
        return first
    again = timed(1)
    calls = max(1, round(_PROBE / 5 / max(again, 1e-7)))
    return sorted(timed(calls) for _ in range(5))[2]


def _main_memory() -> float:
    """Bytes of main memory."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
