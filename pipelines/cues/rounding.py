"""Where a restoration was made, and how far one made elsewhere may lie from it.

A restoration's bytes are those of its arithmetic, its batch shape and the machine: other kernels sum in another order,
and a value near the middle of two grey levels then falls to the other side. The bounds are about three times what was
measured of one face, with other kernels of one processor and with TF32 emulated (`bench cue-rounding`: 0.01 % of values
in float32, 1.6 % in TF32, 6.4 % with a bfloat16 U-Net against float32). Another t, other noise or another face changes
more than 40 % of the values; weights that are off by a thousandth differ no more than TF32 does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pipelines.processes import processor


@dataclass(frozen=True)
class Tolerance:
    """What one face may differ by.

    Attributes:
        levels: largest difference in grey levels.
        share: of its values that may differ.
        words: the cause.
    """

    levels: int
    share: float
    words: str

    def __str__(self) -> str:
        return f"{self.words}: up to {self.levels} grey levels on {self.share:.1%} of a face's values"


EQUAL = Tolerance(0, 0.0, "the same arithmetic, batch shape and machine")
FLOAT32 = Tolerance(1, 0.001, "another batch shape or machine")
TF32 = Tolerance(2, 0.05, "TF32, or a machine without it")
BFLOAT16 = Tolerance(2, 0.15, "a bfloat16 U-Net in another batch shape or on another machine")
BFLOAT16_PICTURE = Tolerance(6, 0.4, "a bfloat16 autoencoder in another batch shape or on another machine")


def machine(device: torch.device | None) -> dict[str, Any]:
    """What decides the last digit of a computation beside its arithmetic, in JSON's types.

    Args:
        device: of the computation; None if it is not known.
    """
    if device is None:
        return {"device": "unknown"}
    facts = {"device": processor(), "torch": torch.__version__}
    if device.type == "cpu":
        return {**facts, "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        facts["device"] = torch.cuda.get_device_name(device)
    # A search for the fastest kernel may end with another one in each process.
    return {**facts, "kernels": "searched" if torch.backends.cudnn.benchmark else "fixed"}


def tolerance(made: dict[str, Any], again: dict[str, Any], source: dict[str, Any]) -> Tolerance:
    """What the faces of a shard may differ by.

    Args:
        made: of the shard's manifest entry: batch size and `machine`; from earlier versions the batch size alone.
        again: the same of the verification.
        source: the fingerprint of the source.
    """
    is_exact = again["device"] != "unknown" and again.get("kernels") != "searched"
    if made == again and is_exact:
        return EQUAL
    if source.get("autoencoder_dtype") == "bfloat16":
        return BFLOAT16_PICTURE
    if source.get("dtype") == "bfloat16":
        return BFLOAT16
    return TF32 if source.get("tf32") else FLOAT32
