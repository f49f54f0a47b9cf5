"""Where the page listens: checked before a model is loaded, so that a wrong address is answered at once."""

from __future__ import annotations

import errno
import ipaddress
import socket

from pipelines.errors import AgfasError

_HOSTS = "Allowed are 127.0.0.1 (this computer alone), 0.0.0.0 (everyone who reaches it), or an address that it has."


def check_address(host: str, port: int) -> bool:
    """See that the address can be listened at.

    Args:
        host: a name or an address, an IPv6 one with or without brackets.
        port: of that address.

    Returns:
        Whether this computer alone reaches it.

    Raises:
        AgfasError: the port is taken or not allowed, or the host is no address of this computer.
    """
    if not 1 <= port <= 65535:
        raise AgfasError(f"--port must lie between 1 and 65535, not {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise AgfasError(f"--host {host} is no address. {_HOSTS}") from None
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as error:
            raise _not_to_be_had(host, port, error) from None
    return ipaddress.ip_address(str(address[0])).is_loopback


def bracketed(host: str) -> str:
    """A host as it stands in an address of the web: an IPv6 one in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _not_to_be_had(host: str, port: int, error: OSError) -> AgfasError:
    if error.errno == errno.EADDRINUSE:
        return AgfasError(f"Port {port} of {host} is taken. End what listens there, or give another one with --port.")
    if error.errno == errno.EACCES:
        return AgfasError(f"Port {port} is for the system's own services. Give one of 1024 and above with --port.")
    return AgfasError(f"--host {host} cannot be listened at ({error.strerror}). {_HOSTS}")
