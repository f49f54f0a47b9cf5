"""A generator of the Hugging Face hub: its settings, weights and checksums are fetched, and never code.

diffusers' own download takes classes of other packages, as ours are, for files of the repository, and fetches Python
files that the index names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfg.known import CLASSES, INDEX_NAME, check_generator
from dfg.seals import SEAL_NAME

_PARTS = (*CLASSES, "scheduler")
_ENDINGS = ("json", "safetensors", "onnx")
_READ = ("revision", "token", "cache_dir", "local_files_only", "force_download")
"""What `from_pretrained` is given that says how to fetch."""


def download(name: str, kind: str, given: Mapping[str, Any]) -> Path:
    """The folder of the cache that holds a generator; the index is looked at before anything large is fetched.

    Args:
        name: `USER/NAME`.
        kind: class of the pipeline.
        given: arguments of `from_pretrained`, and components that the caller brings.

    Raises:
        ValueError: the repository holds no generator of that class.
        OSError: the hub does not give it, and the cache does not hold it.
    """
    from huggingface_hub import snapshot_download

    chosen = {key: given[key] for key in _READ if key in given}
    folder = Path(snapshot_download(name, allow_patterns=[INDEX_NAME], **chosen))
    if not (folder / INDEX_NAME).is_file():
        raise ValueError(f"{name} of the hub holds no generator: it has no {INDEX_NAME}.")
    check_generator(folder, kind, given)
    wanted = [f"{part}/*.{ending}" for part in _PARTS if part not in given for ending in _ENDINGS]
    if not any(part in given for part in _PARTS):
        wanted.append(SEAL_NAME)  # of the whole folder
    # The commit of the index, whatever is pushed meanwhile.
    return Path(snapshot_download(name, allow_patterns=[INDEX_NAME, *wanted], **{**chosen, "revision": folder.name}))
