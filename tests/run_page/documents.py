"""Small valid run documents for the tests of the run page, made by hand from docs/run-document.md.

The figures are simple on purpose (a block costs 6 of something, the head 2), so that a test can say what a page must show.
"""

from __future__ import annotations

import copy
import re
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


#: What a block of :func:`unfolded` is made of: path below the block → (kind, the part that it follows).
PARTS = {
    "input_layernorm": ("module", None),
    "self_attn.q_proj": ("module", "input_layernorm"),
    "self_attn.k_proj": ("module", "input_layernorm"),
    "self_attn.v_proj": ("module", "input_layernorm"),
    "self_attn.q_norm": ("module", "self_attn.q_proj"),
    "self_attn#sdpa": ("op", "self_attn.q_norm"),
    "self_attn#cache": ("cache", "self_attn.k_proj"),
    "self_attn.o_proj": ("module", "self_attn#sdpa"),
    "#add": ("op", "self_attn.o_proj"),
    "post_attention_layernorm": ("module", "#add"),
    "mlp.gate_proj": ("module", "post_attention_layernorm"),
    "mlp.up_proj": ("module", "post_attention_layernorm"),
    "mlp.act_fn": ("module", "mlp.gate_proj"),
    "mlp#mul": ("op", "mlp.act_fn"),
    "mlp.down_proj": ("module", "mlp#mul"),
    "mlp#scale": ("op", "mlp.down_proj"),
    "#add_1": ("op", "mlp#scale"),
}


def unfolded(layers: int = 100) -> dict[str, Any]:
    """An estimate of a model whose ``layers`` blocks all differ, so that none is folded: 20 nodes a block."""
    document = estimate(2)
    document["model"] |= {"name": f"{layers} different layers", "layers": layers}
    nodes, edges, rows = [_node("input", None, "input"), _node("model", None)], [], []
    before = "input"
    total = [0.0, 0.0, 0.0, 0]
    for n in range(layers):
        nodes += [
            _node(f"model.layers.{n}{tail}", f"model.layers.{n}" if tail else "model")
            for tail in ("", ".self_attn", ".mlp")
        ]
        sums = [0.0, 0.0, 0.0, 0]
        for at, (tail, (kind, source)) in enumerate(PARTS.items()):
            path = f"model.layers.{n}{tail}" if tail.startswith("#") else f"model.layers.{n}.{tail}"
            holder = path.rpartition("#")[0] or path.rpartition(".")[0] if "#" in tail else path.rpartition(".")[0]
            figures = (1e9 * (n + at + 1), 1e6 * (n + at + 2), 1e-5 * (n + at + 1), 1000 * (n + 1))
            nodes.append(_node(path, holder, kind, figures))
            place = f"model.layers.{n}{source}" if (source or "").startswith("#") else f"model.layers.{n}.{source}"
            edges.append(_edge(before if source is None else place, path))
            sums = [a + b for a, b in zip(sums, figures, strict=True)]
        edges.append(_edge(before, f"model.layers.{n}#add", "residual"))
        edges.append(_edge(f"model.layers.{n}#add", f"model.layers.{n}#add_1", "residual"))
        before = f"model.layers.{n}#add_1"
        total = [a + b for a, b in zip(total, sums, strict=True)]
        rows.append((f"model.layers.{n}", "model.layers", "Block", 3, sums))
        rows += [
            (f"model.layers.{n}.{tail}", f"model.layers.{n}.{tail}".rpartition(".")[0], "Linear", 4,
             [1e9 * (n + at + 1), 1e6 * (n + at + 2), 1e-5 * (n + at + 1), 1000 * (n + 1)])
            for at, (tail, (kind, _)) in enumerate(PARTS.items())
            if kind == "module" and "." not in tail
        ]  # fmt: skip
    rows = [
        ("", None, "Model", 0, total),
        ("model", "", "Model", 1, total),
        ("model.layers", "model", "ModuleList", 2, total),
        *rows,
    ]
    nodes.append(_node("output", None, "output"))
    edges.append(_edge(before, "output"))
    document["graph"] = {stage: {"nodes": nodes, "edges": edges} for stage in ("prefill", "decode")}
    document["modules"]["rows"] = [
        [stage, path, parent, path.rpartition(".")[2], cls, depth, 1, int(figures[3]), int(figures[3]) * 2, figures[0],
         figures[1], 100, [1, 8, 64], figures[2], "memory", None, None, path]
        for stage in ("prefill", "decode")
        for path, parent, cls, depth, figures in rows
    ]  # fmt: skip
    return document


