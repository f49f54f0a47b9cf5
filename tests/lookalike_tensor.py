"""The tensor of the look-alike of a CUDA device, and what the device refuses, waits for and copies; see `lookalike`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

CUDA = torch.device("cuda", 0)
ROOT = Path(__file__).parents[1]
ITSELF = (__file__, str(Path(__file__).with_name("lookalike.py")))
OURS = tuple(str(ROOT / name) for name in ("dfg", "oanet", "pipelines", "scripts", "tests"))

# They return a number, or a tensor whose size depends on values: the host waits for the device.
WAITING = {
    *(
        "_local_scalar_dense",
        "equal",
        "allclose",
        "is_nonzero",
        "nonzero",
        "masked_select",
        "bincount",
        "repeat_interleave",
    ),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "_linalg_check_errors", "histc"),
}
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
# A CPU tensor without dimensions is an argument of a kernel, and allowed beside CUDA tensors; but not in these.
STRICT = {"cat", "stack", "gather", "scatter", "index_select", "embedding"}

# Bytes of pageable memory that the driver takes over at once.
STAGED = 2**16
AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)


class Record(NamedTuple):
    """What happened, by operation, and the line of ours where it did."""

    what: str
    where: str


class Lookalike:
    """What the look-alike has seen since it was installed, or since `clear`.

    Attributes:
        synchronisations: in order.
        copies: from the host to the device, in order.
    """

    def __init__(self) -> None:
        self.synchronisations: list[Record] = []
        self.copies: list[Record] = []
        self._pinned: dict[int, torch.Tensor] = {}

    def clear(self) -> None:
        """Forget what was seen."""
        self.synchronisations.clear()
        self.copies.clear()

    def wait(self, what: str) -> None:
        """Record a synchronisation."""
        self.synchronisations.append(Record(what, _line_of_ours()))

    def copy_in(self, what: str, source: torch.Tensor, non_blocking: bool) -> None:
        """Record a copy to the device; the host waits where it blocks, or pageable memory is more than is staged."""
        self.copies.append(Record(what, _line_of_ours()))
        if not (non_blocking and (self.is_pinned(source) or source.nbytes <= STAGED)):
            self.wait(f"{what} to the device")

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor in memory that is called page-locked; kept, so that no other memory gets its address."""
        if not self.is_pinned(tensor):
            tensor = tensor.clone()
            self._pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether the memory is called page-locked."""
        return tensor.untyped_storage().data_ptr() in self._pinned


def waits_between_calls(seen: Lookalike, network: torch.nn.Module, restore: Callable[[], object]) -> list[Record]:
    """What the host waited for from the start of the network's first call to the end of its last."""
    places: list[int] = []

    def mark(*_: object) -> None:
        places.append(len(seen.synchronisations))

    handles = [network.register_forward_pre_hook(mark), network.register_forward_hook(mark)]
    restore()
    for handle in handles:
        handle.remove()
    assert places
    return seen.synchronisations[places[0] : places[-1]]


INSTALLED: list[Lookalike] = []


def _line_of_ours() -> str:
    """`path:line` of the innermost frame in our packages, or else of the test."""
    frame, fallback = sys._getframe(1), "?"
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS) and name not in ITSELF:
            line = f"{Path(name).relative_to(ROOT)}:{frame.f_lineno}"
            if not name.startswith(OURS[-1]):
                return line
            fallback = line if fallback == "?" else fallback
        frame = frame.f_back  # type: ignore[assignment]
    return fallback


