"""How fast the engine is: cold analyses, stored points, a million points, and counting tools in the same run.

    .venv/bin/python -m benchmarks.engine_speed [--quick] [--models gpt2 …] [--tools FOLDER] [--json FILE]

- Cold analysis: an engine process that has never seen the model builds it, traces it, finds and stores its closed forms and evaluates
  a point on an H100. ``warm``: the process has done what the portal's has done before its first request; ``fresh``: from exec.
  ``document``: a warm process makes a whole run document from traces instead.
- Stored point, many points: closed forms from disk, without torch.
- Tools: calflops, torchinfo (``requirements/bench.txt``) and torch's FlopCounterMode on the same models; a plain forward as their floor.

What is compared runs in turns, each repetition in a process of its own. ``contended`` counts repetitions during which other processes
took more than a tenth of the cores. The tools give the FLOPs of one prefill; ours is a generation with times, memory and bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.speed import report
from benchmarks.speed.clock import ROOT, Meter, machine, summary, versions
from benchmarks.speed.cold import engine_child
from profiling.spec import Workload
from tests.profiling.documents import catalogue_model, device

DEVICE = "H100 SXM5 80GB"
COLD_MODELS = ("llama-3-70b", "deepseek-v3")
BULK_MODELS = ("qwen3-8b",)
TOOL_MODELS = ("gpt2", "llama-2-7b")
#: Batch and tokens of the points that the tools count. A model with a context of 1,024 tokens takes them too.
SHAPES = ("1x128", "1x512", "4x1024")
WORKLOAD = Workload(batch_size=1, input_tokens=512, output_tokens=64)


class Runner:
    """One run. ``folder`` keeps the closed forms between its parts."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        self._options, self._folder = options, folder
        chosen = options.models
        self.cold_models = chosen or list(COLD_MODELS)
        self.tool_models = chosen or list(TOOL_MODELS)
        self.all_models = chosen or list(dict.fromkeys((*COLD_MODELS, *BULK_MODELS, *TOOL_MODELS)))
        self.repetitions = 1 if options.quick else options.repetitions

    def cold(self) -> list[dict[str, Any]]:
        ways: tuple[tuple[str, str, Callable[[str], dict[str, Any]]], ...] = (
            ("warm", "closed forms", lambda m: self._asked(m, "closed_form", warm=True)),
            ("fresh", "closed forms", lambda m: self._asked(m, "closed_form", warm=False)),
            ("warm", "document", lambda m: self._asked(m, "estimate", warm=True)),
        )
        found: dict[Any, list[dict[str, Any]]] = {}
        for _ in range(self.repetitions):
            for name in self.cold_models:
                for start, what, ask in ways:
                    self._tell(f"cold analysis of {name}, {start}, {what}")
                    found.setdefault((name, start, what), []).append(ask(name))
        rows = []
        for (name, start, what), items in found.items():
            row = {"model": name, "start": start, "what": what, **_gathered(items)}
            parts = [item["parts"] for item in items if "parts" in item]
            if parts:
                row["parts"] = {key: summary([p[key] for p in parts]) for key in parts[0]}
            rows.append(row)
        return rows

    def _asked(self, name: str, operation: str, *, warm: bool) -> dict[str, Any]:
        """One engine process, one request."""
        payload = self._payload(name, WORKLOAD)
        if operation == "estimate":
            keys = ("model", "hardware", "workload")
            payload = {"spec": {"kind": "estimate", **{key: payload[key] for key in keys}}}
        fresh = Meter().start()
        with engine_child(warm=warm) as engine:
            used = 0.0
            if warm:
                if not engine.request("ping")["warm"]:
                    raise SystemExit("torch and transformers are not installed.")
                used = _cpu_s(engine.pid)
            meter = Meter().start() if warm else fresh
            answer = engine.request(operation, payload)
            meter.stop(elsewhere_s=_cpu_s(engine.pid) - used)
        if answer.get("warm", warm) != warm:
            raise SystemExit("The engine process did not start as it was asked to.")
        result = {"answer_s": meter.wall_s, **meter.to_json()}
        return result | ({"parts": answer["parts"]} if "parts" in answer else {})

    def _payload(self, name: str, workload: Workload) -> dict[str, Any]:
        return {
            "model": catalogue_model(name).to_json(),
            "hardware": device(DEVICE).to_json(),
            "workload": workload.to_json(),
            "folder": self._folder,
        }

    def make_forms(self) -> None:
        """Those that the timings did not make."""
        with engine_child(warm=True) as engine:
            for name in self.all_models:
                if name not in self.cold_models:
                    self._tell(f"closed forms of {name}")
                    engine.request("closed_form", self._payload(name, WORKLOAD))
            for name in self.tool_models:
                engine.request("closed_form", self._payload(name, replace(WORKLOAD, logits="all")))

    def stored_point(self) -> list[dict[str, Any]]:
        calls = 50 if self._options.quick else 1000
        rows = []
        for name, items in self._in_turns("one", str(calls)).items():
            # Each process has its own 1,000 calls; what is shown is the process in the middle.
            middle = sorted(items, key=lambda item: item["point_s"]["median"])[len(items) // 2]
            rows.append(
                {
                    "model": name,
                    "processes": len(items),
                    "torch_imported": any(item["torch_imported"] for item in items),
                    "load_s": summary([item["load_s"] for item in items]),
                    "prepare_s": summary([item["prepare_s"] for item in items]),
                    "point_s": middle["point_s"],
                    "point_terms_s": middle["point_terms_s"],
                    "contended": sum(item["meter"]["contended"] for item in items),
                }
            )
        return rows

    def bulk(self) -> list[dict[str, Any]]:
        count = 20_000 if self._options.quick else report.BULK_POINTS
        rows = []
        for name, items in self._in_turns("bulk", str(count)).items():
            same = ("points", "devices", "formats", "columns", "operator_groups", "terms", "rows")
            rows.append(
                {
                    "model": name,
                    **{key: items[0][key] for key in same},
                    "first_s": summary([item["first"]["wall_s"] for item in items]),
                    "again_s": summary([item["again"]["wall_s"] for item in items]),
                    "cpu_s": summary([item["first"]["cpu_s"] for item in items]),
                    "prepare_s": summary([item["prepare_s"] for item in items]),
                    "load_s": summary([item["load_s"] for item in items]),
                    "from_disk_s": summary(
                        [item["load_s"] + item["prepare_s"] + item["first"]["wall_s"] for item in items]
                    ),
                    "extra_bytes": summary([item["extra_bytes"] for item in items]),
                    "checked": {
                        "points": items[0]["checked"]["points"],
                        "largest_difference": max(item["checked"]["largest_difference"] for item in items),
                        "equal": all(item["checked"]["equal"] for item in items),
                    },
                    "contended": sum(item["first"]["contended"] for item in items),
                }
            )
        return rows

    def _in_turns(self, *arguments: str) -> dict[str, list[dict[str, Any]]]:
        what, *rest = arguments
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(self.repetitions):
            for name in self.all_models:
                self._tell(f"stored forms of {name}: {what}")
                found.setdefault(name, []).append(self._process("stored", what, self._folder, name, *rest))
        return found

    def tools(self) -> list[dict[str, Any]]:
        shapes = SHAPES[:1] if self._options.quick else SHAPES
        folder = str(self._options.tools.resolve()) if self._options.tools else "-"
        rows = []
        for name in self.tool_models:
            self._tell(f"tools on {name}")
            item = self._process("tools", name, str(self.repetitions), folder, *shapes)
            item["points"] = list(shapes)
            item["ours"] = self._process("stored", "flops", self._folder, name, *shapes)["points"]
            item["contended"] = int(item["meter"]["contended"])
            rows.append(item)
        return rows

    def _process(self, module: str, *arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", f"benchmarks.speed.{module}", *arguments]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command[2:])} failed:\n{done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def _tell(self, what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{what} …", end="", file=sys.stderr, flush=True)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _gathered(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "answer_s": summary([item["answer_s"] for item in items]),
        "cpu_s": summary([item["cpu_s"] for item in items]),
        "contended": sum(item["contended"] for item in items),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    begin, before = time.monotonic(), os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(options, folder)
        cold = runner.cold()
        runner.make_forms()
        parts = {
            "cold": cold,
            "stored_point": runner.stored_point(),
            "bulk": runner.bulk(),
            "tools": runner.tools(),
        }
    document: dict[str, Any] = {
        "schema": "llmcompare-engine-speed",
        "schema_version": "1.0",
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "duration_s": time.monotonic() - begin,
        "quick": options.quick,
        "machine": machine(),
        "versions": versions(options.tools),
        "load_before": list(before),
        "load_after": list(os.getloadavg()),
        "quiet": before[0] < 0.5 and not any(row.get("contended") for rows in parts.values() for row in rows),
        "recorded": {"hand-written formula tool": {"point_s": report.FORMULA_TOOL_S, "measured": False}},
        **parts,
    }
    document["ratios"] = report.ratios(document)
    document["targets"] = report.targets(document)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the engine is, beside counting tools.")
    parser.add_argument("--quick", action="store_true", help="one short repetition of everything")
    parser.add_argument("--models", nargs="+", metavar="ID", help="models of the catalogue, for every part of the run")
    parser.add_argument("--repetitions", type=int, default=5, help="of each timing (default: 5)")
    parser.add_argument(
        "--tools", type=Path, metavar="FOLDER", help="where calflops and torchinfo are, if not installed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    document = measure(options)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    print(report.text(document))


if __name__ == "__main__":
    main()
