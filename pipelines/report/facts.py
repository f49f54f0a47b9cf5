"""The tables around the results: data, settings, generators, timings, environments and fingerprints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipelines.data.records import NO_ATTACK, SPLITS
from pipelines.experiment.config import Experiment
from pipelines.experiment.plan import PLAN_NAME
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json
from pipelines.fingerprint import canonical_json, file_sha256, folder_sha256
from pipelines.report.cells import MISSING, Cell, Row, Table, listed, texts
from pipelines.report.contents import Data, Gathered, Study, TrainingRun


def data_table(data: Data) -> Table:
    """Numbers of faces and videos by domain, split and attack type."""
    kinds = [NO_ATTACK, *data.attack_types]
    cells = {where: Cell(str(faces), f"({videos})") for where, (faces, videos) in data.counts.items()}
    places = dict.fromkeys(zip(data.columns["domain"], data.columns["split"], strict=True))
    rows = [
        Row(f"{domain}, {split}", tuple(cells.get((domain, split, kind), Cell(MISSING)) for kind in kinds))
        for domain, split in sorted(places, key=lambda place: (place[0], SPLITS.index(place[1])))
    ]
    columns = tuple("live" if kind == NO_ATTACK else kind for kind in kinds)
    made = (
        ("Cells", "faces, and in brackets their videos"),
        ("Dataset", f"{data.folder.name}, fingerprint {data.card['fingerprint']}"),
    )
    return Table("Faces", columns, tuple(rows), made, first="domain, split")


def settings_table(study: Study) -> Table:
    """Detector, objective, cue, size and seeds of every group."""
    rows = []
    for group in study.rows:
        experiment = group.trials[0].planned.experiment
        cue = experiment.cue
        workspace = Workspace(experiment)
        takes_t = workspace.needs_restoration() and workspace.timestep() > 0
        cells = texts(
            experiment.detector.name,
            experiment.objective.title,
            cue.source if group.takes_cue else MISSING,
            _sampling(experiment) if takes_t else MISSING,
            cue.form if group.takes_cue else MISSING,
            cue.normalize if group.takes_cue else MISSING,
            str(experiment.train.steps),
            ", ".join(f"{count:,}" for count in group.parameters) or MISSING,
            listed(trial.seed for trial in group.trials),
        )
        rows.append(Row(group.name, cells, group.note, group.number))
    columns = ("detector", "objective", "cue", "t", "form", "normalised", "steps", "parameters", "seeds")
    control = (
        "its cue cannot carry what the generator learned of real faces; a gain over image_only counts only if it is"
        " also a gain over every control"
    )
    arithmetic = dict.fromkeys(_arithmetic(group.trials[0].planned.experiment) for group in study.rows)
    made = (("Control", control), ("Arithmetic", "; or ".join(arithmetic)))
    return Table("Experiments", columns, tuple(rows), made)


def _sampling(experiment: Experiment) -> str:
    cue = experiment.cue
    averaged = f", mean of {cue.samples}" if cue.samples > 1 else ""
    if experiment.generator.name != "dfg":
        return f"{cue.timestep}, {cue.calls or cue.timestep} ancestral steps{averaged}"
    return f"{cue.timestep}, grid of {cue.num_inference_steps}{averaged}"


def _arithmetic(experiment: Experiment) -> str:
    """Number types of training and cues, as their names tell them."""
    train, cue = experiment.train, experiment.cue
    exact = "TF32 on a GPU" if train.tf32 else "float32"
    training = exact if train.mixed_precision == "no" else f"{train.mixed_precision} beside {exact}"
    options = {"TF32 on a GPU": cue.tf32, "channels-last": cue.channels_last, "compiled": cue.compile}
    chosen = [name for name, on in options.items() if on]
    made = ", ".join([f"U-Net {cue.dtype}", f"autoencoder {cue.autoencoder_dtype}", *chosen])
    return f"training {training}; cues {made}"


def generator_table(gathered: Gathered) -> Table | None:
    """The identity encoders and generators, their training data and the verification of identities."""
    rows = [Row(run.title, texts(*_shared_cells(run))) for run in gathered.shared]
    if not rows:
        return None
    made = (("Verification", "AUC of the cosine similarity, same against different person, on persons not trained on"),)
    columns = ("settings", "state", "steps", "live faces", "persons", "parameters", "verification AUC (%)", "last loss")
    return Table("Identity encoder and generator", columns, tuple(rows), made, first="what")


def timing_table(gathered: Gathered) -> Table:
    """Seconds per step and in total, from metrics.jsonl."""
    rows = [_timing_row(run.title, [run]) for run in gathered.shared]
    for study in gathered.studies:
        for group in study.groups:
            runs = [run for trial in group.trials for run in trial.runs.values()]
            rows += [_timing_row(f"detectors, {group.name}", runs)] if runs else []
    total = sum(run.seconds for run in gathered.runs)
    rows.append(Row("total, shared runs once", (Cell(str(len(gathered.runs))), *[Cell("")] * 2, _time(total))))
    made = (("Time", "seconds per step times steps, of training alone, without faces, cues and scores"),)
    return Table("Timings", ("runs", "steps", "s per step", "time"), tuple(rows), made, first="what")


def environment_table(gathered: Gathered) -> Table | None:
    """One column for each distinct environment of the runs."""
    found = [
        {**{name: value for name, value in run.environment.items() if name != "packages"},
         **run.environment.get("packages", {})}
        for run in gathered.runs if run.environment is not None
    ]  # fmt: skip
    if not found:
        return None
    counts = Counter(map(canonical_json, found))
    distinct = list({canonical_json(one): one for one in found}.values())
    rows = [
        Row(name, texts(*(str(one.get(name, MISSING)) for one in distinct)))
        for name in dict.fromkeys(name for one in distinct for name in one)
    ]
    return Table("Environment", tuple(f"{count} runs" for count in counts.values()), tuple(rows), first="what")


def artefact_table(gathered: Gathered) -> Table:
    """The identity of every artefact, and the recorded hash of its content."""
    lines = [(PLAN_NAME, "plan", "", f"sha256 {file_sha256(gathered.root / PLAN_NAME)}")]
    for data in (study.data for study in gathered.studies if study.data is not None):
        lines.append((data.folder.name, "faces", "", f"fingerprint {data.card['fingerprint']}"))
    lines += [(run.folder.name, run.kind, _state(run), _weights(run)) for run in gathered.shared]
    for name, description in gathered.cue_stores.items():
        lines.append((name, "cues", _cue_words(description), f"keys {description.get('keys_sha256')}"))
    for trial in gathered.trials:
        if trial.folder is not None and trial.runs:
            scores = f"scores {trial.result['key']}" if trial.result else MISSING
            lines.append((trial.folder.name, "detectors", trial.planned.title, scores))
    made = (("Name", "hash of everything that decides the artefact, the name of its folder"),)
    rows = tuple(Row(name, texts(*cells)) for name, *cells in dict.fromkeys(lines))
    return Table("Fingerprints", ("kind", "what", "content"), rows, made, first="name")


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
    """The run's configuration in a few words."""
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
    return Row(name, (*texts(str(len(runs)), f"{steps / len(runs):.0f}", rate), _time(seconds)))


def _time(seconds: float) -> Cell:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return Cell(f"{hours}:{minutes:02d}:{rest:02d}")


def _weights(run: TrainingRun) -> str:
    if run.done and "weights_sha256" in run.done:
        return f"weights sha256 {run.done['weights_sha256']}"
    model = run.folder / "model"
    return f"weights sha256 {folder_sha256(model)}" if model.is_dir() else MISSING


def _cue_words(description: dict[str, Any]) -> str:
    source = description.get("identity", {}).get("source", {})
    moment = f", t = {source['timestep']}" if "timestep" in source else ""
    return f"{source.get('name', 'unknown source')}{moment}, {description.get('count')} faces"
