"""``python -m tests.standins.vertex --port 0 --token TOKEN=PROJECT [--storage FOLDER]``: prints its address, runs until it is terminated."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tests.standins.vertex.server import Server
from tests.standins.vertex.world import World


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.standins.vertex", description=__doc__)
    asked.add_argument("--port", type=int, default=0, help="0: a free one")
    asked.add_argument("--token", action="append", default=[], metavar="TOKEN=PROJECT")
    asked.add_argument("--storage", type=Path, help="folder behind gs://local/")
    asked.add_argument("--until-stdin-ends", action="store_true", help="end with the process that holds the other end")
    given = asked.parse_args()
    tokens = dict(pair.split("=", 1) for pair in given.token)
    world = World(storage=given.storage, tokens=tokens)
    server = Server(given.port, world)

    def end(*_signal: Any) -> None:
        world.ending.set()
        threading.Thread(target=server.shutdown).start()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, end)
    if given.until_stdin_ends:
        threading.Thread(target=lambda: (sys.stdin.read(), end()), daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)
    world.reset()
    return 0


if __name__ == "__main__":
    sys.exit(main())
