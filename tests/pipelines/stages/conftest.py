"""What the tests of the stages share."""

from __future__ import annotations

import pytest
from small_experiments import chain_settings

from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment


@pytest.fixture
def small(tmp_path) -> Experiment:
    """An experiment of every stage, of which nothing is made yet."""
    return build_experiment(chain_settings(tmp_path / "out"), "the test")
