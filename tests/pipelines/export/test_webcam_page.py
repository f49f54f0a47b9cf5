"""The page of docs/webcam in a browser judges as `predict.py` does.

It needs Chromium, and the folder `dist` of the npm package onnxruntime-web, named by AGFAS_ORT_WEB.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from detection_graphs import RED, tiny_yunet
from exported_models import some_faces, untrained
from PIL import Image

from pipelines.export import predict
from pipelines.export.folder import export_folder

PAGE = Path(__file__).parents[3] / "docs" / "webcam" / "index.html"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUNTIME = os.environ.get("AGFAS_ORT_WEB", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
    pytest.mark.skipif(not RUNTIME, reason="AGFAS_ORT_WEB names no onnxruntime-web"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An exported model, with the page, its library and three pictures beside it."""
    place = tmp_path_factory.mktemp("page")
    # Between the scores of the two faces, so that a page that always says the same is noticed.
    model = untrained("resnet18", yunet=tiny_yunet(place / "tiny.onnx"), threshold=0.2)
    export_folder(model, place / "exported", some_faces)
    shutil.copyfile(PAGE, place / "exported" / "index.html")
    shutil.copytree(RUNTIME, place / "exported" / "ort")
    across, down = np.meshgrid(np.linspace(0, 1, 240), np.linspace(0, 1, 160))
    for number, (left, top) in enumerate([(64, 80), (160, 40)]):
        photo = np.stack([30 + 0 * across, 200 * across, 200 * np.abs(np.sin(6 * down + number))], -1).astype(np.uint8)
        photo[top : top + 8, left : left + 8] = RED
        Image.fromarray(photo).save(place / "exported" / f"face{number}.png")
    Image.new("RGB", (96, 64), (20, 120, 90)).save(place / "exported" / "empty.png")
    return place / "exported"


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    """Of a server of the folder."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def shown(address: str, picture: str, profile: Path) -> str:
    """What the page says of a picture."""
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"),
        *("--virtual-time-budget=60000", f"{address}/index.html?picture={picture}"),
    ]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<output[^>]*>(.*?)</output>", page, re.DOTALL)
    assert found is not None, page[:500]
    return found[1]


@pytest.mark.parametrize(("picture", "verdict"), [("face0.png", "live"), ("face1.png", "attack")])
def test_the_page_gives_the_verdict_of_predict(folder, address, tmp_path, picture, verdict):
    expected = predict.Model(folder)(folder / picture)
    words = shown(address, picture, tmp_path)
    found = re.fullmatch(r"(\w+): score (\d\.\d{4}), threshold \d\.\d{4}", words)
    assert found is not None, words
    assert found[1] == expected.verdict == verdict
    assert float(found[2]) == pytest.approx(expected.score, abs=2e-3)


def test_a_picture_without_a_face_is_said_to_have_none(address, tmp_path):
    assert shown(address, "empty.png", tmp_path) == "no face"
