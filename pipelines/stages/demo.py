"""`agfas demo`: serve the page until it is stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipelines.asgi import check_address
from pipelines.demo.server import load_page, serving

if TYPE_CHECKING:
    from pipelines.verdict import FaceAntiSpoofing

_SWEEP_EVERY = 30.0  # seconds


def run(
    open_detector: Callable[[], FaceAntiSpoofing],
    host: str,
    port: int,
    aligned: bool = False,
    names: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Args:
        open_detector: loads the detector; called after the address and Gradio were checked, which is quick.
        host: name or address to listen at.
        port: to listen at.
        aligned: use pictures as aligned crops.
        names: further names by which the page is reached.
        say: prints a line.

    Raises:
        AgfasError: the extra `demo` is not installed, the address cannot be used, or the detector cannot be opened.
    """
    from pipelines.demo.answer import Judge

    local = check_address(host, port)
    load_page()
    judge = Judge(open_detector(), aligned)
    before = signal.signal(signal.SIGTERM, _stop)  # the default handler would leave the visitors' files
    try:
        with serving(judge, host, port, names) as (url, uploads):
            say(f"The page: {url} (Ctrl-C stops it)")
            if not local:
                say("Everyone who reaches this computer can use it. A browser's webcam works on localhost and https.")
            while True:
                time.sleep(_SWEEP_EVERY)
                uploads.sweep()
    except KeyboardInterrupt:
        say("Stopped; no picture was kept.")
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt
