"""A run is a folder. To resume it, run the same command again.

RUN/
  identity.json       everything that determines the result; a folder with another identity is refused
  config.json         the whole experiment, for readers
  environment.json    versions, processor, threads, processes, kernels
  metrics.jsonl       one line per logged step
  checkpoints/        see `pipelines.training.checkpoint`; removed when the run is finished
  snapshots/          step_000200/: a detector that the selection rules may choose
  scores/             step_000200-{dev,test}.parquet
  done.json           written last; without it the run is unfinished
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.claims import leave_folder, take_folder
from pipelines.errors import AgfasError
from pipelines.files import explained_errors, read_json, write_json, write_text
from pipelines.fingerprint import canonical_json, fingerprint
from pipelines.processes import any_process, is_main, main_process_first, package_versions, processor, rank_and_world

_RUN, _CRC32 = "run", "crc32"
_NAME = re.compile("[0-9a-f]{16}")
_PACKAGES = ("torch", "diffusers", "accelerate", "transformers", "timm", "datasets", "numpy", "onnxruntime")


class Run:
    """An open run folder.

    Attributes:
        folder: of the run.
        identity: everything that determines its result.
        was_done: whether it was finished when it was opened: the same on every process, also when the main one has
            finished it since.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], config: dict[str, Any] | None = None) -> None:
        """Create the folder, or check that it belongs to `identity`; called by every process.

        An unfinished run belongs to this job from here to `finish`.

        Raises:
            AgfasError: the folder holds a run with another identity (names the keys that differ), or other files;
                another job is training it.
        """
        self.folder = folder
        self.identity = json.loads(json.dumps(identity, default=str))
        with main_process_first():
            if is_main() and self.done is None:
                take_folder(folder)
            if is_main() and not (folder / "identity.json").is_file():
                self._create(config or {})
            self._check()
        self.was_done = any_process(is_main() and self.done is not None)
        if self.was_done and is_main():
            remove_checkpoints(folder)

    def _create(self, config: dict[str, Any]) -> None:
        """Write the files of a new run; a start that was killed here leaves at most the first two."""
        names = {item.name for item in self.folder.glob("[!.]*")}
        if names - {"config.json", "environment.json"}:
            raise AgfasError(f"{self.folder} exists and is not a run folder. Choose another --output, or empty it.")
        write_json(self.folder / "config.json", config)
        self.describe()
        write_json(self.folder / "identity.json", self.identity)

    def describe(self) -> None:
        """Write what this start computes on; a resumed run keeps that of its last start."""
        write_json(self.folder / "environment.json", describe_environment())

    def _check(self) -> None:
        found = read_json(self.folder / "identity.json")
        known = found if isinstance(found, dict) else {}
        differing = sorted(
            key for key in known.keys() | self.identity.keys() if known.get(key) != self.identity.get(key)
        )
        if differing:
            raise AgfasError(
                f"{self.folder} holds a run with another configuration; different: {', '.join(differing)}."
                " Choose another --output, or remove the folder."
            )

    @property
    def done(self) -> dict[str, Any] | None:
        """The summary given to `finish`, or None if the run is unfinished."""
        return read_done(self.folder)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run as finished and remove its checkpoints."""
        write_json(self.folder / "done.json", {**summary, _RUN: run_id(self.folder)})
        remove_checkpoints(self.folder)
        leave_folder(self.folder)

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with (
            explained_errors(self.folder),
            (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream,
        ):
            stream.write(_as_text(line))

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl, except a truncated last one."""
        return read_metrics(self.folder)

    def forget_after(self, step: int) -> None:
        """Remove the lines after `step`, which the resumed run writes again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_text(self.folder / "metrics.jsonl", "".join(map(_as_text, kept)))


def run_id(folder: Path) -> str:
    """Names the run of a folder: the fingerprint of its identity."""
    return fingerprint(read_json(folder / "identity.json"))


def read_done(folder: Path) -> dict[str, Any] | None:
    """What a finished run left, or None if it is unfinished.

    Raises:
        AgfasError: the file is damaged, or is another run's.
    """
    path = folder / "done.json"
    if not path.is_file():
        return None
    done = read_json(path)
    if not isinstance(done, dict) or (_RUN in done and done.pop(_RUN) != run_id(folder)) or not _is_in_place(folder):
        raise AgfasError(f"{path} is not of the run of this folder. Remove {folder} and run the command again.")
    return done


def _is_in_place(folder: Path) -> bool:
    """Whether a folder in its workspace, which is named by its run, holds this run; folds lie one level below it."""
    named = next((place for place in (folder.parent, folder) if _NAME.fullmatch(place.name)), None)
    known = read_json(folder / "identity.json") if named and (folder / "identity.json").is_file() else None
    if named is None or not isinstance(known, dict) or "schema" not in known:
        return True
    return fingerprint({key: known[key] for key in known if named == folder or key != "fold"}) == named.name


def remove_checkpoints(folder: Path) -> None:
    """Remove those of a finished run, also where a kill or an error came before its end did."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def step_name(step: int) -> str:
    """The name of the files and folders of a training step."""
    return f"step_{step:06d}"


def steps_in(folder: Path) -> list[int]:
    """The steps that have files in a folder, ascending as numbers: from step 1,000,000 on, names sort differently."""
    names = {path.name.split(".")[0].split("-")[0] for path in folder.glob("step_*")}
    return sorted(int(name.removeprefix("step_")) for name in names)


def snapshot_folder(run: Path, step: int) -> Path:
    """Folder of the detector saved after a step."""
    return run / "snapshots" / step_name(step)


def score_path(run: Path, step: int, role: str) -> Path:
    """File of the scores after a step; role is `dev` or `test`."""
    return run / "scores" / f"{step_name(step)}-{role}.parquet"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of the metrics.jsonl in `folder`, except a truncated last one; none if there is no such file.

    Raises:
        AgfasError: a line is damaged.
    """
    path = folder / "metrics.jsonl"
    *lines, last = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else [""]
    # A line that was cut by a kill has no end; one that only lost its line break is whole or damaged.
    lines += [last] if "}" in last[-2:] else []
    return [_line(path, number, text) for number, text in enumerate(lines, 1) if text]


def _as_text(line: dict[str, Any]) -> str:
    return json.dumps({**line, _CRC32: _crc32(line)}) + "\n"


def _crc32(line: dict[str, Any]) -> str:
    return f"{zlib.crc32(canonical_json(line).encode()):08x}"


def _line(path: Path, number: int, text: str) -> dict[str, Any]:
    """A line of metrics; those of older versions have no checksum."""
    with suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
        line = json.loads(text)
        known = line.pop(_CRC32, None) in (None, _crc32(line)) and isinstance(line["step"], int)
        if known and all(isinstance(value, (int, float)) for value in line.values()):
            return dict(line)
    raise AgfasError(f"Line {number} of {path} is not what was written. Remove the line and run the command again.")


def describe_environment() -> dict[str, Any]:
    """Versions and hardware, which timings and last digits depend on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "processes": rank_and_world()[1],
        "device": device,
        "kernels": _kernels(),
        "packages": package_versions(_PACKAGES),
    }


def _kernels() -> str:
    """Settings of torch's kernels; products are in TF32 on a GPU if they are `high`, in bf16 if `medium`."""
    import torch

    switches = {
        "TF32 convolutions": torch.backends.cudnn.allow_tf32,
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "cudnn deterministic": torch.backends.cudnn.deterministic,
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
    }
    words = [f"{name} {'on' if on else 'off'}" for name, on in switches.items()]
    return ", ".join([f"float32 products {torch.get_float32_matmul_precision()}", *words])