class DeviceTensor(torch.Tensor):
    """A tensor that is on cuda:0, as far as Python can see.

    Attributes:
        inner: its values, a CPU tensor of the same shape and strides.
    """

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> DeviceTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device("meta"),
            _extra_dispatch_keys=AUTOCAST,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})

    @property
    def data(self) -> torch.Tensor:
        """The tensor without its graph; assigning replaces the values."""
        return self.detach()

    @data.setter
    def data(self, value: DeviceTensor) -> None:
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner = value.inner

    def get_device(self) -> int:
        return 0

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, **{"device": CUDA, **options})

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return self.detach().cpu().numpy()

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self.numpy()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.inner!r})"

    def __deepcopy__(self, memo: dict) -> DeviceTensor:
        if id(self) not in memo:
            copied = DeviceTensor(self.inner.clone()).requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                copied._is_param = True
            memo[id(self)] = copied
        return memo[id(self)]

    # With these two, `nn.Module.to` swaps a parameter's content and keeps the parameter, as it does for a GPU.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(tensors: dict, context: None, size: Any, stride: Any) -> DeviceTensor:
        return DeviceTensor(tensors["inner"])


class Mode(TorchDispatchMode):
    """Gives operations without a `DeviceTensor` to the look-alike too: new tensors, copies, generators."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    """One operation of ATen on inner tensors, refused or recorded where CUDA would refuse or wait."""
    seen, name = INSTALLED[-1], func._schema.name.split("::")[1]
    leaves = _tensors([args, kwargs])
    there = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
    if name == "_to_copy":
        return _to_copy(seen, func, args[0], kwargs)
    if name == "copy_":
        return _copy(seen, *args)
    if name == "_fused_sdp_choice" and there:
        return 0  # the kernel for all devices: those of CUDA do not exist here
    made_there = is_cuda(kwargs.get("device")) or (not there and _asked_by_kernel(kwargs.get("device")))
    _check_generator(kwargs.get("generator"), bool(there) or made_there)
    if there:
        _check_devices(func, name, args, kwargs, leaves)
        _record(seen, name, args)
    if "device" in kwargs and (there or made_there):
        made_there = made_there or kwargs["device"] is None or torch.device(kwargs["device"]).type == "meta"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    pinned = bool(kwargs.get("pin_memory"))
    if "pin_memory" in kwargs:
        kwargs = {**kwargs, "pin_memory": False}
    result = func(*_inner(args), **_inner(kwargs))
    if pinned:
        return seen.pin(result)
    if not there and not made_there:
        return result
    known = {id(leaf.inner if isinstance(leaf, DeviceTensor) else leaf): leaf for leaf in leaves}
    stays = there and kwargs.get("device") is not None and not made_there
    return tree_map_only(torch.Tensor, lambda t: known.get(id(t), t if stays else DeviceTensor(t)), result)


def _tensors(tree: Any) -> list[torch.Tensor]:
    """The tensors in lists, tuples and dictionaries; torch's own walk over trees takes most of the time."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, list | tuple | dict):
        return [leaf for part in (tree.values() if isinstance(tree, dict) else tree) for leaf in _tensors(part)]
    return []


def _inner(tree: Any) -> Any:
    if isinstance(tree, DeviceTensor):
        return tree.inner
    if isinstance(tree, list | tuple):
        return type(tree)(map(_inner, tree))
    return {name: _inner(part) for name, part in tree.items()} if isinstance(tree, dict) else tree


def is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _asked_by_kernel(device: Any) -> bool:
    """Whether C++ asks for a tensor beside a `DeviceTensor`, which it takes for one of the meta device.

    Python's own requests for the meta device must stand in a block `with torch.device("meta")`.
    """
    return device is not None and torch.device(device).type == "meta" and not getattr(_asking, "meta", False)


_asking = threading.local()


def remembering(handle: Callable[..., Any]) -> Callable[..., Any]:
    """`DeviceContext.__torch_function__` that lets operations know that Python asks for the meta device."""

    def handled(self: DeviceContext, *args: Any, **options: Any) -> Any:
        before, _asking.meta = getattr(_asking, "meta", False), self.device.type == "meta"
        try:
            return handle(self, *args, **options)
        finally:
            _asking.meta = before

    return handled


