"""How a generator runs: precision, memory layout, compilation, attention kernel.

Every option may change a restoration by a rounding, so each is part of a cue's identity.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Speed:
    """Options that make inference faster at little or no loss of accuracy.

    Attributes:
        dtype: of the U-Net, `float32` or `bfloat16`; None leaves it unchanged.
        channels_last: memory layout of U-Net and autoencoder in which most processors run convolutions faster.
        compile: torch.compile of the U-Net; takes a minute or more for the first batch of each shape. On a CPU the
            weights are frozen into the compiled code, in the layout that its convolutions read: they take twice the
            memory and must not change afterwards.
        attention: `sdpa`, `eager` or `xformers`; see `dfg.attention.use_attention`.
        autoencoder_dtype: as `dtype`, for the autoencoder. Separate, because the decoder's rounding is visible in the
            restored face.
        tf32: see `use_tf32`, which holds for the whole process.
    """

    dtype: str | None = None
    channels_last: bool = False
    compile: bool = False
    attention: str = "sdpa"
    autoencoder_dtype: str | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        for name in ("dtype", "autoencoder_dtype"):
            if getattr(self, name) not in (None, *DTYPES):
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(DTYPES)}.")

    def apply(self, pipeline: Any) -> None:
        """Configure a `DeFakePipeline` permanently.

        Raises:
            ValueError: xformers is not available.
        """
        # Imported here: it needs diffusers, which a process that only calls `use_tf32` never loads.
        from dfg.attention import install_cached_attention, use_attention

        unet = pipeline.unet
        use_tf32(self.tf32)
        for part, dtype in ((unet, self.dtype), (pipeline.autoencoder, self.autoencoder_dtype)):
            if dtype is not None:
                # nn.Module's `to`: diffusers' warns about modules to keep in float32 even if there are none.
                torch.nn.Module.to(part, DTYPES[dtype])
        if self.channels_last:
            for part in (unet, pipeline.autoencoder):
                torch.nn.Module.to(part, memory_format=torch.channels_last)
        use_attention(unet, self.attention)
        if self.compile:
            install_cached_attention(unet)
            # Raised for diffusers' own cached functions at every compilation; users cannot act on it.
            warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
            unet.compile(dynamic=False, options=_compile_options(unet))


def use_tf32(enabled: bool) -> None:
    """How this process multiplies float32 numbers on CUDA: in TF32 by the fastest kernel of each shape, or exactly.

    torch itself takes TF32 for convolutions alone, so that a matrix and a convolution would differ in precision.
    """
    torch.backends.cuda.matmul.allow_tf32 = enabled
    torch.backends.cudnn.allow_tf32 = enabled
    torch.backends.cudnn.benchmark = enabled


def _compile_options(unet: torch.nn.Module) -> dict[str, Any] | None:
    """On a CPU, freeze the weights: otherwise every call reorders them for its convolutions."""
    return {"freezing": True} if next(unet.parameters()).device.type == "cpu" else None
