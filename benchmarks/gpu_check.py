"""What only a GPU can show, checked and printed in under eight minutes: ceilings, measurements against estimates, memory, failures.

    .venv/bin/python -m benchmarks.gpu_check [--cpu] [--only WORD …] [--out FOLDER] [--whole FOLDER] [--seconds 420]

Needs torch, transformers and psutil, not the portal; for the container starlette and uvicorn. Every check prints what was found and ``ok``, ``differs`` or ``failed``. The list of
checks and the run documents without their long tables are written to ``--out`` (default: ``benchmarks/results``), the whole documents to
``--whole``. ``--cpu`` runs the same on the processor with small models, to see that the script itself works (its readings of a device
then differ). What does not begin within ``--seconds`` is listed as not done.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import gpu_replay
from benchmarks.gpu import container, readings
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.checks import Checks
from benchmarks.gpu.container import NotHere
from profiling import host
from profiling.load import Load
from profiling.spec import Workload

RESULTS = Path(__file__).parent / "results"
#: Tables of a run document that are left out of the committed result: they are long, and made anew from model and ceilings.
LEFT_OUT = ("graph", "operators", "modules", "module_times", "roofline", "estimates", "samples")


def checks_of(bench: Bench, checks: Checks, *, cpu: bool) -> None:
    def reading(key: str, read: readings.Reading) -> tuple[bool, str]:
        return read(bench.documents[key])

    checks.run("ceilings", bench.ceilings)
    checks.run("1B, prompt of 512", lambda: bench.measured("1B", "1B", files=True, iterations=20))
    checks.run("1B, memory against the estimate", lambda: reading("1B", readings.memory))
    checks.run("1B, allocated, reserved, used", lambda: reading("1B", readings.allocator))
    checks.run("1B, module times", lambda: reading("1B", readings.modules))
    checks.run("1B, operators under modules", lambda: reading("1B", readings.operators))
    checks.run("1B, sensors", lambda: reading("1B", readings.sensors))
    checks.run("1B, resources and energy", lambda: reading("1B", readings.resources))
    checks.run("1B, trace and snapshot", lambda: reading("1B", readings.artifacts(bench.files)))
    checks.run("1B, operator replay", lambda: replayed(bench, "1B"))
    checks.run("8B, prompt of 2048", lambda: bench.measured("8B", "8B", input_tokens=2048))
    checks.run("8B, memory against the estimate", lambda: reading("8B", readings.memory))
    checks.run("8B, module times", lambda: reading("8B", readings.modules))
    checks.run("8B, operator replay", lambda: replayed(bench, "8B"))
    checks.run("runs out in a pass", bench.runs_out)
    checks.run("the next one: 1B, batch 16", lambda: bench.measured("1B batch 16", "1B", batch_size=16))
    checks.run("too large is refused", bench.refused)
    checks.run("mixture of experts", lambda: bench.measured("MoE", "MoE"))
    checks.run("mixture of experts, memory", lambda: reading("MoE", readings.memory))
    checks.run("encoder, batch 8", lambda: bench.measured("encoder", "encoder", batch_size=8))
    load = Load(concurrency=4, requests=16, ttft_s=0.5, tpot_s=0.05)
    checks.run("1B, four users", lambda: bench.measured("1B load", "1B", load=load, iterations=2))
    checks.run("1B, what the users got", lambda: reading("1B load", readings.load))
    checks.run("1B, serving container", lambda: contained(bench, "1B"))
    checks.run("8B, tensor parallel over two", lambda: divided(bench, "8B"))
    checks.run("8B, tensor parallel, memory of one", lambda: reading("8B over two", readings.divided_memory))
    half = "fp32" if cpu else "fp16"
    checks.run("1B, eager attention", lambda: bench.measured("1B eager", "1B", attn_implementation="eager"))
    checks.run("1B, fp16", lambda: bench.measured("1B fp16", "1B", dtype=half))


def replayed(bench: Bench, key: str) -> tuple[bool, str]:
    """Operator replay on the device against what was measured under ``key``."""
    measured = bench.documents[key]
    workload = Workload.from_json(measured["workload"])
    good, words, document = gpu_replay.check(bench.models[key], workload, measured)
    bench.documents[f"{key} replay"] = document
    return good, words


def divided(bench: Bench, key: str) -> tuple[bool, str]:
    """The same model by two GPUs of this host, or by two processes of its processor."""
    if bench.devices < 2:
        raise NotHere(f"it needs two {'cores' if bench.kind == 'cpu' else 'GPUs'}, and there is one")
    compared, words = bench.measured(f"{key} over two", key, input_tokens=2048, tensor_parallel=2)
    document = bench.documents[f"{key} over two"]
    shared = document["parallel"]["shared_machine"]
    # Processes that share a machine have no estimated times beside them.
    return compared is not shared, f"{document['parallel']['backend']}, {words}"


def contained(bench: Bench, key: str) -> tuple[bool, str]:
    good, words, answer = container.check(
        bench.models[key].config, bench.dtype, "cpu" if bench.kind == "cpu" else "cuda"
    )
    bench.documents[f"{key} container"] = answer
    return good, words


def slim(document: Mapping[str, Any]) -> dict[str, Any]:
    """A run document without its long tables; the rates of its device stand once in the result, under ``ceilings``."""
    kept = {name: value for name, value in document.items() if name not in LEFT_OUT}
    if "profiled" in kept:
        kept["profiled"] = {name: kept["profiled"][name] for name in ("method", "stages", "copies")}
    if "ceilings" in (kept.get("hardware") or {}):
        kept["hardware"] = kept["hardware"] | {"ceilings": []}
    if "memory" in kept:
        kept["memory"] = {name: value for name, value in kept["memory"].items() if name != "timeline"}
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="the same checks on the processor, with tiny models")
    parser.add_argument("--only", nargs="+", default=(), metavar="WORD", help="checks with one of these in their name")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--whole", type=Path, metavar="FOLDER", help="where to write whole documents; default: nowhere")
    parser.add_argument("--seconds", type=float, default=420.0, help="no further check begins after so many")
    options = parser.parse_args()
    bench, checks = Bench(cpu=options.cpu), Checks(options.seconds, tuple(options.only))
    print(bench.hardware.name, flush=True)
    checks_of(bench, checks, cpu=options.cpu)
    made = datetime.now(UTC)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"gpu_check_{made:%Y-%m-%d}.json"
    packages = host.package_versions()
    result = {
        "schema": "llmcompare-gpu-check",
        "created": made.isoformat(timespec="seconds"),
        "hardware": bench.hardware.name,
        "versions": {name: packages[name] for name in ("torch", "transformers")},
        "checks": checks.rows,
        "left_out": list(LEFT_OUT),
        "documents": {key: slim(document) for key, document in bench.documents.items()},
    }
    target.write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    if options.whole:
        options.whole.mkdir(parents=True, exist_ok=True)
        whole = json.dumps(bench.documents, allow_nan=False)
        (options.whole / "gpu_documents.json").write_text(whole, encoding="utf-8")
    print(f"\nwritten to {target}")
    return 0 if all(row["state"] == "ok" for row in checks.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
