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

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch.nn import functional as F

from dfg.noise import to_device
from dfg.saved import ModelMixin, check_saved, finish_saving
from dfg.tokens import map_to_tokens, resize_face

if TYPE_CHECKING:
    import onnx
    import onnxruntime

logger = logging.getLogger(__name__)

MODEL_FILE = "identity.onnx"
CONFIG_FILE = "config.json"


class OnnxIdentityEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Face -> identity tokens, from an inner tensor of an ONNX graph. Created by `from_onnx`; always frozen.

    A graph with a fixed batch size of one is run once per face.

    Args:
        tensor: name of the tensor that holds the map (B, C, h, w).
        token_dim: C.
        num_tokens: h * w.
        input_size: side in pixels that faces are resized to.
        input_mean: subtracted from pixels in [0, 255].
        input_scale: divides the result.
        batched: whether the graph accepts more than one face at a time.
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
        """Read a recognition graph with input (N, 3, S, S), RGB.

        Args:
            path: the `.onnx` file.
            tensor: name of the map. Default: the last tensor of shape (N, C, h, h), h > 1, before pooling or
                flattening; its name is logged and stored in `config.tensor`.
            input_mean: default: 127.5, or 0 if the graph itself starts with Sub and Mul.
            input_scale: default: 127.5, or 1 if the graph itself starts with Sub and Mul.

        Raises:
            ValueError: no such tensor, or none of that shape; names the candidates.
        """
        import onnx

        model = onnx.load(str(path))
        maps = _find_maps(model)
        name = _choose_map(maps, tensor, path)
        normalises = {"Sub", "Mul"} <= {node.op_type for node in model.graph.node[:8]}
        channels, side = maps[name]
        encoder = cls(
            tensor=name,
            token_dim=channels,
            num_tokens=side * side,
            input_size=_input_shape(model)[2] or 112,
            input_mean=input_mean if input_mean is not None else (0.0 if normalises else 127.5),
            input_scale=input_scale if input_scale is not None else (1.0 if normalises else 127.5),
            batched=_input_shape(model)[0] != 1,
        )
        encoder.model_bytes = _with_output(model, name).SerializeToString(deterministic=True)
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
        pieces = [pixels] if self.config["batched"] else pixels.split(1)
        name = session.get_inputs()[0].name
        maps = [torch.from_numpy(session.run([output], {name: piece.numpy()})[0]) for piece in pieces]
        return to_device(torch.cat(maps), image.device)

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


def _input_shape(model: onnx.ModelProto) -> list[int]:
    """Shape of the image input, with 0 for a dynamic axis."""
    weights = {tensor.name for tensor in model.graph.initializer}
    pictures = [value for value in model.graph.input if value.name not in weights]
    return [dim.dim_value for dim in pictures[0].type.tensor_type.shape.dim]


def _find_maps(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Name -> (C, h) of every node output of shape (N, C, h, h) with h > 1, in graph order."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    names = [name for node in model.graph.node for name in node.output]
    square = {name: shapes[name] for name in names if len(shapes.get(name, [])) == 4}
    return {name: (s[1], s[2]) for name, s in square.items() if s[2] == s[3] > 1 and s[1] > 0}


def _choose_map(maps: dict[str, tuple[int, int]], tensor: str | None, path: str | Path) -> str:
    listed = ", ".join(f"{name} ({channels}x{side}x{side})" for name, (channels, side) in [*maps.items()][-8:])
    if not maps:
        raise ValueError(f"{path} has no inner tensor of shape (N, C, h, h): it is not a convolutional recogniser.")
    if tensor is None:
        tensor = next(reversed(maps))
        logger.info("%s: taking identity tokens from the tensor %s; candidates: %s", path, tensor, listed)
    if tensor not in maps:
        raise ValueError(f"{path} has no map named {tensor!r}; its last ones are {listed}.")
    return tensor


def _with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy of the graph with the tensor `name` as an additional output."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if name not in {output.name for output in copy.graph.output}:
        copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy
