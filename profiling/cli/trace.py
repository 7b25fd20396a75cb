"""``python -m profiling trace``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from profiling.cli import inputs

if TYPE_CHECKING:  # importing it takes seconds, which --help need not wait
    from profiling.passes import Trace


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "trace",
        help="every operator of one forward pass, with shapes, FLOPs and bytes",
        description="Run one forward pass of a model without weights and list the operators it executes. Blocks that repeat "
        "identically are listed once, with the number of times in the column 'x'.",
        epilog="example: python -m profiling trace -m gpt2 --stage decode --context 512",
    )
    inputs.add_model(parser)
    group = parser.add_argument_group("pass")
    group.add_argument(
        "--stage", choices=("prefill", "decode", "encode"), help="default: prefill, or encode for encoders"
    )
    group.add_argument(
        "--front-end",
        choices=("image", "audio"),
        help="encode images or audio with the front end of a model that reads text, instead of running its text part",
    )
    group.add_argument("--batch", type=int, default=1, help="sequences at once (default %(default)s)")
    inputs.add_input_tokens(group, 128, "tokens of a prefill or encode pass (default %(default)s)")
    group.add_argument(
        "--context", type=int, default=128, help="tokens in the cache of a decode pass (default %(default)s)"
    )
    group.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="bf16", help="default %(default)s")
    group.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="default %(default)s")
    group.add_argument("--logits", choices=("last", "all"), default="last", help="default %(default)s")
    parser.add_argument("--full", action="store_true", help="trace every block instead of one of each kind")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the operators to FILE as JSON; - or nothing: to standard output",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    model = inputs.model_spec(arguments)
    from profiling.build import build
    from profiling.passes import Pass, trace
    from profiling.spec import SpecError

    for name in ("batch", "input", "context"):
        if getattr(arguments, name) < 1:
            raise SpecError(name, "Enter a whole number from 1.")
    built = build(model, arguments.dtype, arguments.attention, fold=not arguments.full)
    only_encodes = built.kind in ("encoder", "vision")
    if arguments.front_end:
        return _finish(arguments, trace(built, Pass("encode", arguments.batch, 1, front_end=arguments.front_end)))
    stage = arguments.stage or ("encode" if only_encodes else "prefill")
    if (stage == "encode") != only_encodes:
        raise SpecError("stage", f"A model of kind {built.kind} has no stage {stage}.")
    if stage == "decode":
        spec = Pass("decode", arguments.batch, 1, arguments.context, arguments.input if built.kind == "encdec" else 0)
    else:
        source = arguments.input if built.kind == "encdec" else 0
        spec = Pass(stage, arguments.batch, 1 if source else arguments.input, 0, source, arguments.logits)
    return _finish(arguments, trace(built, spec))


def _finish(arguments: argparse.Namespace, traced: Trace) -> int:
    rows = [
        {
            "path": call.path,
            "operator": call.name,
            "op_class": call.op_class,
            "times": times,
            "inputs": [list(t.shape) for t in call.inputs],
            "outputs": [list(t.shape) for t in call.outputs],
            "flops": call.flops,
            "elementwise_flops": call.elementwise_flops,
            "bytes_read": call.bytes_read + call.hidden_bytes,
            "bytes_written": call.bytes_written,
            "weight_bytes": call.weight_bytes,
        }
        for call, times in zip(traced.calls, traced.times, strict=True)
    ]
    if arguments.json:
        inputs.write_json({"operators": rows, "unknown_operators": list(traced.recording.unknown)}, arguments.json)
    if arguments.json != "-":
        _print(rows, traced)
    return 0


def _print(rows: list[dict], traced) -> None:
    print(f"{'x':>4}  {'operator':<20} {'FLOP':>18} {'read B':>14} {'written B':>14}  module and shapes")
    for row in rows:
        shapes = " ".join("×".join(map(str, s)) or "1" for s in row["inputs"])
        print(
            f"{row['times']:>4}  {row['operator']:<20} {row['flops']:>18,} {row['bytes_read']:>14,} "
            f"{row['bytes_written']:>14,}  {row['path'] or '(model)'}  {shapes}"
        )
    total = sum(r["times"] * r["flops"] for r in rows)
    moved = sum(r["times"] * (r["bytes_read"] + r["bytes_written"]) for r in rows)
    print(f"total: {total:,} FLOP of matrix products and convolutions, {moved:,} B moved as eager execution moves them")
    print(f"activation peak {traced.recording.activation_peak:,} B, cache {traced.cache_bytes:,} B")
    if traced.recording.unknown:
        print(f"without a formula: {', '.join(traced.recording.unknown)}")
