"""The address that ``up`` listens on: taken before anything else is done, and explained when it cannot be had."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import psutil

BACKLOG = 128


class CannotListen(Exception):
    """The address cannot be used; the text says why and what would work. ``free_port`` is another port to offer, if that is the trouble."""

    def __init__(self, text: str, free_port: int | None = None):
        super().__init__(text)
        self.free_port = free_port


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. The web server gets it by inheritance, so the address stays ours while the server restarts."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise CannotListen(
            f"--bind {host} is no address of this machine. Use 127.0.0.1, or 0.0.0.0 for every network."
        ) from None
    server = socket.socket(family, kind, protocol)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        if error.errno == errno.EADDRINUSE:
            by = who_listens(port)
            other = next_free_port(host, port)
            offer = f" Port {other} is free." if other else ""
            raise CannotListen(f"Port {port} is taken{f' by {by}' if by else ''}.{offer}", other) from None
        if error.errno == errno.EACCES:
            raise CannotListen(
                f"Only the system's administrator may use port {port}. Take one from 1024 on.",
                next_free_port(host, 8000),
            ) from None
        raise CannotListen(
            f"--bind {host} cannot be used here ({error.strerror}). Use 127.0.0.1, or 0.0.0.0 for every network."
        ) from None
    return server


def next_free_port(host: str, after: int) -> int | None:
    """The first port above ``after`` that can be listened on; None when there is none near."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(max(after, 1023) + 1, min(after + 200, 65536)):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return port
    return None


def who_listens(port: int) -> str:
    """``name (process 123)`` of whoever listens there; empty when the system does not tell (other people's processes)."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                mine = " (this one)" if connection.pid == os.getpid() else ""
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid}){mine}"
    return ""


def url_of(host: str, port: int) -> str:
    """The address to open in a browser on this machine."""
    if host in ("", "0.0.0.0", "::", "*"):  # noqa: S104  (a comparison)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
