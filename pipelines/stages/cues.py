"""Stage 4: every face restored once and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.config import Experiment
from pipelines.cues.job import cue_status, run_cue_job, verify_cues
from pipelines.cues.sources import AutoencoderSource, DfgSource
from pipelines.cues.store import CueStore
from pipelines.data.faces import Faces
from pipelines.errors import AgfasError
from pipelines.processes import device, is_main, rank_and_world, wait
from pipelines.stages import faces as faces_stage
from pipelines.stages.detector_cues import judged_faces
from pipelines.stages.train_dfg import load_generator
from pipelines.workspace import Workspace

# A control without a t of its own: the autoencoder's reconstruction.
AUTOENCODER = None
Timestep = int | None
