"""What was run, on what, how long, and under which identities: the tables around the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.data.records import NO_ATTACK
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import PLAN_NAME
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.fingerprint import canonical_json, file_sha256, folder_sha256
from pipelines.report.cells import MISSING, Cell, Row, Table
from pipelines.report.contents import Data, Gathered, Group, Study, TrainingRun


def data_table(data: Data) -> Table:
    """Faces and videos by domain and split, live and of each attack type."""
    kinds = [NO_ATTACK, *data.attack_types]
    places = dict.fromkeys(zip(data.columns["domain"], data.columns["split"], strict=True))
    rows = [
        Row(f"{domain}, {split}", tuple(_count_cell(data.counts.get((domain, split, kind))) for kind in kinds))
        for domain, split in sorted(places, key=lambda place: (place[0], _SPLIT_ORDER.index(place[1])))
    ]
    columns = tuple("live" if kind == NO_ATTACK else kind for kind in kinds)
    made = (
        ("Cells", "faces, and in brackets the videos that they are frames of"),
        ("Dataset", f"{data.folder.name}, fingerprint {data.card['fingerprint']}"),
    )
    return Table("Faces", columns, tuple(rows), made, first="domain, split")


def settings_table(study: Study) -> Table:
    """Detector, objective, cue and size of every group."""
    rows = []
    for group in (*study.methods, *study.controls):
        experiment = group.trials[0].planned.experiment
        cue = experiment.cue
        workspace = Workspace(experiment)
        takes_t = workspace.needs_restoration() and workspace.timestep() > 0
        cells = (
            experiment.detector.name,
            experiment.objective.name,
            cue.source if group.takes_cue else MISSING,
            _sampling(experiment) if takes_t else MISSING,
            cue.form if group.takes_cue else MISSING,
            cue.normalize if group.takes_cue else MISSING,
            str(experiment.train.steps),
            _parameters(group),
            ", ".join(str(trial.planned.experiment.seed) for trial in group.trials),
        )
        note = "control" if group.is_control else ""
        rows.append(Row(group.name, tuple(Cell(text) for text in cells), note, group.number))
    columns = ("detector", "objective", "cue", "t", "form", "normalised", "steps", "parameters", "seeds")
    made = (("Control", "its cue cannot carry what the generator knows of real faces; no gain over image_only"
             " counts that is not also a gain over every control"),)  # fmt: skip
    return Table("Experiments", columns, tuple(rows), made)


def _sampling(experiment: Experiment) -> str:
    cue = experiment.cue
    averaged = f", mean of {cue.samples}" if cue.samples > 1 else ""
    if experiment.generator.name != "dfg":
        return f"{cue.timestep}, {cue.calls or cue.timestep} ancestral steps{averaged}"
    return f"{cue.timestep}, grid of {cue.num_inference_steps}{averaged}"


def generator_table(gathered: Gathered) -> Table | None:
    """The identity encoders and generators, what they were trained on and how well identity is verified."""
    rows = [Row(run.title, tuple(Cell(text) for text in _shared_cells(run))) for run in gathered.shared]
    if not rows:
        return None
    made = (("Verification", "AUC of cosine similarity, same against other person, on persons not trained on"),)
    columns = ("settings", "state", "steps", "live faces", "persons", "parameters", "verification AUC (%)", "last loss")
    return Table("Identity encoder and generator", columns, tuple(rows), made, first="what")


def timing_table(gathered: Gathered) -> Table:
    """Seconds per step and in all, from metrics.jsonl."""
    rows = [_timing_row(run.title, [run]) for run in gathered.shared]
    for study in gathered.studies:
        for group in study.groups:
            runs = [run for trial in group.trials for run in trial.runs.values()]
            rows += [_timing_row(f"detectors, {group.name}", runs)] if runs else []
    total = sum(run.seconds for run in gathered.runs)
    rows.append(Row("together, shared runs once", (Cell(str(len(gathered.runs))), *[Cell("")] * 2, _time(total))))
    made = (("Time", "seconds per step times steps, of training alone; faces, cues and scores are not in it"),)
    return Table("Timings", ("runs", "steps", "s per step", "time"), tuple(rows), made, first="what")


def environment_table(gathered: Gathered) -> Table | None:
    """One column for each distinct environment that runs were begun in."""
    known: dict[str, tuple[dict[str, Any], int]] = {}
    for run in gathered.runs:
        if run.environment is not None:
            flat = _flat(run.environment)
            key = canonical_json(flat)
            known[key] = (flat, known.get(key, (flat, 0))[1] + 1)
    if not known:
        return None
    names = list(dict.fromkeys(name for flat, _ in known.values() for name in flat))
    rows = [Row(name, tuple(Cell(str(flat.get(name, MISSING))) for flat, _ in known.values())) for name in names]
    columns = tuple(f"{count} runs" for _, count in known.values())
    return Table("Environment", columns, tuple(rows), first="what")


def artefact_table(gathered: Gathered) -> Table:
    """Identity of everything that was made, and the hash of its content where one is kept."""
    rows = [_artefact(PLAN_NAME, "plan", "", "sha256 " + file_sha256(gathered.root / PLAN_NAME))]
    for study in gathered.studies:
        if study.data is not None:
            data = study.data
            rows.append(_artefact(data.folder.name, "faces", "", f"fingerprint {data.card['fingerprint']}"))
    rows += [_artefact(run.folder.name, run.kind, _state(run), _weights(run)) for run in gathered.shared]
    for name, description in gathered.cue_stores.items():
        rows.append(_artefact(name, "cues", _cue_words(description), f"keys {description.get('keys_sha256')}"))
    for trial in gathered.trials:
        if trial.folder is not None and trial.runs:
            scores = f"scores {trial.result['key']}" if trial.result else MISSING
            rows.append(_artefact(trial.folder.name, "detectors", trial.planned.title, scores))
    made = (("Name", "hash of everything that decides the artefact, which is its folder's name"),)
    unique = tuple({(row.name, row.cells): row for row in rows}.values())
    return Table("Fingerprints", ("kind", "what", "content"), unique, made, first="name")


_SPLIT_ORDER = ("train", "dev", "test")


def _count_cell(count: tuple[int, int] | None) -> Cell:
    return Cell(MISSING) if count is None else Cell(str(count[0]), f"({count[1]})")


def _parameters(group: Group) -> str:
    counts = {run.done["parameters"] for t in group.trials for run in t.runs.values() if run.done}
    return ", ".join(f"{count:,}" for count in sorted(counts)) or MISSING


def _shared_cells(run: TrainingRun) -> list[str]:
    done = run.done or {}
    auc = done.get("verification_auc")
    counts = [done.get("faces", done.get("live_faces")), done.get("identities"), done.get("parameters")]
    return [
        _settings(run),
        _state(run),
        str(run.steps),
        *(MISSING if count is None else f"{count:,}" for count in counts),
        MISSING if auc is None else f"{100 * auc:.1f}",
        f"{run.metrics[-1]['loss']:.4f}" if run.metrics else MISSING,
    ]


def _settings(run: TrainingRun) -> str:
    """What the run's own configuration says of it, in a few words."""
    path = run.folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    block = config.get(run.kind, {})
    words = [block.get("preset"), ", ".join(block.get("domains", []))]
    if run.kind == "generator":
        name = block.get("name", "dfg")
        words = [name, *words]
        if name == "dfg":
            words += [f"{block.get('autoencoder', {}).get('name')} autoencoder"]
            words += [f"identity {config.get('identity', {}).get('name')}"]
    return "; ".join(word for word in words if word) or MISSING


