"""What is used of timm, imported without torch's compiler: else a third of the time in which a command starts.

timm imports torchvision, and that imports `torch._dynamo.utils` for one function, which it calls on a GPU; timm itself
keeps the compiler off one of its functions. With it come sympy and triton. While timm is imported, a stand-in has that
module's name, and `torch.compiler.disable` waits until the function is called: either brings the compiler when it is
used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

_COMPILER, _ASKED = "torch._dynamo.utils", "is_compile_supported"


class _StandIn(ModuleType):
    """A module that is imported when something of it but the one function is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)
        return self._when_called() if name == _ASKED else getattr(self._real(), name)

    def _real(self) -> ModuleType:
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return import_module(_COMPILER)

    def _when_called(self) -> Callable[..., Any]:
        return lambda *given, **options: getattr(self._real(), _ASKED)(*given, **options)


def _disabled_when_called(fn: Callable[..., Any] | None = None, recursive: bool = True, **options: Any) -> Any:
    """`torch.compiler.disable` that asks the compiler when the function is called."""
    if fn is None:
        return partial(_disabled_when_called, recursive=recursive, **options)

    @wraps(fn)
    def called(*given: Any, **named: Any) -> Any:
        return torch.compiler.disable(fn, recursive, **options)(*given, **named)

    return called


@contextmanager
def _without_compiler() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = sys.modules[_COMPILER] = _StandIn(_COMPILER)
    disable = torch.compiler.disable
    torch.compiler.disable = _disabled_when_called
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


with _without_compiler():
    import timm
    from timm.layers import Attention, BatchNormAct2d, DropPath, apply_rot_embed_cat, convert_sync_batchnorm
    from timm.models import adapt_input_conv
    from timm.models.eva import Eva, EvaAttention, EvaBlock
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import Block, VisionTransformer

__all__ = [
    "Attention",
    "BatchNormAct2d",
    "Block",
    "DropPath",
    "Eva",
    "EvaAttention",
    "EvaBlock",
    "ResNet",
    "VisionTransformer",
    "adapt_input_conv",
    "apply_rot_embed_cat",
    "convert_sync_batchnorm",
    "timm",
]
