"""Real PostgreSQL and Redis for tests: those that the environment names, else private servers started from the binaries found here.

``LLMCOMPARE_TEST_DATABASE_URL`` and ``LLMCOMPARE_TEST_BROKER_URL`` name running servers. Without them, and without the binaries, the
tests that need a server are skipped with the reason; under ``CI=true`` they fail instead, so that nothing is left out unseen.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unavailable(what: str, package: str, variable: str) -> None:
    message = f"{what} is not here: install it (Debian: apt-get install {package}) or name a server in {variable}."
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _postgres_bin() -> Path | None:
    """The folder of the newest PostgreSQL. Debian keeps its programs out of PATH, in a folder per major version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    on_path = shutil.which("pg_ctl")
    candidates = folders + ([Path(on_path).resolve().parent] if on_path else [])
    return next((p for p in candidates if (p / "initdb").exists() and (p / "pg_ctl").exists()), None)


def _unprivileged() -> dict:
    """Arguments for ``subprocess``: PostgreSQL refuses to run as root, so root lends it another account."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return {}


@contextmanager
def private_postgres() -> Iterator[str]:
    """A PostgreSQL server of our own on a free port of 127.0.0.1; yields the URL of its empty database."""
    programs = _postgres_bin()
    if programs is None:
        unavailable("PostgreSQL", "postgresql", "LLMCOMPARE_TEST_DATABASE_URL")
    account = _unprivileged()
    # Not pytest's temporary folder: only its owner may enter that, and the server runs under another account.
    with tempfile.TemporaryDirectory(prefix="llmcompare-postgres-") as home:
        password = secrets.token_hex(16)
        (Path(home) / "password").write_text(password)
        if account:
            for path in (home, f"{home}/password"):
                os.chown(path, account["user"], account["group"])
        data, port = f"{home}/data", free_port()

        def run(*command: str) -> None:
            done = subprocess.run(
                command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, **account
            )
            if done.returncode:
                log = Path(home, "log")
                raise RuntimeError(f"{done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}")

        run(
            str(programs / "initdb"),
            *("-D", data, "-U", "llmcompare", f"--pwfile={home}/password", "--auth=scram-sha-256"),
            *("-E", "UTF8", "--locale=C", "--no-sync"),
        )
        settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off -c max_connections=60"
        # pg_ctl -w returns once the server answers. Its output must not be a pipe: the server would inherit and hold it.
        with open(os.devnull, "wb") as nothing:
            started = subprocess.run(
                [str(programs / "pg_ctl"), "-D", data, "-l", f"{home}/log", "-o", settings, "-w", "-t", "60", "start"],
                **{"cwd": home, "stdin": subprocess.DEVNULL, "stdout": nothing, "stderr": nothing, **account},
            )
        if started.returncode:
            raise RuntimeError("PostgreSQL did not start:\n" + Path(home, "log").read_text())
        try:
            yield f"postgresql://llmcompare:{password}@127.0.0.1:{port}/postgres"
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")


@contextmanager
def private_redis() -> Iterator[str]:
    """A Redis server of our own on a free port of 127.0.0.1, keeping nothing on disk; yields its URL."""
    program = shutil.which("redis-server")
    if program is None:
        unavailable("Redis", "redis-server", "LLMCOMPARE_TEST_BROKER_URL")
    import redis

    with tempfile.TemporaryDirectory(prefix="llmcompare-redis-") as home:
        port, log = free_port(), Path(home, "log")
        server = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", home],
            stdin=subprocess.DEVNULL,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        try:
            client = redis.Redis(port=port)
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError("Redis did not start:\n" + log.read_text()) from None
                    time.sleep(0.02)
            client.close()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(timeout=20)


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """An empty database on that PostgreSQL server, dropped afterwards together with the connections that are still open to it."""
    import psycopg
    from psycopg import sql

    name = sql.Identifier(label := f"llmcompare_test_{secrets.token_hex(6)}")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{label}"))
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a real PostgreSQL server (and its maintenance database)."""
    given = os.environ.get("LLMCOMPARE_TEST_DATABASE_URL")
    if given:
        yield given
    else:
        with private_postgres() as url:
            yield url


@pytest.fixture
def postgres_database(postgres_url) -> Iterator[str]:
    """A ``DATABASE_URL`` of an empty PostgreSQL database that only this test uses."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A ``BROKER_URL`` of a real Redis server. Tests share it: use names or queues of your own."""
    given = os.environ.get("LLMCOMPARE_TEST_BROKER_URL")
    if given:
        yield given
    else:
        with private_redis() as url:
            yield url
