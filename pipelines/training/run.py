"""A run is a folder; running the same command again resumes it.

RUN/
  identity.json       everything that decides the result; a folder of another identity is refused
  config.json         the whole experiment, for a reader
  environment.json    versions, processor, threads
  metrics.jsonl       one line per logged step
  checkpoints/        step_000200/: model, optimizer and average in safetensors; state.json
  snapshots/          step_000200/: a detector that the selection rules may choose
  scores/             step_000200-{dev,test}.parquet
  done.json           written last; a run without it is not finished
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.errors import AgfasError
from pipelines.files import explained_errors, read_json, write_json, write_text

_PACKAGES = ("torch", "diffusers", "accelerate", "transformers", "timm", "datasets", "numpy", "onnxruntime")


class Run:
    """An opened run folder.

    Attributes:
        folder: where everything of this run lies.
        identity: what decides its result.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], config: dict[str, Any] | None = None) -> None:
        """Make the folder, or check that it belongs to `identity`.

        Raises:
            AgfasError: the folder holds a run of another configuration; the differing keys are named.
        """
        self.folder = folder
        self.identity = json.loads(json.dumps(identity, default=str))
        known = folder / "identity.json"
        if known.is_file():
            _check_same(folder, read_json(known), self.identity)
        else:
            _refuse_foreign(folder)
            write_json(folder / "config.json", config or {})
            write_json(folder / "environment.json", describe_environment())
            write_json(known, self.identity)

    @property
    def done(self) -> dict[str, Any] | None:
        """What the run left when it finished, or None."""
        path = self.folder / "done.json"
        return read_json(path) if path.is_file() else None

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run as finished; its training checkpoints are no longer needed."""
        write_json(self.folder / "done.json", summary)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with (
            explained_errors(self.folder),
            (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream,
        ):
            stream.write(json.dumps(line) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl; a torn last line is left out."""
        return read_metrics(self.folder)

    def forget_after(self, step: int) -> None:
        """Drop the lines past `step`, which a resumed run will write again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))


def step_name(step: int) -> str:
    """What the files of a training step are called."""
    return f"step_{step:06d}"


def steps_in(folder: Path) -> list[int]:
    """The steps that files of a folder are of, in order: from step 1,000,000 on names no longer sort like numbers."""
    names = {path.name.split(".")[0].split("-")[0] for path in folder.glob("step_*")}
    return sorted(int(name.removeprefix("step_")) for name in names)


def snapshot_folder(run: Path, step: int) -> Path:
    """Where a run keeps the detector of a step."""
    return run / "snapshots" / step_name(step)


def score_path(run: Path, step: int, role: str) -> Path:
    """Where the scores of a step are stored; role is `dev` or `test`."""
    return run / "scores" / f"{step_name(step)}-{role}.parquet"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def describe_environment() -> dict[str, Any]:
    """What a timing or a last digit may depend on."""
    import torch

    versions = {name: _version(name) for name in _PACKAGES}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "packages": versions,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _check_same(folder: Path, known: dict[str, Any], given: dict[str, Any]) -> None:
    if known == given:
        return
    differing = sorted(key for key in known.keys() | given.keys() if known.get(key) != given.get(key))
    raise AgfasError(
        f"{folder} holds a run of another configuration; different: {', '.join(differing)}."
        " Give another --output, or remove the folder if it is no longer wanted."
    )


def _refuse_foreign(folder: Path) -> None:
    """A folder with someone else's files is not ours to write into."""
    if folder.is_dir() and any(not item.name.startswith(".") for item in folder.iterdir()):
        leftovers = {"config.json", "environment.json"}
        if {item.name for item in folder.iterdir() if not item.name.startswith(".")} - leftovers:
            raise AgfasError(f"{folder} exists and is no run folder. Give another --output, or empty it.")