def _to_copy(seen: Lookalike, func: Any, tensor: torch.Tensor, options: dict) -> torch.Tensor:
    """`Tensor.to` with a copy: between devices, or on one."""
    device = options.get("device")
    if device is None:
        there = isinstance(tensor, DeviceTensor)
    elif isinstance(tensor, DeviceTensor) or torch._C._current_autograd_node() is not None:
        there = torch.device(device).type in ("cuda", "meta")  # meta: the device of a gradient's owner, read in C++
    else:
        there = torch.device(device).type == "cuda"
    if not there and not isinstance(tensor, DeviceTensor):
        return func(tensor, **options)
    kept = {name: value for name, value in options.items() if name not in ("device", "non_blocking", "pin_memory")}
    values = func(_inner(tensor), **kept)
    if not there:
        if not options.get("non_blocking"):
            seen.wait("copy to the host")
        return seen.pin(values) if options.get("non_blocking") else values
    if not isinstance(tensor, DeviceTensor):
        seen.copy_in("copy", tensor, bool(options.get("non_blocking")))
    return DeviceTensor(values)


def _copy(seen: Lookalike, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """`Tensor.copy_` from any device."""
    to, out_of = (isinstance(tensor, DeviceTensor) for tensor in (target, source))
    if to and not out_of:
        seen.copy_in("copy_", source, non_blocking)
    elif out_of and not to and not (non_blocking and seen.is_pinned(target)):
        seen.wait("copy_ to the host")
    _inner(target).copy_(_inner(source))
    return target


def _check_generator(generator: Any, there: bool) -> None:
    if generator is None:
        return
    # C++ gives another Python object of the same generator.
    found = "cuda" if generator._cdata in DeviceGenerator.made else "cpu"
    expected = "cuda" if there else "cpu"
    if found != expected:
        raise RuntimeError(f"Expected a '{expected}' device type for generator but found '{found}'")


def _check_devices(func: Any, name: str, args: tuple, kwargs: dict, leaves: list[torch.Tensor]) -> None:
    """Raise CUDA's error for operands on two devices."""
    here = [leaf for leaf in leaves if not isinstance(leaf, DeviceTensor)]
    if name in INDEXING:
        if not isinstance(args[0], DeviceTensor):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        here = [value for value in args[2:3] if isinstance(value, torch.Tensor) and not isinstance(value, DeviceTensor)]
    written = _written(func, args, kwargs) if here else []
    for tensor in here:
        if tensor.dim() > 0 or name in STRICT or any(tensor is other for other in written):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
                f" ({name}; on the CPU: {tuple(tensor.shape)})"
            )


def _written(func: Any, args: tuple, kwargs: dict) -> list[torch.Tensor]:
    """The arguments that the operation changes."""
    written = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            written += _tensors(value)
    return written


def _record(seen: Lookalike, name: str, args: tuple) -> None:
    """Record the synchronisations of an operation on the device."""
    if name in WAITING:
        seen.wait(name)
    elif name in INDEXING:
        indices = [index for index in args[1] if index is not None]
        # A mask into which one number is put needs no list of its places.
        masked = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
        if masked and not (len(args) > 2 and args[2].numel() == 1):
            seen.wait(f"{name} by a mask")
        elif any(not isinstance(index, DeviceTensor) for index in indices):
            seen.copies.append(Record(f"{name} by an index on the host", _line_of_ours()))
            seen.wait(f"{name} by an index on the host")


class _Generators(type):
    """`torch.Generator` of the look-alike: its instances are all generators."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, RealGenerator)

    def __call__(cls, device: Any = "cpu") -> torch.Generator:
        return DeviceGenerator() if is_cuda(device) else RealGenerator(device)


RealGenerator = torch.Generator


class DeviceGenerator(RealGenerator):
    """A generator of the device.

    Attributes:
        made: all of them by address, kept alive so that none is given an address again.
    """

    made: ClassVar[dict[int, DeviceGenerator]] = {}

    def __init__(self) -> None:
        self.made[self._cdata] = self

    device = property(lambda self: CUDA)  # type: ignore[assignment]


class Generator(metaclass=_Generators):
    """Makes generators of either device."""
