"""How true times of many streams at once are: 64 connections to a server in a process of its own that sends tokens at known times.

    .venv/bin/python -m benchmarks.remote_load [--streams 64] [--tokens 100] [--interval-ms 20] [--json FILE]

Prints the lag of this side's event loop and how far TTFT and TPOT are from the server's own times, taken when it sends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles

from benchmarks.speed.clock import machine, versions
from profiling.remote.load import closed
from profiling.remote.protocol import Question
from profiling.remote.request import ask
from tests.profiling.remote.serving import Request, client, serving


def server(pipe: Connection, tokens: int, interval_s: float) -> None:
    """Tells its address, serves until it is told to end, then tells the times of every request: got, first and last token sent."""

    async def handler(request: Request) -> None:
        await request.head()
        await request.event({"choices": [{"delta": {"role": "assistant"}}]})
        begin = time.perf_counter()
        for number in range(tokens):
            await asyncio.sleep(max(0.0, begin + interval_s * (number + 1) - time.perf_counter()))
            await request.text("x")
        await request.event(
            {"choices": [{"delta": {}, "finish_reason": "length"}], "usage": {"completion_tokens": tokens}}
        )
        await request.event("[DONE]")
        await request.end()

    async def go() -> None:
        async with serving(handler) as (base, requests):
            pipe.send(base)
            await asyncio.to_thread(pipe.recv)
            rows = [
                (one.body["messages"][0]["content"], one.got_ns, one.sent_ns[1], one.sent_ns[tokens])
                for one in requests
            ]
            pipe.send(rows)

    asyncio.run(go())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--interval-ms", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    here, there = multiprocessing.Pipe()
    arguments = (there, options.tokens, options.interval_ms / 1e3)
    process = multiprocessing.get_context("spawn").Process(target=server, args=arguments, daemon=True)
    process.start()
    base = here.recv()

    async def go():
        async with client(connections=options.streams) as http:
            await closed(
                lambda n: ask(http, base, Question("tiny", f"warm {n}")),
                options.streams,
                options.streams,
                lambda sent: False,
            )
            return await closed(
                lambda n: ask(http, base, Question("tiny", str(n))),
                options.streams,
                options.streams,
                lambda sent: False,
            )

    found = asyncio.run(go())
    here.send("end")
    truth = {name: times for name, *times in here.recv()}
    process.join(10)
    ttft, tpot = [], []
    for one in found.sent:
        _got, first, last = truth[str(one.index)]
        # perf_counter is the machine's own monotonic clock: the same in both processes.
        ttft.append(one.answer.ttft_s - (first - one.answer.sent_ns) / 1e9)
        tpot.append(one.answer.tpot_s / ((last - first) / (options.tokens - 1) / 1e9) - 1)
    result = {
        "machine": machine(),
        "versions": versions(None),
        "streams": options.streams,
        "tokens": options.tokens,
        "interval_s": options.interval_ms / 1e3,
        "failed": sum(one.answer.error is not None for one in found.sent),
        "lag_p99_s": quantiles(found.lags_s, n=100)[98],
        "lag_max_s": max(found.lags_s),
        "ttft_late_median_s": median(ttft),
        "ttft_late_max_s": max(ttft),
        "tpot_error_median": median(tpot),
        "tpot_error_largest": max(tpot, key=abs),
    }
    print(
        f"{options.streams} streams of {options.tokens} tokens, one every {options.interval_ms:g} ms; {result['failed']} failed"
    )
    print(
        f"lag of the event loop: 99th percentile {result['lag_p99_s'] * 1e3:.2f} ms, largest {result['lag_max_s'] * 1e3:.2f} ms (goal: p99 under 5 ms)"
    )
    print(f"TTFT read after it was sent: median {median(ttft) * 1e3:.2f} ms, largest {max(ttft) * 1e3:.2f} ms")
    print(
        f"TPOT against the server's: median {median(tpot) * 100:+.3f} %, largest {result['tpot_error_largest'] * 100:+.3f} % (goal: 5 %)"
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
