"""How far predictions of latency are from measurements on this machine.

    .venv/bin/python -m benchmarks.prediction_error [--quick] [--rounds N] [--models NAME …] [--threads N] [--json FILE] [--kept FOLDER]

Every round measures each model and replays its operators, one after the other, each in a process of its own, and measures the
machine's ceilings; who comes first alternates. A process during which other work took the cores is marked and repeated. Figures are
medians over the rounds; an error is prediction ÷ measurement − 1 of a (model, shape, stage). Beside it stands the median of the rounds' own
errors, and how far the measurements of one thing are from each other: on a machine that swings by more than the errors, that is what is seen.

Five rounds take 25 to 35 minutes on two cores. With ``--kept FOLDER`` every undisturbed answer is kept there, and a run that was interrupted, or
disturbed for a while, goes on where it was: with the same code, packages and machine only, otherwise it begins anew.

Methods: ``own`` replay of the model's own shapes; ``left out`` replay from a table that knows only the other models; ``measured``
roofline over this machine's measured ceilings; ``two lines`` roofline of one peak and one bandwidth, without overhead.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.errors import models, report
from benchmarks.speed.clock import ROOT, machine, versions
from profiling import host
from profiling.ceiling_rows import shaped_names
from profiling.client import EngineChild
from profiling.replay.table import Table
from profiling.spec import HardwareSpec, ModelSpec, RunSpec, Workload, digest

RESULTS = ROOT / "benchmarks" / "results"
TIMEOUT_S = 900.0
#: The ceilings that stand over a model in fp32.
KERNELS = (
    *((name, "fp32") for name in ("gemm", "gemv", "skinny-2", "skinny-8", "skinny-64", "attention", "elementwise")),
    *((name, "fp32") for rows in (1, 2, 8, 64) for name in shaped_names(rows)),
    *((name, "") for name in ("copy", "read", "triad")),
)


class Kept:
    """Answers in a folder, for the same code, packages, machine and options."""

    def __init__(self, folder: Path, quick: bool, threads: int) -> None:
        sources = sorted([*ROOT.glob("profiling/**/*.py"), *ROOT.glob("benchmarks/errors/*.py")])
        code = digest([path.read_text() for path in sources])
        self._folder = folder / digest([code, versions(None), machine(), quick, threads])[:16]
        self._folder.mkdir(parents=True, exist_ok=True)

    def _path(self, number: int, what: str) -> Path:
        return self._folder / f"{number} {what}.json"

    def read(self, number: int, what: str) -> dict[str, Any] | None:
        path = self._path(number, what)
        return json.loads(path.read_text()) if path.exists() else None

    def write(self, number: int, what: str, answer: dict[str, Any]) -> None:
        """Whole or not at all: a run may be ended at any moment."""
        fresh = self._path(number, what).with_suffix(".new")
        fresh.write_text(json.dumps(answer))
        fresh.replace(self._path(number, what))


class Run:
    """Everything that one run of the benchmark found, by model and round."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.threads = options.threads or host.cores()[0]
        self.rounds = 1 if options.quick else options.rounds
        self.retries = 0 if options.quick else options.retries
        self.cases = [case for case in models.CASES if options.models is None or case.name in options.models]
        if options.quick and options.models is None:
            self.cases = self.cases[:2]
        self.measured: dict[str, list[dict[str, Any]]] = {}
        self.replayed: dict[str, list[dict[str, Any]]] = {}
        self.ceilings: list[dict[str, Any]] = []
        self._kept = options.kept and Kept(options.kept, options.quick, self.threads)

    def go(self) -> None:
        for number in range(self.rounds):
            self._tell(f"round {number + 1} of {self.rounds}: ceilings")
            self.ceilings.append(self._undisturbed(self._measure_ceilings, number, "ceilings"))
            for case in self.cases:
                turns: list[tuple[str, Callable[[], dict[str, Any]], dict[str, list[dict[str, Any]]]]] = [
                    ("replay", lambda case=case: self._replay(case), self.replayed),
                    ("measurement", lambda case=case: self._measure(case), self.measured),
                ]
                for what, run, found in turns if number % 2 == 0 else reversed(turns):
                    self._tell(f"round {number + 1} of {self.rounds}: {what} of {case.name}")
                    found.setdefault(case.name, []).append(self._undisturbed(run, number, f"{what} {case.name}"))

    def _undisturbed(self, run: Callable[[], dict[str, Any]], number: int, what: str) -> dict[str, Any]:
        """The answer of an undisturbed process, or of the least disturbed one when every repetition was."""
        if self._kept and (found := self._kept.read(number, what)) is not None:
            return found
        tries = []
        for _ in range(1 + self.retries):
            answer = run()
            tries.append(answer)
            if not answer["contended"]:
                break
        best = min(tries, key=lambda answer: answer["foreign_cores"]) | {"round": number, "tries": len(tries)}
        if self._kept and not best["contended"]:
            self._kept.write(number, what, best)
        return best

    def _workloads(self, case: models.Case) -> list[Workload]:
        shapes = case.shapes[:1] if self._options.quick else case.shapes
        output = 0 if case.kind == "encoder" else (5 if self._options.quick else models.OUTPUT_TOKENS)
        return [
            Workload(
                batch_size=batch,
                input_tokens=tokens,
                output_tokens=output,
                dtype="fp32",
                threads=self.threads,
                iterations=2 if self._options.quick else models.ITERATIONS,
                warmup=1,
            )
            for batch, tokens in shapes
        ]

    def _measure(self, case: models.Case) -> dict[str, Any]:
        """Stage times of every shape, a fresh process each."""
        model = case.model()
        shapes = []
        for workload in self._workloads(case):
            spec = RunSpec("measure", model.to_json(), self._hardware().to_json(), workload.to_json())
            with EngineChild() as engine:
                document = engine.request("measure", {"spec": spec.to_json(), "estimates": False}, timeout_s=TIMEOUT_S)
            keys = ("encode_time",) if case.kind == "encoder" else ("ttft", "tpot")
            shapes.append(
                {"metrics": {key: document["metrics"][key]["value"] for key in keys}, **_state(document["conditions"])}
            )
        return {"shapes": shapes, **_worst(shapes)}

    def _replay(self, case: models.Case) -> dict[str, Any]:
        payload = {
            "model": case.model().to_json(),
            "workloads": [workload.to_json() for workload in self._workloads(case)],
            "threads": self.threads,
            "device": "cpu",
        }
        with EngineChild() as engine:
            answer = engine.request("replay", payload, timeout_s=TIMEOUT_S)
        predictions = answer["predictions"]
        return {
            "predictions": predictions,
            "table": answer["table"],
            "duration_s": predictions[-1]["duration_s"],
            **_state(predictions[0]["conditions"]),
        }

    def _measure_ceilings(self) -> dict[str, Any]:
        before = time.monotonic()
        with EngineChild() as engine:
            wanted = [[*kernel, self.threads] for kernel in KERNELS] + [["overhead", "", 0]]
            options = {"quick": True, "threads": self.threads, "kind": "cpu", "only": wanted}
            answer = engine.request("ceilings", options, timeout_s=300)
        disturbed = [row for row in answer["rows"] if row["quality"] != "ok"]
        return {
            "rows": answer["rows"],
            "duration_s": time.monotonic() - before,
            "contended": len(disturbed) > len(answer["rows"]) // 4,
            "foreign_cores": len(disturbed) / max(len(answer["rows"]), 1),
        }

    def _hardware(self, ceilings: list[dict[str, Any]] | None = None) -> HardwareSpec:
        found = host.detect()
        return HardwareSpec(
            name=found["cpu"]["model"],
            kind="cpu",
            memory_bytes=found["ram_bytes"],
            cache_bytes=found["cache_bytes"],
            ceilings=ceilings or [],
        )

    # -- predictions from what was measured --------------------------------------------------------------------------

    def pairs(self) -> list[dict[str, Any]]:
        """One row per (model, shape, stage): the measurement and the four predictions, medians over rounds, and their errors."""
        rows = []
        with EngineChild() as engine:
            for case in self.cases:
                for index, workload in enumerate(self._workloads(case)):
                    left_out = [self._left_out(engine, case, workload, number) for number in range(self.rounds)]
                    measured = [self._roofline(engine, case, workload, item["rows"]) for item in self.ceilings]
                    plain = [self._two_lines(engine, case, workload, item["rows"]) for item in self.ceilings]
                    for metric in self.measured[case.name][0]["shapes"][index]["metrics"]:
                        own = [answer["predictions"][index] for answer in self.replayed[case.name]]
                        found = {
                            "own": [item["metrics"][metric]["value"] for item in own],
                            "left out": [item["metrics"][metric]["value"] for item in left_out],
                            "measured": [item.get(metric) for item in measured],
                            "two lines": [item.get(metric) for item in plain],
                        }
                        actual = [item["shapes"][index]["metrics"][metric] for item in self.measured[case.name]]
                        rows.append(self._row(case, workload, metric, index, actual, found, left_out, own))
        return rows

    def _row(
        self,
        case: models.Case,
        workload: Workload,
        metric: str,
        index: int,
        actual: list[float],
        found: dict[str, list[float | None]],
        left_out: list[dict[str, Any]],
        own: list[dict[str, Any]],
    ) -> dict[str, Any]:
        stage = {"ttft": "prefill", "tpot": "decode", "encode_time": "encode"}[metric]
        last = left_out[-1]["stages"][stage]
        predictions = {name: _median(values) for name, values in found.items()}
        value = median(actual)
        parts = own[-1]["stages"][stage]
        return {
            "model": case.name,
            "family": case.family,
            "stage": stage,
            "metric": metric,
            "batch": workload.batch_size,
            "input_tokens": workload.input_tokens,
            "measured_s": value,
            "measured_rounds_s": actual,
            "predicted_s": predictions,
            "predicted_rounds_s": found,
            "error": {name: None if p is None else p / value - 1 for name, p in predictions.items()},
            "own_parts": {key: parts[key] for key in ("own_s", "interpolated_s", "glue_s", "glue_from")},
            "left_out_parts": {
                key: last[key]
                for key in ("own_s", "interpolated_s", "extrapolated_s", "glue_s", "glue_from", "unknown_operators")
            },
            "left_out_bounds_s": [left_out[-1]["metrics"][metric][key] for key in ("low", "high")],
            "contended_rounds": sum(
                self.measured[case.name][n]["shapes"][index]["contended"] or self.replayed[case.name][n]["contended"]
                for n in range(self.rounds)
            ),
        }

    def _left_out(self, engine: EngineChild, case: models.Case, workload: Workload, number: int) -> dict[str, Any]:
        """The prediction from what the other models left in the table in the same round."""
        table: Table | None = None
        for name, answers in self.replayed.items():
            other = Table.from_json(answers[number]["table"])
            if table is None:
                table = Table(other.fingerprint, other.torch, other.threads)
            if name != case.name:
                for row in other.rows.values():
                    table.add(row)
                table.glue.update(other.glue)
        assert table is not None
        payload = {
            "model": case.model().to_json(),
            "workloads": [workload.to_json()],
            "table": table.to_json(),
            "timed": False,
        }
        return engine.request("replay", payload, timeout_s=TIMEOUT_S)["predictions"][0]

    def _roofline(
        self, engine: EngineChild, case: models.Case, workload: Workload, ceilings: list[dict[str, Any]]
    ) -> dict[str, float | None]:
        return self._estimate(engine, case.model(), workload, self._hardware(ceilings))

    def _two_lines(
        self, engine: EngineChild, case: models.Case, workload: Workload, ceilings: list[dict[str, Any]]
    ) -> dict[str, float | None]:
        def best(op_class: str, dtype: str) -> float:
            return max(row["value"] for row in ceilings if (row["op_class"], row["dtype"]) == (op_class, dtype))

        hardware = HardwareSpec(
            name="two lines",
            kind="cpu",
            peak_flops={"fp32": best("gemm", "fp32")},
            memory_bandwidth=max(best("copy", ""), best("gemv", "fp32")),
        )
        return self._estimate(engine, case.model(), workload, hardware)

    def _estimate(
        self, engine: EngineChild, model: ModelSpec, workload: Workload, hardware: HardwareSpec
    ) -> dict[str, float | None]:
        spec = RunSpec("estimate", model.to_json(), hardware.to_json(), workload.to_json())
        document = engine.request("estimate", {"spec": spec.to_json()}, timeout_s=TIMEOUT_S)
        return {key: metric["value"] for key, metric in document["metrics"].items()}

    def _tell(self, what: str) -> None:
        if not self._options.silent:
            print(f"{datetime.now():%H:%M:%S} {what}", flush=True)


