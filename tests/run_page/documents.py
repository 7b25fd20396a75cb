"""Small valid run documents for the tests of the run page, made by hand from docs/run-document.md.

The figures are simple on purpose (a block costs 6 of something, the head 2), so that a test can say what a page must show.
"""

from __future__ import annotations

import copy
from typing import Any

OPERATOR_COLUMNS = [
    "stage",
    "group",
    "op_class",
    "calls",
    "flops",
    "elementwise_flops",
    "bytes_read",
    "bytes_written",
    "weight_bytes",
    "time_s",
    "bound",
    "intensity",
    "share",
]
MODULE_COLUMNS = [
    "stage",
    "path",
    "parent",
    "name",
    "class",
    "depth",
    "calls",
    "parameters",
    "weight_bytes",
    "flops",
    "bytes",
    "output_bytes",
    "output_shape",
    "estimate_s",
    "bound",
    "inclusive_s",
    "exclusive_s",
    "fold",
]
SAMPLE_COLUMNS = ["iteration", "phase", "warmup", "start_ns", "wall_ns", "cpu_ns", "tokens"]

#: path below a block → (flops, bytes, time, parameters)
BLOCK = {"attn": (2e9, 2e6, 2e-4, 1000), "norm": (0, 1e6, 1e-4, 10), "mlp": (4e9, 3e6, 3e-4, 2000)}
HEAD = (2e9, 4e6, 4e-4, 500)


def module_rows(stage: str, layers: int, measured: bool) -> list[list[Any]]:
    def row(path, parent, cls, depth, flops, size, time, parameters, fold=None, leaf=True):
        times = (time * 2, time * 2 if leaf else 0.0) if measured else (None, None)
        return [
            stage, path, parent, path.rpartition(".")[2], cls, depth, 1, parameters, parameters * 2, flops, size,
            100, [1, 8, 64], time, "memory", *times, fold or path,
        ]  # fmt: skip

    def total(i):
        return layers * sum(v[i] for v in BLOCK.values())

    rows = [row("", None, "TinyForCausalLM", 0, *(total(i) + HEAD[i] for i in range(4)), leaf=False)]
    rows.append(row("layers", "", "ModuleList", 1, *(total(i) for i in range(4)), leaf=False))
    for n in range(layers):
        path = f"layers.{n}"
        sums = [sum(v[i] for v in BLOCK.values()) for i in range(4)]
        rows.append(row(path, "layers", "Block", 2, *sums, fold="layers.0", leaf=False))
        rows += [row(f"{path}.{name}", path, name.title(), 3, *values) for name, values in BLOCK.items()]
    rows.append(row("lm_head", "", "Linear", 1, *HEAD))
    return rows


def graph(layers: int) -> dict[str, Any]:
    """A block with two residual edges, folded once; a cache; input and output."""

    def node(node_id, parent, kind="module", cls="", values=(0, 0, 0.0, 0), repeat=1):
        flops, size, time, parameters = values
        return {
            "id": node_id,
            "parent": parent,
            "label": node_id.rpartition(".")[2].rpartition("#")[2] or "model",
            "class": cls,
            "kind": kind,
            "fold": node_id,
            "repeat": repeat,
            "parameters": parameters,
            "weight_bytes": parameters * 2,
            "flops": flops,
            "bytes": size,
            "time_s": time,
            "bound": "memory",
            "memory_bytes": size,
            "output_shape": [1, 8, 64],
            "measured_s": None,
        }

    block = "layers.0"
    nodes = [
        node("", None, cls="TinyForCausalLM"),
        node("#input", "", kind="input"),
        node("layers", "", cls="ModuleList"),
        node(block, "layers", cls="Block", repeat=layers),
        *(node(f"{block}.{name}", block, cls=name.title(), values=values) for name, values in BLOCK.items()),
        node(f"{block}#add", block, kind="op"),
        node(f"{block}#add_1", block, kind="op"),
        node("#cache", "", kind="cache"),
        node("lm_head", "", cls="Linear", values=HEAD),
        node("#output", "", kind="output"),
    ]

    def edge(source, target, kind="data", size=1024):
        return {"source": source, "target": target, "bytes": size, "shape": [1, 8, 64], "dtype": "bf16", "kind": kind}

    edges = [
        edge("#input", f"{block}.attn"),
        edge("#input", f"{block}#add", "residual"),
        edge("#cache", f"{block}.attn", "cache", 4096),
        edge(f"{block}.attn", f"{block}#add"),
        edge(f"{block}#add", f"{block}.norm"),
        edge(f"{block}#add", f"{block}#add_1", "residual"),
        edge(f"{block}.norm", f"{block}.mlp"),
        edge(f"{block}.mlp", f"{block}#add_1"),
        edge(f"{block}#add_1", f"{block}.attn", "repeat"),
        edge(f"{block}#add_1", "lm_head"),
        edge("lm_head", "#output"),
    ]
    return {"nodes": nodes, "edges": edges}


