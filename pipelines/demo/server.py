"""Serving the page: its address and Gradio's server."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from pipelines.asgi import bracketed
from pipelines.demo.answer import Judge
from pipelines.demo.uploads import Uploads
from pipelines.errors import AgfasError
from pipelines.processes import environment_with

_SESSIONS = 64  # visitors whose last answer is kept in memory


@contextmanager
def serving(judge: Judge, host: str, port: int, names: Sequence[str] = ()) -> Iterator[tuple[str, Uploads]]:
    """Serve the page while the block runs.

    Uploads are stored in a folder that no other user can read and that is deleted afterwards. Gradio counts no visits,
    makes no public link, keeps no history in the browser, and fetches nothing from elsewhere. A `Gate` stands
    before it.

    Args:
        judge: answers.
        host: name or address to listen at.
        port: to listen at.
        names: of the page beside addresses, `localhost` and this computer's name, such as that of a proxy before it.

    Yields:
        The page's URL, and its uploads.

    Raises:
        AgfasError: the extra `demo` is not installed, or the address cannot be used.
    """
    # Gradio reads its variables at every upload.
    with (
        TemporaryDirectory(prefix="agfas-demo-") as folder,
        environment_with({"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}),
    ):
        parts = load_page()
        uploads = Uploads(Path(folder))
        page, served = parts.build_page(judge, uploads), {host, socket.gethostname(), *names}
        try:
            page.launch(
                server_name=bracketed(host), server_port=port, share=False, inbrowser=False,
                prevent_thread_lock=True, quiet=True, show_error=False, footer_links=[], run_history=False,
                enable_monitoring=False, ssr_mode=False, mcp_server=False, pwa=False,
                max_file_size=judge.bounds.file_bytes, state_session_capacity=_SESSIONS,
                app_kwargs={"middleware": [parts.gate(uploads, served, judge.bounds)]},
                theme=parts.THEME, css_paths=parts.STYLE,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # the port was taken meanwhile, or a proxy hides this computer
            raise AgfasError(f"The page cannot be served at {host}:{port}: {error}") from error
        parts.hurry(page.server, 2 * judge.bounds.requests)
        try:
            yield page.local_url, uploads
        finally:
            page.close(verbose=False)


def load_page() -> ModuleType:
    """The module `pipelines.demo.page`, which needs Gradio.

    Raises:
        AgfasError: Gradio is not installed.
    """
    try:
        from pipelines.demo import page
    except ModuleNotFoundError as error:
        raise AgfasError(f"The page needs Gradio ({error}). Run: pip install 'agfas[demo]'") from None
    return page
