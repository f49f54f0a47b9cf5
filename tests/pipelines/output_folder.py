"""A made-up output folder: faces, runs and score tables as the stages write them, without any training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from oanet.detectors import build_detector
from oanet.names import CUE_CHANNELS
from pipelines.data.protocols import indices, protocol_folds
from pipelines.data.records import CARD_NAME, face_features, face_key, load_faces
from pipelines.evaluation.judge import write_result
from pipelines.evaluation.scores import ScoreTable
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment
from pipelines.experiment.plan import Planned, expand, record
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json, write_json, write_text

DOMAINS = ("kiosk", "phone", "webcam")
KINDS = ("none", "none", "print", "replay", "mask")
ENVIRONMENT = {"python": "3.11.2", "cores": 2, "device": "cpu", "packages": {"torch": "2.14.0"}}
STEPS = (50, 100)


def write_faces(folder: Path, domains: tuple[str, ...] = DOMAINS, subjects: int = 4, size: int = 16) -> None:
    """Subjects of every domain, in turn train, dev and test, each with two live and three attack videos."""
    rows: list[dict[str, Any]] = []
    for domain in domains:
        for number in range(subjects):
            subject, split = f"{domain}{number}", ("train", "dev", "test", "train")[number % 4]
            for place, kind in enumerate(KINDS):
                rows.append(_record(domain, subject, f"{subject}-{place}", kind, split, size))
    Dataset.from_list(rows, features=face_features()).save_to_disk(str(folder))
    write_json(folder / CARD_NAME, {"fingerprint": "0123456789abcdef", "faces": len(rows)})


def make_experiment(root: Path, **changes: Any) -> Experiment:
    """An experiment on the faces of ROOT/../faces."""
    content: dict[str, Any] = {
        "output": str(root),
        "data": {"name": "dataset", "path": str(root.parent / "faces"), "size": 16},
        "train": {"steps": STEPS[-1], "evaluations": len(STEPS)},
        "evaluate": {"replicates": 100},
        "identity": {"name": "none"},
    }
    return build_experiment({**content, **changes}, "a test")


def make_output(
    root: Path,
    experiment: Experiment,
    unfinished: tuple[str, ...] = (),
    skill: dict[str, float] | None = None,
) -> list[Planned]:
    """Write plan.json and everything of every experiment; `unfinished` ones get their first fold only.

    Args:
        root: the output folder; the faces of the experiment must exist.
        experiment: with its sweep.
        unfinished: titles.
        skill: how far live scores lie above attack scores, by label.
    """
    planned = expand(experiment)
    record(root, planned)
    for item in planned:
        workspace = Workspace(item.experiment)
        faces = load_faces(workspace.faces)
        columns = {name: np.asarray(faces[name][:]) for name in faces.column_names if name not in _PICTURES}
        folds = protocol_folds(item.experiment.protocol, columns)
        half = item.title in unfinished
        for fold in folds[:1] if half else folds:
            folder = workspace.detector() / fold.name
            _write_run(folder, item)
            test = np.isin(np.arange(len(columns["key"])), indices(columns, fold)["test"])
            roles = {"dev": np.isin(columns["domain"], fold.dev_domains) & ~test, "test": test}
            for step in STEPS:
                for role, chosen in roles.items():
                    table = _scores(columns, chosen, item, step, (skill or {}).get(item.label, 1.5))
                    table.save(folder / "scores" / f"step_{step:06d}-{role}.parquet")
        if not half:
            write_result(workspace.detector(), item.experiment.evaluate)
    return planned


def save_detector(item: Planned, seed: int) -> None:
    """An untrained detector as the last snapshot of every judged fold."""
    options = item.experiment.detector.options()
    if item.experiment.detector.name != "image_only":
        options["cue_channels"] = CUE_CHANNELS[item.experiment.cue.form]
    detector = build_detector(item.experiment.detector.name, seed=seed, **options)
    for name, parameter in detector.named_parameters():
        if "cross_attention" in name and "output" in name:
            # Its zeros would hide the cue.
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(seed))
    folder = Workspace(item.experiment).detector()
    for fold in read_json(folder / "result.json")["folds"]:
        detector.save_pretrained(folder / fold / "snapshots" / f"step_{STEPS[-1]:06d}")


_PICTURES = ("image", "landmarks")


def _record(domain: str, subject: str, video: str, kind: str, split: str, size: int) -> dict[str, Any]:
    shade = (_generator(video).random((size, size, 3)) * 255).astype(np.uint8)
    return {
        "key": face_key(domain, subject, video, 0),
        "image": Image.fromarray(shade),
        "label": int(kind == "none"),
        "attack_type": kind,
        "domain": domain,
        "subject": subject,
        "video": video,
        "frame": 0,
        "split": split,
        "landmarks": [[4.0, 5.0]] * 5,
    }


def _write_run(folder: Path, item: Planned) -> None:
    write_json(folder / "identity.json", {"seed": item.experiment.seed})
    write_json(folder / "environment.json", ENVIRONMENT)
    write_json(folder / "done.json", {"parameters": 1234567, "snapshots": list(STEPS)})
    lines = [
        {"step": step, "seconds_per_step": 0.5, "loss": 2 / (1 + step / 20)} for step in range(10, STEPS[-1] + 1, 10)
    ]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def _scores(columns: dict[str, np.ndarray], chosen: np.ndarray, item: Planned, step: int, skill: float) -> ScoreTable:
    chosen = np.flatnonzero(chosen)
    label = columns["label"][chosen]
    # What makes a face hard is hard for every detector, so that pairs have something to cancel.
    shared = np.array([_generator(key).normal() for key in columns["key"][chosen]])
    own = _generator(f"{item.title}/{step}").normal(size=len(chosen))
    level = (label * 2 - 1) * skill * (0.5 + 0.5 * step / STEPS[-1]) + shared + 0.5 * own
    names = ("key", "video", "subject", "domain", "attack_type", "label")
    return ScoreTable(**{name: columns[name][chosen] for name in names}, score=1 / (1 + np.exp(-level)))


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
