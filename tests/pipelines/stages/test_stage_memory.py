"""No stage's model is in memory once the stage is over, in one process and in two."""

from __future__ import annotations

import json

import pytest
from launching import ended, start
from small_experiments import chain_settings

# Prints, for each stage, the classes of the modules that are alive when it is over.
STAGES = """
import gc, json, sys, weakref
from pathlib import Path
from torch import nn
from pipelines.artefacts.faces import make_faces
from pipelines.experiment.file import build_experiment
from pipelines.stages import cues, evaluate, train_detector, train_dfg, train_identity

modules, begin = [], nn.Module.__init__

def remembered(self, *arguments, **options):
    begin(self, *arguments, **options)
    modules.append(weakref.ref(self))

nn.Module.__init__ = remembered

def alive():
    gc.collect()
    made = [type(module).__name__ for module in (reference() for reference in modules) if module is not None]
    count = len(modules)
    modules.clear()
    return [count, sorted(set(made))]

experiment = build_experiment(json.loads(Path(sys.argv[1]).read_text()), "the test")
faces = make_faces(experiment)
found = {}
train_identity.run(experiment, faces)
found["identity"] = alive()
train_dfg.run(experiment, faces)
found["generator"] = alive()
cues.run(experiment, faces, [41])
found["cues"] = alive()
train_detector.run(experiment, faces)
found["detectors"] = alive()
evaluate.run(experiment, faces)
found["evaluate"] = alive()
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_no_model_outlives_its_stage(tmp_path, processes):
    (tmp_path / "experiment.json").write_text(json.dumps(chain_settings(tmp_path / "out")))
    (tmp_path / "stages.py").write_text(STAGES)
    ranks = ended(start(processes, tmp_path / "stages.py", tmp_path / "experiment.json"), timeout=200)
    for code, out, errors in ranks:
        assert code == 0, errors[-3000:]
        for stage, (made, left) in json.loads(out.splitlines()[-1]).items():
            assert made > 10, stage
            assert left == [], stage