def _node(node_id: str, parent: str | None, kind: str = "module", figures: tuple = (0, 0, 0.0, 0)) -> dict[str, Any]:
    flops, size, time, parameters = figures
    return {
        "id": node_id, "parent": parent, "label": re.split(r"[.#]", node_id)[-1], "class": "Block", "kind": kind,
        "fold": node_id, "repeat": 1, "parameters": parameters, "weight_bytes": parameters * 2, "flops": flops,
        "bytes": size, "time_s": time, "bound": "compute" if flops > 5e10 else "memory", "memory_bytes": size,
        "output_shape": [1, 8, 64], "measured_s": None,
    }  # fmt: skip


def _edge(source: str, target: str, kind: str = "data") -> dict[str, Any]:
    return {"source": source, "target": target, "bytes": 4096, "shape": [1, 8, 64], "dtype": "bf16", "kind": kind}


def in_processes(
    base: dict[str, Any], *, factor: float = 1.0, processes: int = 3, path_end: str = ""
) -> dict[str, Any]:
    """A measurement as if ``processes`` processes had made it: samples and module times of each, a per cent apart. ``factor``: how much
    longer everything takes, of module times only those whose path ends with ``path_end``."""
    made = copy.deepcopy(base)
    apart = [factor * (1 + 0.01 * (n - 1)) for n in range(processes)]
    columns, rows = made["samples"]["columns"], made["samples"]["rows"]
    at = columns.index("wall_ns")
    made["samples"] = {
        "columns": ["process", *columns],
        "rows": [
            [n, *(round(v * f) if i == at else v for i, v in enumerate(row))]
            for n, f in enumerate(apart)
            for row in rows
        ],
    }
    table = made["modules"]
    stage, path, own = (table["columns"].index(name) for name in ("stage", "path", "exclusive_s"))
    for row in table["rows"]:
        if row[own] is not None and str(row[path]).endswith(path_end):
            row[own] *= factor
    made["module_times"] = {}
    for name in made["stages"]:
        timed = [row for row in table["rows"] if row[stage] == name and row[own] is not None]
        made["module_times"][name] = {
            "paths": [row[path] for row in timed],
            "exclusive_s": [[row[own] * f / factor for row in timed] for f in apart],
        }
    made["processes"] = [
        {"process": n, "created": made["created"], "duration_s": 20.0, "iterations": 3, "complete": True,
         "load_time_s": 1.0, "conditions": made.get("conditions")}
        for n in range(processes)
    ]  # fmt: skip
    made["protocol"] = {"processes": processes, "min_iterations": 3, "min_seconds": 0.0, "max_iterations": 10}
    for metric in made["metrics"].values():
        if (
            metric["origin"] == "measured"
            and metric["value"] is not None
            and metric["unit"] in ("s", "token/s", "tokens/s")
        ):
            metric["value"] = metric["median"] = metric["value"] * (factor if metric["unit"] == "s" else 1 / factor)
            metric["processes"] = [metric["value"] * f / factor for f in apart]
    return made


def breakdown(estimate: dict[str, Any]) -> dict[str, Any]:
    """``memory.breakdown`` of a measurement whose estimate is ``estimate``: nothing known of the warm-up, the rest unknown after it."""
    weights, cache, peak = (estimate[key] for key in ("weights_bytes", "kv_cache_bytes", "activation_peak_bytes"))
    rows: list[list[Any]] = []
    for phase, held, activations, other in (
        ("load", 0, 0, 2_000_000),
        ("warmup", None, None, None),
        ("prefill", cache // 2, peak + 1_000_000, 3_000_000),
        ("decode", cache, peak // 4, None),
    ):
        rows += [
            [phase, "weights", weights, weights, 0.0, None],
            [phase, "cache", held, held, None, None],
            [phase, "activations", activations, None, None, None],
            [phase, "other", other, None, None, None if other else "unknown, as one of the parts is"],
        ]
    return {"columns": ["phase", "part", "measured_bytes", "estimated_bytes", "error_pct", "note"], "rows": rows}
