"""Files like the published ones with random weights, and a face dataset that keeps the picture around each face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from datasets import Dataset, Features
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from prepare_stubs import SquareDetector, png, scene

from oanet.detectors import build_detector
from oanet.detectors.minifasnet import SCALES, MiniFASNetwork
from pipelines.data.alignment import align
from pipelines.data.records import CARD_NAME, face_features, face_key, picture_features
from pipelines.files import write_json


def save_liveness_vit(path: Path, seed: int = 0) -> str:
    """A random network in the layout of the published checkpoint, whose classes are live and spoof."""
    ours = build_detector("liveness_vit", seed=seed).state_dict()
    names = {"positions": "pos_embed", "class_token": "cls_token"}
    state = {}
    for name, value in ours.items():
        name = names.get(name, name).replace("patches.", "patch_embed.proj.")
        name = name.replace("layers.", "encoder.transformer_encoder.layers.")
        if name.startswith("head.classifier"):
            name, value = name.replace("classifier.", ""), value.flip(0)
        state[name] = value
    torch.save({"model": state, "cfg": {"model": {"nhead": 4}}, "threshold": np.float64(0.45)}, path)
    return str(path)


def save_minifasnet(folder: Path, seed: int = 0) -> list[str]:
    """Both networks; their running statistics are drawn too, so that scores differ from picture to picture."""
    torch.random.default_generator.manual_seed(seed)
    paths = []
    for kind in SCALES:
        network = MiniFASNetwork(kind)
        torch.nn.init.normal_(network.prob.weight, std=0.4)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        paths.append(folder / f"{kind}.pth")
        torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, paths[-1])
    return [str(path) for path in paths]


def save_liveness(path: Path, scale: float = 1.0) -> str:
    """A graph with the input and output of insightface's add-on; `scale` takes its output out of [0, 1]."""
    random = np.random.default_rng(3)
    values = {
        "kernel": random.normal(size=(4, 3, 5, 5)),
        "mix": random.normal(size=(4, 1)) / 10,
        "scale": np.array([scale]),
    }
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    steps = [
        ("Conv", ["face", "kernel"]), ("Relu", ["0"]), ("GlobalAveragePool", ["1"]), ("Flatten", ["2"]),
        ("MatMul", ["3", "mix"]), ("Squeeze", ["4", "axis"]), ("Sigmoid", ["5"]), ("Mul", ["6", "scale"]),
    ]  # fmt: skip
    nodes = [helper.make_node(kind, given, [str(number)]) for number, (kind, given) in enumerate(steps)]
    nodes[-1].output[0] = "live"
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("face", ["N", 3, 80, 80]), ("live", ["N"]))
    ]
    graph = helper.make_graph(nodes, "liveness", *ends, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def write_pictured_faces(folder: Path, domains: tuple[str, ...] = ("phone", "webcam"), size: int = 32) -> Path:
    """Three persons of every domain, one a split, live and attacked, with the whole picture, the box and the points."""
    rows: list[dict[str, Any]] = []
    for domain in domains:
        for number, split in enumerate(("train", "dev", "test")):
            for kind in ("none", "print"):
                photo = scene((40, 20, 70), seed=len(rows))
                found = SquareDetector()(photo)[0]
                crop = align(photo, found.landmarks, size=size)
                subject = f"{domain}{number}"
                rows.append(
                    {
                        "key": face_key(domain, subject, f"{subject}-{kind}", 0),
                        "image": Image.fromarray(crop.picture),
                        "label": int(kind == "none"),
                        "attack_type": kind,
                        "domain": domain,
                        "subject": subject,
                        "video": f"{subject}-{kind}",
                        "frame": 0,
                        "split": split,
                        "landmarks": crop.landmarks.tolist(),
                        "picture": {"bytes": png(photo), "path": None},
                        "box": found.box.tolist(),
                        "points": found.landmarks.tolist(),
                    }
                )
    features = Features({**face_features(), **picture_features()})
    Dataset.from_list(rows, features=features).save_to_disk(str(folder))
    write_json(folder / CARD_NAME, {"fingerprint": "fedcba9876543210", "faces": len(rows)})
    return folder
