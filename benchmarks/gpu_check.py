"""What only a GPU can show, checked and printed in under eight minutes: ceilings, measurements against estimates, memory, failures.

    .venv/bin/python -m benchmarks.gpu_check [--cpu] [--out FOLDER] [--seconds 480]

Needs torch, transformers and psutil, not the portal. Every check prints what was found and ``ok``, ``differs`` or ``failed``; the run
documents and the list of checks are written to ``--out`` (default: ``benchmarks/results``). ``--cpu`` runs the same on the processor
with small models, to see that the script itself works. What does not begin within ``--seconds`` is listed as not done.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from profiling.client import EngineChild, EngineError
from profiling.processes import measure_in_processes
from profiling.protocol import Protocol
from profiling.quantities import say
from profiling.spec import HardwareSpec, ModelSpec, RunSpec, Workload

RESULTS = Path(__file__).parent / "results"
#: Allocator peak and weights against the estimate, and module times against the un-instrumented pass.
MEMORY_TOLERANCE, COVERAGE = 0.02, {"prefill": (0.90, 1.10), "decode": (0.80, 1.15)}


def llama(layers: int, width: int, heads: int, inner: int, vocabulary: int = 32_000) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
    }


GPU_MODELS = {
    "1B": ModelSpec("Llama-shaped 1B", llama(16, 2048, 32, 8192)),
    "8B": ModelSpec("Llama-shaped 8B", llama(32, 4096, 32, 14_336, 128_256)),
}
CPU_MODELS = {
    "1B": ModelSpec("Llama-shaped, tiny", llama(2, 64, 4, 128, 500)),
    "8B": ModelSpec("Llama-shaped, small", llama(4, 128, 8, 256, 500)),
}


@dataclass
class Checks:
    """The list of checks, printed as they end."""

    seconds: float
    began: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def run(self, name: str, check: Callable[[], tuple[bool, str]]) -> None:
        started = time.monotonic()
        if started - self.began > self.seconds:
            state, found = "not done", "the time was over"
        else:
            try:
                good, found = check()
                state = "ok" if good else "differs"
            except EngineError as error:
                state, found = "failed", f"{error.phase}, {error.kind}: {error}"
            except Exception as error:  # one check must not cost the others
                state, found = "failed", f"{type(error).__name__}: {error}"
        row = {"check": name, "state": state, "found": found, "seconds": round(time.monotonic() - started, 1)}
        self.rows.append(row)
        print(f"{state:<9}{name:<46}{found}  ({row['seconds']} s)", flush=True)


class Bench:
    """One machine: its device as hardware, and the documents of what was measured."""

    def __init__(self, *, cpu: bool) -> None:
        self.kind = "cpu" if cpu else "gpu"
        self.models = CPU_MODELS if cpu else GPU_MODELS
        self.dtype = "fp32" if cpu else "bf16"
        self.documents: dict[str, dict[str, Any]] = {}
        self.hardware = self._device()

    def _device(self) -> HardwareSpec:
        from profiling import host

        found = host.detect()
        if self.kind == "cpu":
            return HardwareSpec(name=found["cpu"]["model"], kind="cpu", memory_bytes=found["ram_bytes"])
        if not found["accelerators"]:
            raise SystemExit("torch sees no accelerator here; --cpu runs the same checks on the processor.")
        device = found["accelerators"][0]
        return HardwareSpec(name=device["name"], vendor=device["vendor"], memory_bytes=device["memory_bytes"])

    # -- checks ------------------------------------------------------------------------------------------------------

    def ceilings(self) -> tuple[bool, str]:
        with EngineChild() as engine:
            document = engine.request("ceilings", {"quick": True, "kind": self.kind}, timeout_s=240)
        self.hardware = replace(self.hardware, ceilings=document["rows"])
        self.documents["ceilings"] = document
        best = {(row["op_class"], row["dtype"]): row for row in document["rows"]}
        shown = [("gemm", self.dtype), ("gemv", self.dtype), ("copy", "")]
        words = [
            f"{name} {say(best[name, dtype]['value'], best[name, dtype]['unit'])}"
            for name, dtype in shown
            if (name, dtype) in best
        ]
        return len(words) == len(shown), ", ".join(words)

    def measured(self, name: str, **options: Any) -> tuple[bool, str]:
        """Figures of a measurement, and whether nothing is missing from it."""
        workload = Workload(
            **(
                {"batch_size": 1, "input_tokens": 512, "output_tokens": 32, "dtype": self.dtype, "iterations": 5}
                | options
            )
        )
        if self.kind == "cpu" and workload.batch_size <= 16:
            workload = replace(
                workload, input_tokens=min(workload.input_tokens, 64), output_tokens=min(workload.output_tokens, 8)
            )
        spec = RunSpec("measure", self.models[name].to_json(), self.hardware.to_json(), workload.to_json()).to_json()
        document = measure_in_processes(spec, Protocol(processes=2), timeout_s=200)
        key = f"{name}-{workload.batch_size}x{workload.input_tokens}-{workload.dtype}-{workload.attn_implementation}"
        self.documents[key] = document
        metrics = document["metrics"]
        words = [f"{k} {say(metrics[k]['value'], metrics[k]['unit'])}" for k in ("ttft", "tpot", "peak_memory")]
        errors = [
            f"{k} {e['level']} {e['error_pct']:+.0f} %"
            for k in ("ttft", "decode_time_per_step")
            for e in document["errors"].get(k, ())
        ]
        return bool(errors), ", ".join(words + errors)

    def memory(self, name: str) -> tuple[bool, str]:
        """The allocator's peak in the timed workload against the estimate."""
        document = next(d for key, d in self.documents.items() if key.startswith(f"{name}-"))
        estimated = document["memory"]["estimate"]["total_bytes"]
        measured = document["metrics"]["peak_memory"]["value"]
        off = measured / estimated - 1
        return abs(
            off
        ) <= MEMORY_TOLERANCE, f"measured {say(measured, 'B')}, estimated {say(estimated, 'B')}, {off:+.2%}"

    def modules(self, name: str) -> tuple[bool, str]:
        """Module times against the un-instrumented pass, both by events on the device's stream."""
        document = next(d for key, d in self.documents.items() if key.startswith(f"{name}-"))
        words, good = [], True
        for stage, row in document["instrumentation"].items():
            low, high = COVERAGE[stage]
            good &= low <= row["coverage"] <= high
            words.append(f"{stage}: sum {row['coverage']:.1%} of the plain pass, hooks cost {row['overhead']:+.1%}")
        return good, "; ".join(words)

    def too_large(self) -> tuple[bool, str]:
        """A batch that cannot fit is refused before anything is loaded, with the numbers."""
        try:
            self.measured("8B", batch_size=65_536, input_tokens=4096, output_tokens=2)
        except (EngineError, ValueError) as error:
            kind = getattr(error, "kind", "refused")
            return kind in ("memory", "spec", "refused"), f"{kind}: {error}"
        return False, "it was measured"

    def next_after_failure(self) -> tuple[bool, str]:
        """A process that has run out of the device's memory does not spoil the next."""
        return self.measured("1B", input_tokens=128, output_tokens=4, iterations=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="the same checks on the processor, with tiny models")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=420.0, help="no further check begins after so many")
    options = parser.parse_args()
    bench, checks = Bench(cpu=options.cpu), Checks(options.seconds)
    print(bench.hardware.name)
    checks.run("ceilings", bench.ceilings)
    checks.run("1B, prompt of 512", lambda: bench.measured("1B"))
    checks.run("1B, memory against the estimate", lambda: bench.memory("1B"))
    checks.run("1B, module times", lambda: bench.modules("1B"))
    checks.run("1B, batch 16", lambda: bench.measured("1B", batch_size=16))
    checks.run("1B, eager attention", lambda: bench.measured("1B", attn_implementation="eager"))
    checks.run("1B, fp16", lambda: bench.measured("1B", dtype="fp32" if options.cpu else "fp16"))
    checks.run("8B, prompt of 2048", lambda: bench.measured("8B", input_tokens=2048))
    checks.run("8B, memory against the estimate", lambda: bench.memory("8B"))
    checks.run("8B, module times", lambda: bench.modules("8B"))
    checks.run("too large is refused", bench.too_large)
    checks.run("the next one is measured", bench.next_after_failure)
    made = datetime.now(UTC)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"gpu_check_{made:%Y-%m-%d}.json"
    result = {
        "schema": "llmcompare-gpu-check",
        "created": made.isoformat(timespec="seconds"),
        "hardware": bench.hardware.name,
        "checks": checks.rows,
        "documents": bench.documents,
    }
    target.write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    print(f"\nwritten to {target}")
    return 0 if all(row["state"] == "ok" for row in checks.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
