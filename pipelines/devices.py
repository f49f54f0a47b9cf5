"""Which device a command computes on: the machine's fastest, or the one that `--device` names. Imports no torch."""

from __future__ import annotations

import ctypes
import os
import re

from pipelines.errors import AgfasError

_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
_HIDDEN = "CUDA_VISIBLE_DEVICES"
_FORCED = "ACCELERATE_USE_CPU"


def choose_device(name: str, launched: bool) -> None:
    """Let this process and all that it starts compute on one device. Call it before torch is imported.

    Args:
        name: `cpu`; `cuda`, every GPU that is visible; or `cuda:N`, one of them.
        launched: whether a launcher started this process, and has given it a GPU.

    Raises:
        AgfasError: another name, a GPU that is not there, or one GPU for all processes of a launcher.
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if found is None:
        raise AgfasError(f"--device {name}: give cpu, cuda, or one GPU such as cuda:1.")
    if name == "cpu":
        os.environ[_FORCED], os.environ[_HIDDEN] = "true", ""
        return
    if found[1] is not None:
        if launched:
            raise AgfasError(
                f"--device {name} is for one process, and a launcher gives each of its processes a GPU. Choose them"
                f" with the launcher's options or {_HIDDEN}."
            )
        os.environ[_HIDDEN] = _visible(int(found[1]))
    # Only now: the driver looks at the variable once, when it is first asked.
    if not gpu_count():
        raise AgfasError(f"--device {name}: no such NVIDIA GPU is visible here. Leave it out, or give cpu.")


def _visible(number: int) -> str:
    """The name of a GPU by its number among the visible ones; empty if there are fewer."""
    named = os.environ.get(_HIDDEN)
    if named is None:
        return str(number)
    return dict(enumerate(name.strip() for name in named.split(","))).get(number, "")


def cpu_is_forced() -> bool:
    """Whether `--device cpu`, or accelerate's launcher, keeps this process off the GPUs."""
    return os.environ.get(_FORCED, "").lower() in ("1", "true", "yes", "on")


def gpu_count() -> int:
    """How many NVIDIA GPUs are visible. Asks the driver, not torch."""
    driver, count = _driver(), ctypes.c_int(0)
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def compute_capability() -> int:
    """The first number of the first NVIDIA GPU's compute capability; 0 without one. Asks the driver, not torch."""
    driver, number, device = _driver(), ctypes.c_int(0), ctypes.c_int(0)
    if driver is None or driver.cuDeviceGet(ctypes.byref(device), 0):
        return 0
    return 0 if driver.cuDeviceGetAttribute(ctypes.byref(number), _MAJOR, device) else number.value


def _driver() -> ctypes.CDLL | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return None if driver.cuInit(0) else driver