def operator_rows(stage: str, layers: int) -> list[list[Any]]:
    whole = layers * 6e-4 + HEAD[2]
    rows = []
    for group, op_class, (flops, size, time, parameters) in (
        ("attention", "attention", BLOCK["attn"]),
        ("norm", "reduction", BLOCK["norm"]),
        ("mlp", "matmul", BLOCK["mlp"]),
    ):
        rows.append(
            [stage, group, op_class, layers, flops * layers, 0, size * layers, 0, parameters * 2 * layers,
             time * layers, "memory", flops / size, time * layers / whole]
        )  # fmt: skip
    flops, size, time, parameters = HEAD
    rows.append(
        [stage, "lm_head", "matmul", 1, flops, 0, size, 0, parameters * 2, time, "compute", flops / size, time / whole]
    )
    return rows


def estimate(layers: int = 4) -> dict[str, Any]:
    """An estimate of a decoder with ``layers`` blocks on an invented device of 1 PFLOP/s and 1 TB/s with 80 GB."""
    operators = [row for stage in ("prefill", "decode") for row in operator_rows(stage, layers)]
    points = [
        {
            "label": row[1], "stage": row[0], "origin": "estimated", "intensity": row[11],
            "flops_per_s": row[4] / row[9], "flops": row[4], "bytes": row[6], "time_s": row[9],
            "share": row[12], "bound": row[10], "above_roof": False,
        }
        for row in operators
        if row[4]
    ]  # fmt: skip

    def metric(value, unit, definition):
        return {"value": value, "unit": unit, "origin": "estimated", "definition": definition}

    stage = {
        "batch_size": 1, "tokens": 128, "context": 0, "flops": layers * 6e9 + 2e9, "elementwise_flops": 1e6,
        "bytes": layers * 6e6 + 4e6, "arithmetic_intensity": 1000.0, "latency_s": layers * 6e-4 + 4e-4,
        "bound": "memory", "time_by_bound": {"memory": layers * 6e-4, "compute": 4e-4},
    }  # fmt: skip
    return {
        "schema": "llmcompare-run",
        "schema_version": "1.0",
        "kind": "estimate",
        "created": "2026-11-20T10:00:00Z",
        "duration_s": 0.7,
        "producer": {
            "name": "llmcompare",
            "version": "0.1.0",
            "python": "3.11.2",
            "torch": "2.13.0",
            "transformers": "5.23.0",
        },
        "model": {
            "name": "Tiny", "source": "config", "architecture": "TinyForCausalLM", "model_type": "tiny", "kind": "decoder",
            "config_sha256": "ab" * 32, "parameters": 12_540, "active_parameters": 12_540, "weight_bytes": 25_080,
            "weights": "none", "weights_note": None, "max_context": 4096, "layers": layers,
        },
        "hardware": {
            "name": "Maker Device", "slug": "maker-device", "vendor": "Maker", "kind": "gpu", "memory_bytes": 80 * 10**9,
            "memory_bandwidth": 1e12, "peak_flops": {"bf16": 1e15, "fp8": None}, "cache_bytes": None,
            "interconnect_bandwidth": None, "tdp_w": 700.0, "confidence": {"memory_bandwidth": "confirmed"},
            "ceilings": [], "digest": "cd" * 32,
        },
        "workload": {
            "batch_size": 1, "input_tokens": 128, "output_tokens": 32, "dtype": "bf16", "prompt": None, "logits": "last",
            "execution": "eager", "attn_implementation": "sdpa", "iterations": 5, "warmup": 1, "seed": 0,
            "threads": None, "time_limit_s": 900.0,
        },
        "conventions": {"flop": "one multiply-add is 2 FLOPs", "ceilings": "datasheet", "logits": "last position"},
        "metrics": {
            "ttft": metric(0.0123, "s", "ttft/1"),
            "tpot": metric(0.00456, "s", "tpot/1"),
            "e2e_latency": metric(0.154, "s", "e2e_latency/1"),
            "output_throughput": metric(208.0, "tokens/s", "output_throughput/1"),
            "peak_memory": metric(16_000_000_000, "B", "peak_memory/1"),
            "mfu_prefill": metric(None, "1", "mfu/1"),
        },
        "stages": {"prefill": stage, "decode": stage | {"tokens": 1, "context": 144}},
        "operators": {"columns": OPERATOR_COLUMNS, "rows": operators},
        "modules": {
            "columns": MODULE_COLUMNS,
            "rows": [r for stage in ("prefill", "decode") for r in module_rows(stage, layers, False)],
        },
        "graph": {"prefill": graph(layers), "decode": graph(layers)},
        "memory": {
            "kv_cache_bytes_per_token": 2048,
            "estimate": {
                "weights_bytes": 12_000_000_000, "kv_cache_bytes": 3_000_000_000, "state_bytes": 0,
                "activation_peak_bytes": 1_000_000_000, "total_bytes": 16_000_000_000, "capacity_bytes": 80 * 10**9,
                "fits": True, "shortfall_bytes": 0, "suggestions": [],
            },
        },
        "roofline": {
            "roofs": [
                {"name": "bf16 datasheet", "level": "datasheet", "dtype": "bf16", "peak_flops": 1e15,
                 "bandwidth": 1e12, "ridge": 1000.0},
            ],
            "points": points,
        },
        "unknown_operators": [],
        "warnings": [],
    }  # fmt: skip


