"""What the folder of a saved generator may hold, checked before diffusers looks at it: known classes, and data alone.

diffusers imports the classes that `model_index.json` names and runs the Python files beside them. A folder comes from
anyone; here it chooses among names. Imports no torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

INDEX_NAME = "model_index.json"
CLASSES = {
    "autoencoder": {
        ("diffusers", "AutoencoderKL"),
        ("diffusers", "AutoencoderTiny"),
        ("dfg.autoencoder", "PatchAutoencoder"),
        ("dfg.taesd", "TaesdAutoencoder"),
    },
    "unet": {("diffusers", "UNet2DConditionModel"), ("dfg.unet", "PreconditionedUNet")},
    "identity_encoder": {("dfg.identity", "IdentityEncoder"), ("dfg.onnx_identity", "OnnxIdentityEncoder")},
    "token_projection": {("dfg.tokens", "TokenProjection")},
}
"""Module and class of each component; a `scheduler` is any of diffusers'."""
_PARTS = (*CLASSES, "scheduler")

CODE = (*all_suffixes(), ".pyw", ".pyd", ".dll", ".dylib")
"""Endings of what Python imports or the system loads."""

DATA = (".json", ".safetensors", ".onnx", ".md", ".txt", ".lock", ".metadata", "")
"""Endings of what a saved network consists of, and of what copying and the hub leave beside it."""

# A saved model's generator lies one folder below a snapshot of the hub, its parts two.
_LEVELS = 3

_FOREIGN = ("auto_map", "custom_pipelines", "quantization_config")
_SCHEDULER = re.compile(r"[A-Z]\w*Scheduler")


def check_generator(folder: Path, kind: str = "DeFakePipeline", given: Collection[str] = ()) -> None:
    """Check the folder of a generator before it is loaded.

    Args:
        folder: what `save_pretrained` wrote.
        kind: class of the pipeline.
        given: components that the caller brings, so that the folder's are not loaded.

    Raises:
        ValueError: a file that is no data, a link out of the folder, or a class that is not known.
    """
    check_files(folder, DATA)
    index = _read(folder / INDEX_NAME)
    if index.get("_class_name") != kind:
        raise ValueError(f"{folder / INDEX_NAME} is of the class {_shown(index.get('_class_name'))}, not {kind}.")
    for part, value in index.items():
        component = part in _PARTS or isinstance(value, (list, dict))
        if component and part not in given and value != [None, None]:
            _check_component(folder, part, value)


def _check_component(folder: Path, part: str, value: Any) -> None:
    named = tuple(value) if isinstance(value, list) and all(isinstance(word, str) for word in value) else ()
    allowed = CLASSES.get(part, set())
    if part == "scheduler":
        known = len(named) == 2 and named[0] == "diffusers" and _SCHEDULER.fullmatch(named[1]) is not None
    else:
        known = named in allowed
    if not known:
        names = ", ".join(sorted(name for _, name in allowed)) or ("diffusers' schedulers" * (part == "scheduler"))
        raise ValueError(f"{folder / INDEX_NAME} wants {part} = {_shown(value)}; allowed: {names or 'no such part'}.")
    for path in sorted((folder / part).glob("*.json")):
        config = _read(path)
        foreign = [key for key in _FOREIGN if config.get(key)]
        if foreign or config.get("_class_name", named[1]) != named[1] or "weight_map" in config:
            wrong = foreign[0] if foreign else "another class than the index, or weights in other files"
            raise ValueError(f"{path} names {wrong}; that is not loaded. Save the generator again.")


def check_files(folder: Path, allowed: Collection[str] | None = None) -> None:
    """Check that a folder holds files alone, inside it, and none that could run.

    Args:
        folder: also one of the hub's cache or a part of it, whose files are links to `blobs` beside `snapshots`, and
            these, if they came by Xet, links to `blobs` of the whole cache.
        allowed: their endings; None: all but code.

    Raises:
        ValueError: names the first other one.
    """
    roots = [folder.resolve()]
    for snapshots in list(roots[0].parents)[:_LEVELS]:
        if snapshots.name == "snapshots":
            roots += [snapshots.parent / "blobs", snapshots.parent.parent / "blobs"]
    for path in _walk(folder):
        place = path.resolve()
        if path.is_symlink() and not (place.is_file() and any(root in place.parents for root in roots)):
            raise ValueError(f"{path} is a link out of the folder. Copy the file itself.")
        if path.is_dir():
            continue
        ending = path.suffix.lower()
        if ending.endswith(CODE) or (allowed is not None and ending not in allowed) or not place.is_file():
            raise ValueError(f"{path} is neither settings nor weights, and might be run. Remove it.")


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):  # follows no links
        yield from (Path(place, name) for name in sorted((*folders, *names)))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({error}).") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {_shown(content)} instead of settings.")
    return content


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
