"""`agfas serve`: judge what comes over HTTP until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.asgi import bracketed, check_address
from pipelines.errors import AgfasError
from pipelines.serve.settings import Limits, Serving
from pipelines.verdict.exported import is_exported
from pipelines.verdict.folder import SETTINGS_NAME, wrong_kind
from pipelines.verdict.hub import local_model


def run(
    serving: Serving,
    limits: Limits,
    host: str,
    port: int,
    key_file: Path | None = None,
    no_key: bool = False,
    names: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        serving: the model and its workers.
        limits: of requests.
        host: name or address to listen at.
        port: to listen at.
        key_file: with a key a line; default: the key of the environment, if any.
        no_key: whether an address that others reach may be served without a key.
        names: by which the server is reached besides.
        say: prints a line.

    Raises:
        AgfasError: the extra `serve` is not installed, the address or a key cannot be used, strangers could use the
            server, or the model cannot be opened.
    """
    try:
        from pipelines.serve.server import keys_of, serve
    except ModuleNotFoundError as error:
        raise AgfasError(f'The server needs more packages ({error}). Run: pip install "agfas[serve]"') from None
    keys, local = keys_of(key_file), check_address(host, port)
    if not keys and not local and not no_key:
        raise AgfasError(
            f"Everyone who reaches {host} could use the server. Name a file with keys (--api-key-file), set"
            " AGFAS_API_KEY, or say --no-key."
        )
    model = local_model(serving.model)  # here, so that the workers open one folder, and fetch nothing
    if not is_exported(model) and not (model / SETTINGS_NAME).is_file():
        raise AgfasError(wrong_kind(model))
    url = f"http://{bracketed(host)}:{port}"
    served = {host, socket.gethostname(), *names}
    say(f"Loading {serving.model} for {url} ...")
    serving = replace(serving, model=str(model))
    try:
        serve(
            serving, limits, host, port, keys, served,
            lambda dispatcher: say(f"Ready: {url}/v1/verdict, described at {url}/docs (Ctrl-C stops it)"),
        )  # fmt: skip
    except KeyboardInterrupt:
        say("Stopped; nothing was stored.")