def _state(run: TrainingRun) -> str:
    return "finished" if run.done is not None else "unfinished"


def _timing_row(name: str, runs: Sequence[TrainingRun]) -> Row:
    steps, seconds = sum(run.steps for run in runs), sum(run.seconds for run in runs)
    rate = f"{seconds / steps:.3f}" if steps else MISSING
    return Row(name, (Cell(str(len(runs))), Cell(_steps(runs)), Cell(rate), _time(seconds)))


def _steps(runs: Sequence[TrainingRun]) -> str:
    return f"{np.mean([run.steps for run in runs]):.0f}" if runs else MISSING


def _time(seconds: float) -> Cell:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return Cell(f"{hours}:{minutes:02d}:{rest:02d}")


def _flat(environment: dict[str, Any]) -> dict[str, Any]:
    packages = environment.get("packages", {})
    return {**{key: value for key, value in environment.items() if key != "packages"}, **packages}


def _artefact(name: str, kind: str, what: str, content: str) -> Row:
    return Row(name, (Cell(kind), Cell(what), Cell(content)))


def _weights(run: TrainingRun) -> str:
    if run.done and "weights_sha256" in run.done:
        return f"weights sha256 {run.done['weights_sha256']}"
    model = run.folder / "model"
    return f"weights sha256 {folder_sha256(model)}" if model.is_dir() else MISSING


def _cue_words(description: dict[str, Any]) -> str:
    source = description.get("identity", {}).get("source", {})
    moment = f", t = {source['timestep']}" if "timestep" in source else ""
    return f"{source.get('name', 'unknown source')}{moment}, {description.get('count')} faces"
