"""An ONNX file that somebody brings: read whole with the files beside it, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_POINTER = b"version https://git-lfs"
# Of an input whose height and width are free: what face recognisers are trained at.
_USUAL_SIDE = 112


@dataclass(frozen=True)
class FaceInput:
    """The one input of a face recogniser, (N, 3, S, S).

    Attributes:
        name: the tensor's.
        batch: N, 0 if any number of faces.
        side: S in pixels.
    """

    name: str
    batch: int
    side: int


@dataclass(frozen=True)
class Map:
    """A tensor (N, C, h, h) of a graph.

    Attributes:
        channels, side: C and h.
        kind: its number type, by ONNX's code.
    """

    channels: int
    side: int
    kind: int

    def __str__(self) -> str:
        return f"{self.channels}x{self.side}x{self.side}"


def read_graph(path: Path) -> onnx.ModelProto:
    """The model of a file, with the weights that lie beside it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no ONNX file, its weights are missing, or it is newer than the installed onnx.
    """
    import onnx

    model = _parsed(path)
    check_external(path, _locations(model))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx's checks of lengths and offsets raise errors of several kinds
        raise ValueError(f"{path} cannot be read with the weights beside it ({in_short(error)}).") from error
    version = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if version > (known := onnx.defs.onnx_opset_version()):
        raise ValueError(
            f"{path} is of opset {version}, and the installed onnx knows {known}: update onnx and onnxruntime, or"
            " export the model with a lower opset."
        )
    return model


def external_names(path: Path) -> list[str]:
    """The files beside an ONNX file that hold weights of it; none for what is no ONNX file."""
    try:
        return _locations(_parsed(path))
    except ValueError:  # refused with its reason when it is opened as a model
        return []


def check_external(path: Path, names: list[str]) -> None:
    """Check the `external_names` of an ONNX file.

    Raises:
        ValueError: one is missing or lies outside the file's folder.
    """
    for name in names:
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(
                f"{path} names {name} for its weights, which is outside its folder: export it with them beside it."
            )
        if not (path.parent / name).is_file():
            raise ValueError(f"{path} keeps weights in {name}, and there is no such file beside it: copy both.")


def face_input(model: onnx.ModelProto, path: Path) -> FaceInput:
    """The input of a recogniser.

    Raises:
        ValueError: it has another input than float RGB pictures (N, 3, S, S), or several.
    """
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ValueError(f"{path} has {len(inputs)} inputs ({names}); a face recogniser has one, the picture.")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ValueError(f"{path} takes {kind} pictures; export it with an input of float32 or float16.")
    shape = [dim.dim_value for dim in tensor.shape.dim]
    sides = {side for side in shape[2:] if side > 0}
    if len(shape) != 4 or shape[1] not in (0, 3) or len(sides) > 1:
        last = " (channels last)" if len(shape) == 4 and shape[3] == 3 else ""
        given = ", ".join(str(size or "any") for size in shape)
        raise ValueError(f"{path} takes ({given}){last}; a face recogniser takes RGB pictures (N, 3, S, S).")
    return FaceInput(inputs[0].name, shape[0], sides.pop() if sides else _USUAL_SIDE)


def find_maps(model: onnx.ModelProto, face: FaceInput) -> dict[str, Map]:
    """Every node output of shape (N, C, h, h) with h > 1 by its name, in graph order."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in sized.graph.input:
        if value.name == face.name:
            for dim, size in zip(value.type.tensor_type.shape.dim[1:], (3, face.side, face.side), strict=True):
                dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(sized).graph
    types = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    found = {}
    for name in (name for node in model.graph.node for name in node.output if name in types):
        shape = [dim.dim_value for dim in types[name].shape.dim]
        if len(shape) == 4 and shape[2] == shape[3] > 1 and shape[1] > 0:
            found[name] = Map(shape[1], shape[2], types[name].elem_type)
    return found


def with_output(model: onnx.ModelProto, name: str, kind: int) -> onnx.ModelProto:
    """A copy of the model with the tensor `name` as an additional output."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if name not in {output.name for output in copy.graph.output}:
        copy.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return copy


def in_short(error: Exception) -> str:
    """An error of another library in one line."""
    return " ".join(str(error).split())[:200]


def _parsed(path: Path) -> onnx.ModelProto:
    import onnx

    content = path.read_bytes()
    if content.startswith(_POINTER):
        raise ValueError(f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` where it came from.")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, which has no public home
        raise ValueError(f"{path} is not an ONNX file ({in_short(error)}): download it again.") from error
    if not model.graph.node:
        raise ValueError(f"{path} is not an ONNX file: it holds no graph. Download it again.")
    return model


def _locations(model: onnx.ModelProto) -> list[str]:
    import onnx

    tensors = _tensors([model.graph])
    outside = [tensor for tensor in tensors if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return sorted({entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"})


def _tensors(graphs: list[onnx.GraphProto]) -> Iterator[onnx.TensorProto]:
    """The weights of graphs and of those inside their nodes, such as the branches of an `If`."""
    for graph in graphs:
        yield from graph.initializer
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            yield from ([attribute.t] if attribute.HasField("t") else attribute.tensors)
            yield from _tensors([attribute.g] if attribute.HasField("g") else list(attribute.graphs))
