"""Times of arrival do not hold the work of readers that came before."""

from __future__ import annotations

import asyncio
import threading
import time

from profiling.remote.stream import connect

READERS = 6
#: What a reader does with each part of its answer: long, to be told from what else goes on.
WORK_S = 0.05


def test_bytes_that_arrive_while_other_readers_work_have_their_own_time():
    """Every reader gets a part at the same moment, and a second one while the first readers are still at work on theirs."""
    told = threading.Event()
    sent: list[int] = []

    async def read(port: int) -> int:
        stream = await connect("127.0.0.1", port)
        try:
            assert await stream.read(1) == b"a"
            told.set()
            time.sleep(WORK_S)
            assert await stream.read(1) == b"b"
            return stream.read_ns
        finally:
            await stream.aclose()

    async def serve() -> list[int]:
        writers: list[asyncio.StreamWriter] = []

        async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            if len(writers) == READERS:
                for one in writers:
                    one.write(b"a")
                threading.Thread(target=second, daemon=True).start()

        def second() -> None:
            """From another thread, with the sockets themselves: this loop is the one under test."""
            told.wait(10)
            for one in writers:
                one.get_extra_info("socket")._sock.send(b"b")
                sent.append(time.perf_counter_ns())

        server = await asyncio.start_server(taken, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await asyncio.gather(*(read(port) for _ in range(READERS)))
        finally:
            for one in writers:
                one.close()
            server.close()

    arrived = asyncio.run(serve())
    late = [(at - max(sent)) / 1e9 for at in arrived]
    assert max(late) < (READERS - 1) * WORK_S / 2, late
