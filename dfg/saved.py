"""How models are saved and loaded: without places of a machine, checked by their checksums, into memory of their own.

diffusers maps the files of weights. A file that is replaced or cut later would then change or end a running program.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models import modeling_utils
from torch import nn

from dfg.seals import SEAL_NAME, check

Module = TypeVar("Module", bound=nn.Module)


class ModelMixin(modeling_utils.ModelMixin):
    """diffusers' base class of models, by whose name its pipelines look for it beside each model's class."""

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, *args: Any, **kwargs: Any
    ) -> None:
        """diffusers' `save_pretrained`, without the place that the model was loaded from."""
        super().save_pretrained(save_directory, *args, **kwargs)
        finish_saving(Path(save_directory), ["config.json"])

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> Any:
        """diffusers' `from_pretrained`, in evaluation mode, on the CPU.

        Raises:
            ValueError: a file of a sealed folder is not what was written.
        """
        check_saved(Path(pretrained_model_name_or_path, kwargs.get("subfolder") or ""))
        return in_own_memory(super().from_pretrained(pretrained_model_name_or_path, **kwargs))


def check_saved(folder: Path) -> None:
    """`dfg.seals.check` of a folder; an id of the hub is none."""
    if folder.is_dir():
        check(folder)


def finish_saving(folder: Path, configs: Iterable[str]) -> None:
    """Remove checksums of what was there before, and from configs the places that parts were loaded from.

    diffusers notes these places and nobody reads them: folders of equal weights are equal, wherever these came from.
    """
    (folder / SEAL_NAME).unlink(missing_ok=True)
    for path in (folder / name for name in configs if (folder / name).is_file()):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@torch.no_grad()
def in_own_memory(module: Module) -> Module:
    """The module, whose tensors are copied one by one if they are the CPU's, so that no file is behind them."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    return module
