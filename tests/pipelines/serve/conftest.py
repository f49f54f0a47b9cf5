"""A tiny exported model, which a process opens without torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported_models import some_faces, untrained

from pipelines.export.folder import export_folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    export_folder(untrained("livenessnet"), folder, some_faces, aligned_only=True)
    return folder