def _state(conditions: dict[str, Any]) -> dict[str, Any]:
    return {key: conditions[key] for key in ("contended", "foreign_cores", "load_avg")}


def _worst(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "contended": any(item["contended"] for item in items),
        "foreign_cores": max(item["foreign_cores"] for item in items),
    }


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if len(known) == len(values) and known else None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    begin, before = time.monotonic(), os.getloadavg()
    run = Run(options)
    run.go()
    pairs = run.pairs()
    document: dict[str, Any] = {
        "schema": "llmcompare-prediction-error",
        "schema_version": "1.1",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": time.monotonic() - begin,
        "quick": options.quick,
        "rounds": run.rounds,
        "threads": run.threads,
        "machine": machine(),
        "versions": versions(None),
        "load_before": list(before),
        "load_after": list(os.getloadavg()),
        "pairs": pairs,
        "replay_s": {name: median(item["duration_s"] for item in items) for name, items in run.replayed.items()},
        "tries": {
            "replay": {name: [item["tries"] for item in items] for name, items in run.replayed.items()},
            "measurement": {name: [item["tries"] for item in items] for name, items in run.measured.items()},
        },
        "contended_rounds": {
            "ceilings": sum(item["contended"] for item in run.ceilings),
            "replay": sum(item["contended"] for items in run.replayed.values() for item in items),
            "measurement": sum(item["contended"] for items in run.measured.values() for item in items),
        },
    }
    document["quiet"] = not any(document["contended_rounds"].values())
    document["summary"] = report.summary(pairs)
    document["repeat"] = report.repeats(pairs)
    document["targets"] = report.targets(document)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description="How far predictions of latency are from measurements here.")
    parser.add_argument(
        "--quick", action="store_true", help="one short round of two models: that it works, not how well"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of every model (default %(default)s)")
    parser.add_argument("--retries", type=int, default=2, help="of a disturbed process (default %(default)s)")
    parser.add_argument("--models", nargs="+", metavar="NAME", choices=[case.name for case in models.CASES])
    parser.add_argument("--threads", type=int, help="default: one per physical core")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="default: benchmarks/results/prediction_error_DATE.json"
    )
    parser.add_argument(
        "--kept", type=Path, metavar="FOLDER", help="keep answers there, and go on from those that are there"
    )
    parser.add_argument("--silent", action="store_true", help="do not say what is being measured")
    options = parser.parse_args()
    document = measure(options)
    target = options.json or (None if options.quick else RESULTS / f"prediction_error_{date.today().isoformat()}.json")
    if target:
        target.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    print(report.text(document))


if __name__ == "__main__":
    main()