def measured(layers: int = 4, iterations: int = 3, steps: int = 4) -> dict[str, Any]:
    """The same workload measured: samples, output, environment, conditions, and the estimate beside it."""
    document = copy.deepcopy(estimate(layers))
    document["kind"] = "measure"
    document["model"] |= {"weights": "random"}
    document["metrics"]["ttft"] = {
        "value": 0.020, "unit": "s", "origin": "measured", "definition": "ttft/1", "n": 5, "median": 0.020,
        "min": 0.018, "max": 0.025, "q1": 0.019, "q3": 0.021, "cv": 0.04, "ci95": [0.0185, 0.0219],
    }  # fmt: skip
    document["errors"] = {
        "ttft": [{"level": "measured", "estimated": 0.0123, "measured": 0.020, "error_pct": -38.5}],
    }
    document["estimates"] = [{"level": "measured", "metrics": {"ttft": {"value": 0.0123}}}]
    document["modules"]["rows"] = [r for s in ("prefill", "decode") for r in module_rows(s, layers, True)]
    rows = [[0, "cold", True, 0, 90_000_000, 80_000_000, 128]]
    for i in range(iterations):
        rows.append([i, "prefill", i == 0, i * 10**9, 20_000_000 + i, 19_000_000, 128])
        rows += [[i, "decode", i == 0, i * 10**9 + s, 5_000_000 + s, 4_900_000, 1] for s in range(steps)]
    document["samples"] = {"columns": SAMPLE_COLUMNS, "rows": rows}
    document["output"] = {
        "prompt": "What is <b>the</b> capital of France?", "texts": ["Paris <script>alert(1)</script>"],
        "input_tokens": [9], "output_tokens": [steps + 1], "finish": "length",
    }  # fmt: skip
    document["environment"] = {
        "os": "Linux", "kernel": "6.1", "python": "3.11.2", "packages": {"torch": "2.13.0"}, "cpu": "Some CPU",
        "cores_physical": 1, "cores_logical": 2, "ram_bytes": 24_000_000_000, "accelerators": [], "threads": 2,
        "env_vars": {"OMP_NUM_THREADS": "1"}, "fingerprint": "ef" * 32,
    }  # fmt: skip
    document["conditions"] = {
        "load_avg": [0.5, 0.4, 0.3], "wall_over_cpu": 1.05, "contended": True, "steal_pct": 0.0, "steady": True,
        "reasons": ["another process used 40 % of a core"],
    }  # fmt: skip
    document["memory"]["phases"] = [
        {"phase": p, "rss_bytes": 10**9 + i * 10**8, "rss_peak_bytes": 2 * 10**9 + i * 10**8, "rss_delta_bytes": 10**8,
         "device_allocated_peak_bytes": None, "device_reserved_peak_bytes": None}
        for i, p in enumerate(["start", "load", "warmup", "prefill", "decode"])
    ]  # fmt: skip
    return document
