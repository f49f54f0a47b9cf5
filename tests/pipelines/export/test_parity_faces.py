"""The faces that an export compares scores on, and those that choose the ranges of int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image

from pipelines.data.faces import open_faces
from pipelines.data.records import CARD_NAME, face_features, face_key
from pipelines.export import parity
from pipelines.files import write_json


def test_a_dataset_without_attacks_is_compared_on_simulated_ones(tmp_path):
    folder = write_live(tmp_path / "faces", 12)
    faces = parity.dataset_faces(folder, 32, number=8, others=8)
    assert faces.words == "of faces, with attacks simulated from them"
    assert len(faces.crops) == len(faces.others) == 8
    live = {crop.tobytes() for crop in open_faces(folder, 32).images}
    known = [sum(crop.tobytes() in live for crop in part) for part in (faces.crops, faces.others)]
    assert known == [6, 6]
    assert not {crop.tobytes() for crop in faces.crops} & {crop.tobytes() for crop in faces.others}


def write_live(folder: Path, number: int) -> Path:
    """Live faces of a person, without landmarks."""
    rows = []
    for frame in range(number):
        pixels = np.random.default_rng(frame).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        record = {"domain": "camera", "subject": "p", "video": "v", "frame": frame}
        more = {"image": Image.fromarray(pixels), "label": 1, "attack_type": "none", "split": "train"}
        rows.append({"key": face_key(*record.values()), **record, **more, "landmarks": [[np.nan] * 2] * 5})
    Dataset.from_list(rows, features=face_features()).save_to_disk(str(folder))
    write_json(folder / CARD_NAME, {"fingerprint": "live", "faces": number})
    return folder
