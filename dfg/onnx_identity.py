"""The identity encoder from an ONNX face recogniser (insightface's packs, or any other), run by onnxruntime.

Such a graph outputs the embedding only. The feature map before pooling is an inner tensor, which is made an output.

An encoder on a GPU runs there if onnxruntime has its CUDA provider (the package onnxruntime-gpu), else on the CPU. In
both cases faces and maps pass through the host's memory: 150 kB and 100 kB a face, little beside the network itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch.nn import functional as F

from dfg.noise import to_device
from dfg.onnx_graph import Map, face_input, find_maps, in_short, read_graph, with_output
from dfg.saved import ModelMixin, check_saved, finish_saving
from dfg.tokens import map_to_tokens, resize_face

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

MODEL_FILE = "identity.onnx"
CONFIG_FILE = "config.json"


class OnnxIdentityEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Face -> identity tokens, from an inner tensor of an ONNX graph. Created by `from_onnx`; always frozen.

    A graph with a fixed batch size is run once for so many faces.

    Args:
        tensor: name of the tensor that holds the map (B, C, h, w).
        token_dim: C.
        num_tokens: h * w.
        input_size: side in pixels that faces are resized to.
        input_mean: subtracted from pixels in [0, 255].
        input_scale: divides the result.
        batched: whether the graph accepts any number of faces at a time.
    """

    @register_to_config
    def __init__(
        self,
        tensor: str,
        token_dim: int,
        num_tokens: int,
        input_size: int = 112,
        input_mean: float = 127.5,
        input_scale: float = 127.5,
        batched: bool = False,
    ) -> None:
        super().__init__()
        self.token_dim = token_dim
        self.num_tokens = num_tokens
        self.model_bytes = b""
        self._session: onnxruntime.InferenceSession | None = None
        # diffusers reads a model's device and dtype from its tensors, and this one has no weights in torch.
        self.register_buffer("_placement", torch.zeros(1), persistent=False)

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        tensor: str | None = None,
        input_mean: float | None = None,
        input_scale: float | None = None,
    ) -> OnnxIdentityEncoder:
        """Read a recognition graph with input (N, 3, S, S), RGB, in float32 or float16.

        Args:
            path: the `.onnx` file.
            tensor: name of the map. Default: the last tensor of shape (N, C, h, h), h > 1, before pooling or
                flattening; its name is logged and stored in `config.tensor`.
            input_mean: default: 127.5, or 0 if the graph itself starts with Sub and Mul.
            input_scale: default: 127.5, or 1 if the graph itself starts with Sub and Mul.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no ONNX file, lacks its weights, takes something else than pictures, or does not run; no
                such tensor, or none of that shape, with the candidates. Names the file.
        """
        path = Path(path)
        model = read_graph(path)
        face = face_input(model, path)
        maps = find_maps(model, face)
        name = _choose_map(maps, tensor, path)
        normalises = {"Sub", "Mul"} <= {node.op_type for node in model.graph.node[:8]}
        encoder = cls(
            tensor=name,
            token_dim=maps[name].channels,
            num_tokens=maps[name].side ** 2,
            input_size=face.side,
            input_mean=input_mean if input_mean is not None else (0.0 if normalises else 127.5),
            input_scale=input_scale if input_scale is not None else (1.0 if normalises else 127.5),
            batched=face.batch == 0,
        )
        encoder.model_bytes = with_output(model, name, maps[name].kind).SerializeToString(deterministic=True)
        encoder._try_out(path)
        return encoder.eval()

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> identity tokens, (B, num_tokens, token_dim)."""
        return map_to_tokens(self._run(image, self.config["tensor"]))

    @torch.no_grad()
    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> the graph's first output, normalised to unit length, (B, E)."""
        return F.normalize(self._run(image, self._open().get_outputs()[0].name).flatten(1))

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, **kwargs: Any
    ) -> None:
        """Write `identity.onnx` and `config.json`; `kwargs` are ignored."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(self.model_bytes)
        self.save_config(folder)
        finish_saving(folder, [CONFIG_FILE])

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> OnnxIdentityEncoder:
        """Read a folder written by `save_pretrained`. `kwargs` are ignored: the graph stays float32."""
        folder = Path(pretrained_model_name_or_path)
        check_saved(folder)
        config = json.loads((folder / CONFIG_FILE).read_text())
        encoder = cls(**{key: value for key, value in config.items() if not key.startswith("_")})
        encoder.model_bytes = (folder / MODEL_FILE).read_bytes()
        return encoder.eval()

    def __getstate__(self) -> dict[str, Any]:
        # A session can be neither copied nor pickled; the copy opens its own from model_bytes.
        return {**self.__dict__, "_session": None}

    def _run(self, image: torch.Tensor, output: str) -> torch.Tensor:
        session = self._open()
        pixels = (resize_face(image.float(), self.config["input_size"]) + 1) * 127.5
        pixels = ((pixels - self.config["input_mean"]) / self.config["input_scale"]).cpu()
        face = session.get_inputs()[0]
        at_once = len(pixels) if self.config["batched"] else _fixed_batch(face)
        kind = np.float16 if face.type == "tensor(float16)" else np.float32
        maps = []
        for piece in pixels.split(max(at_once, 1)):
            full = torch.cat([piece, piece[-1:].expand(at_once - len(piece), -1, -1, -1)])
            found = session.run([output], {face.name: full.numpy().astype(kind)})[0]
            maps.append(torch.from_numpy(found)[: len(piece)].float())
        return to_device(torch.cat(maps), image.device)

    def _try_out(self, path: Path) -> None:
        """Run two faces, from black to white, one by one if the graph takes no two at once, whatever it declares."""
        side = self.config["input_size"]
        try:
            self._check(torch.linspace(-1, 1, side).expand(2, 3, side, side))
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            if not self.config["batched"]:
                raise ValueError(f"{path} does not run as a face recogniser ({in_short(error)}).") from error
            self.register_to_config(batched=False)
            self._try_out(path)

    def _check(self, faces: torch.Tensor) -> None:
        tokens, embeddings = self(faces), self.embed(faces)
        if tokens.shape != (len(faces), self.num_tokens, self.token_dim):
            raise ValueError(f"the tensor {self.config['tensor']} becomes tokens of the shape {tuple(tokens.shape)}")
        if len(embeddings) != len(faces):
            raise ValueError(f"its first output has {len(embeddings)} rows for {len(faces)} faces")
        if not (tokens.isfinite().all() and embeddings.isfinite().all()):
            raise ValueError("its output is not finite")

    def _apply(self, fn: Any, recurse: bool = True) -> OnnxIdentityEncoder:
        # A session belongs to a device: the next call opens one where the encoder is then.
        self._session = None
        return super()._apply(fn, recurse)

    def _open(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            if not self.model_bytes:
                raise ValueError("this encoder holds no graph: create it with OnnxIdentityEncoder.from_onnx.")
            self._session = _open_session(self.model_bytes, self.device)
        return self._session


def providers_for(device: torch.device, available: Sequence[str]) -> list[Any]:
    """What runs the graph for an encoder on `device`, of the `available` providers of onnxruntime; the first is tried
    first, and the next one runs the nodes that it does not know."""
    if device.type == "cuda" and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _open_session(model_bytes: bytes, device: torch.device) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Only errors: old exporters list initialisers as inputs, which gives one warning per weight.
    options.log_severity_level = 3
    # Idle threads sleep instead of spinning: torch needs the cores between two calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = providers_for(device, onnxruntime.get_available_providers())
    return onnxruntime.InferenceSession(model_bytes, options, providers=providers)


def _fixed_batch(face: onnxruntime.NodeArg) -> int:
    return face.shape[0] if isinstance(face.shape[0], int) else 1


def _choose_map(maps: dict[str, Map], tensor: str | None, path: Path) -> str:
    listed = ", ".join(f"{name} ({found})" for name, found in [*maps.items()][-8:])
    if not maps:
        raise ValueError(f"{path} has no inner tensor of shape (N, C, h, h): it is not a convolutional recogniser.")
    if tensor is None:
        tensor = next(reversed(maps))
        logger.info("%s: taking identity tokens from the tensor %s; candidates: %s", path, tensor, listed)
    if tensor not in maps:
        raise ValueError(f"{path} has no map named {tensor!r}; its last ones are {listed}.")
    return tensor
