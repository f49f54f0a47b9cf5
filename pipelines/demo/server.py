"""Serving the page at an address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.demo.address import bracketed
from pipelines.demo.judge import Judge
from pipelines.demo.uploads import Uploads
from pipelines.errors import AgfasError

MAX_FILE_SIZE = 50 * 2**20
"""Bytes of a file that is still taken."""

_SESSIONS = 64  # whose last answer is remembered, in memory


@contextmanager
def serving(judge: Judge, host: str, port: int) -> Iterator[tuple[str, Uploads]]:
    """Serve the page while the block runs.

    Visitors' files lie in a folder that nobody else can read and that is gone afterwards. Gradio counts no visits,
    makes no public link, keeps no list of answers in the browser, and fetches nothing from elsewhere.

    Args:
        judge: answers.
        host: name or address to listen at.
        port: of that address.

    Yields:
        Where the page is, and its uploads.

    Raises:
        AgfasError: the extra `demo` is not installed, or the address cannot be had.
    """
    with TemporaryDirectory(prefix="agfas-demo-") as folder, _told_to_gradio(folder):
        parts = load_page()
        uploads = Uploads(Path(folder))
        page = parts.build_page(judge, uploads)
        try:
            page.launch(
                server_name=bracketed(host), server_port=port, share=False, inbrowser=False,
                prevent_thread_lock=True, quiet=True, show_error=True, footer_links=[], run_history=False,
                enable_monitoring=False, ssr_mode=False, mcp_server=False, pwa=False,
                max_file_size=MAX_FILE_SIZE, state_session_capacity=_SESSIONS,
                theme=parts.THEME, css_paths=parts.STYLE,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # the port was taken meanwhile; a proxy stands before this computer
            raise AgfasError(f"The page cannot be served at {host}:{port}: {error}") from error
        try:
            yield page.local_url, uploads
        finally:
            page.close(verbose=False)


def load_page() -> Any:
    """The module `pipelines.demo.page`, which needs Gradio.

    Raises:
        AgfasError: it is not installed; says how to install it.
    """
    try:
        from pipelines.demo import page
    except ModuleNotFoundError as error:
        raise AgfasError(f"The page needs Gradio ({error}). Run: pip install 'agfas[demo]'") from None
    return page


@contextmanager
def _told_to_gradio(folder: str) -> Iterator[None]:
    """What Gradio reads from the environment, at every upload too: so it must stand while the page does."""
    told = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
