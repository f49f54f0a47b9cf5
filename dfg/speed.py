"""How a generator is run: number type, memory layout, compilation, attention kernel. What changes bits has a name."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from dfg.attention import install_held, use_attention

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Speed:
    """Options that cost little or no accuracy; every one may move a restoration by a rounding.

    Attributes:
        dtype: of the U-Net, `float32` or `bfloat16`; None leaves it.
        channels_last: memory layout of U-Net and autoencoder in which convolutions are faster on most processors.
        compile: torch.compile of the U-Net; a minute or more at the first batch of a shape. On a processor its weights
            are taken as constants and kept a second time in the order that the convolutions read them in; they must
            not change afterwards.
        attention: `sdpa`, `eager` or `xformers`; see `dfg.attention.use_attention`.
        autoencoder_dtype: of the autoencoder, likewise. Its decoder is where rounding shows in the picture, so it keeps
            float32 unless it is asked for by itself.
    """

    dtype: str | None = None
    channels_last: bool = False
    compile: bool = False
    attention: str = "sdpa"
    autoencoder_dtype: str | None = None

    def __post_init__(self) -> None:
        for name in ("dtype", "autoencoder_dtype"):
            if getattr(self, name) not in (None, *DTYPES):
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(DTYPES)}.")

    def apply(self, pipeline: Any) -> None:
        """Set a `DeFakePipeline` up so; it stays so.

        Raises:
            ValueError: xformers is asked for and cannot be had.
        """
        unet = pipeline.unet
        for part, dtype in ((unet, self.dtype), (pipeline.autoencoder, self.autoencoder_dtype)):
            if dtype is not None:
                # nn.Module's own: diffusers' warns of modules to be kept in float32 even where there are none.
                torch.nn.Module.to(part, DTYPES[dtype])
        if self.channels_last:
            for part in (unet, pipeline.autoencoder):
                torch.nn.Module.to(part, memory_format=torch.channels_last)
        use_attention(unet, self.attention)
        if self.compile:
            install_held(unet)
            # Of diffusers' own cached functions, at every compilation; nothing that a user could act on.
            warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
            unet.compile(dynamic=False, options=_frozen(unet))

    def fingerprint(self) -> dict[str, Any]:
        """What differs from the defaults, but for the types, which the parts themselves tell."""
        default = asdict(Speed())
        given = {field.name: getattr(self, field.name) for field in fields(self) if "dtype" not in field.name}
        return {name: value for name, value in given.items() if value != default[name]}


def _frozen(unet: torch.nn.Module) -> dict[str, Any] | None:
    """Options of torch.compile: by default a call on a processor puts every weight in order anew."""
    return {"freezing": True} if next(unet.parameters()).device.type == "cpu" else None
