"""``endpoint``: time a server that speaks the OpenAI protocol, from here."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from profiling.load import MODES, Load
from profiling.quantities import UNKNOWN, show
from profiling.remote.levels import GAIN, Sweep, levels
from profiling.spec import SpecError, Workload
from profiling.units import DEFINITIONS


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "endpoint",
        help="time a server that speaks the OpenAI protocol (vLLM, SGLang, llama.cpp, Ollama, transformers serve, ...)",
        description="Send requests to a server and report TTFT, TPOT, end-to-end latency, throughput and goodput as seen from here. "
        "Latencies hold the network; tokens are the server's own count.",
    )
    parser.add_argument("--url", required=True, help="address up to the version, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="", help="which of the server's models; left out: the only one it has")
    parser.add_argument("--list-models", action="store_true", help="print the server's models and stop")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable that holds the API key")
    parser.add_argument("--prompt", help="left out: words at random")
    parser.add_argument(
        "--same-prompt",
        action="store_true",
        help="send the same prompt every time, so that caches of prefixes may answer",
    )
    parser.add_argument(
        "--input-tokens", type=int, default=128, help="words of a random prompt, about a token each (default 128)"
    )
    parser.add_argument("--output-tokens", type=int, default=64, help="most tokens of an answer (default 64)")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument(
        "--load",
        choices=(*MODES, "sweep"),
        default="closed",
        help="closed: users who wait; poisson, constant: arrivals that do not; sweep: closed loops of more and more users, until throughput "
        "grows no further",
    )
    parser.add_argument(
        "--levels", default="1..16", help="users of a sweep: 1,2,4,8 or 1..64 for doublings (default 1..16)"
    )
    parser.add_argument(
        "--gain", type=float, default=GAIN, help=f"share of throughput that a level must gain (default {GAIN})"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="one request more: ask for the server's own times and layers (python -m serving)",
    )
    parser.add_argument("--concurrency", type=int, default=1, help="users of a closed loop (default 1)")
    parser.add_argument("--rate", type=float, help="requests per second of an open loop")
    parser.add_argument("--seconds", type=float, help="no request is sent later than this")
    parser.add_argument("--warmup", type=int, default=1, help="requests before that do not count (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit", type=float, default=900.0, metavar="S")
    for name in ("ttft", "tpot", "e2e"):
        parser.add_argument(f"--slo-{name}", type=float, metavar="S", help="objective of goodput, in seconds")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the document to FILE; - or nothing: to standard output",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from profiling.remote.addresses import Refused, parse_networks, server
    from profiling.remote.client import list_models, make_client, probe
    from profiling.remote.endpoint import Endpoint, measure_endpoint
    from profiling.remote.spec import at_once

    # Whoever has this command line has the machine: every network that it reaches is open to them anyway.
    everywhere = parse_networks("0.0.0.0/0 ::/0")
    try:
        base = server(arguments.url).base
    except Refused as error:
        raise SpecError("url", str(error)) from None
    key = _key(arguments.api_key_env)
    load = Load(
        mode="closed" if arguments.load == "sweep" else arguments.load,
        concurrency=arguments.concurrency,
        rate=arguments.rate,
        requests=arguments.requests,
        seconds=arguments.seconds,
        ttft_s=arguments.slo_ttft,
        tpot_s=arguments.slo_tpot,
        e2e_s=arguments.slo_e2e,
    )
    load.check()
    sweep = Sweep(levels(arguments.levels), arguments.gain) if arguments.load == "sweep" else None
    if sweep is not None:
        sweep.check()

    def client() -> Any:
        return make_client(everywhere, connections=max(at_once(load, sweep), 100))

    async def look() -> tuple[list[str], Any, Any]:
        async with client() as http:
            if arguments.model and not arguments.list_models:
                return [], *await probe(http, base, arguments.model, key)
            names = await list_models(http, base, key)
            if arguments.list_models or len(names) != 1:
                return names, None, None
            return names, *await probe(http, base, names[0], key)

    try:
        names, abilities, answer = asyncio.run(look())
    except Refused as error:
        raise SpecError("url", str(error)) from None
    if arguments.list_models:
        print("\n".join(names))
        return 0
    if answer is None:
        raise SpecError(
            "model", f"The server has {len(names)} models; choose one with --model: {', '.join(names[:10])}"
        )
    if abilities is None:
        raise SpecError("url", answer.error or "The server does not answer.")
    model = arguments.model or names[0]
    endpoint = Endpoint(
        base,
        base,
        model,
        abilities.api,
        abilities.usage_asked,
        not arguments.same_prompt,
        profile=arguments.profile,
    )
    workload = Workload(
        input_tokens=arguments.input_tokens,
        output_tokens=arguments.output_tokens,
        prompt=arguments.prompt,
        warmup=arguments.warmup,
        seed=arguments.seed,
        time_limit_s=arguments.time_limit,
    )
    found = measure_endpoint(endpoint, workload, load, client, sweep=sweep, key=key, progress=_progress)
    if arguments.json == "-":
        print(json.dumps(found, indent=1))
    else:
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
        _print(found)
    return 0 if found["metrics"] else 1


def _key(name: str | None) -> str | None:
    """From the environment: an argument would be seen by everyone who lists processes."""
    if name is None:
        return None
    if not os.environ.get(name):
        raise SpecError("api-key-env", f"The environment variable {name} is not set.")
    return os.environ[name]


def _progress(stage: str, fraction: float, message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{fraction:4.0%} {message:<60}", end="", file=sys.stderr, flush=True)


def _print(found: dict[str, Any]) -> None:
    if sys.stderr.isatty():
        print("\r" + " " * 70, end="\r", file=sys.stderr)
    load = found["load"]
    print(
        f"{found['endpoint']['model']} at {found['endpoint']['name']}: {load['served']} of {load['due']} requests answered"
    )
    if "sweep" in found:
        _print_sweep(found["sweep"])
    for entry in found["metrics"].values():
        unit, parts = entry["unit"], [show(entry["value"], entry["unit"])]
        parts += [f"{name} {show(entry[name], unit)}" for name in ("p90", "p99") if entry.get(name) is not None]
        print(f"  {DEFINITIONS[entry['definition']].name:<42} {', '.join(parts)}")
    for figure, here, there, difference in (found["clocks"] or {"rows": []})["rows"]:
        times = [UNKNOWN if value is None else show(value, "s") for value in (here, there, difference)]
        print(f"  {figure:<5} here {times[0]}, server {times[1]}, network and gateway {times[2]}")
    for failure in found["failures"]:
        print(f"  {failure['requests']} failed: {failure['message']}")
    for warning in found["warnings"]:
        print(f"note: {warning['message']}")


def _print_sweep(sweep: dict[str, Any]) -> None:
    for row in sweep["levels"]["rows"]:
        one = dict(zip(sweep["levels"]["columns"], row, strict=True))
        rate = (
            ("output_throughput", "token/s")
            if one["output_throughput"] is not None
            else ("request_throughput", "request/s")
        )
        parts = [f"{one[rate[0]]:.4g} {rate[1]}" if one[rate[0]] is not None else UNKNOWN]
        parts += [
            f"{title} {show(one[name], 's')}"
            for title, name in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"))
            if one[name] is not None
        ]
        if one["failed"]:
            parts.append(f"{one['failed']} failed")
        mark = " (best)" if one["users"] == sweep["best"] else ""
        print(f"  {one['users']:>5} users: {', '.join(parts)}{mark}")
    print(f"  {sweep['why']}")
