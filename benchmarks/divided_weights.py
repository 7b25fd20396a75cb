"""What each of two ranks holds of small models of many families, against the estimate of one of two devices; and whether they compute alike.

    .venv/bin/python -m benchmarks.divided_weights [--only MODEL_TYPE …]

Each family's model gets random weights, is written to safetensors, and is loaded on one device and by two processes of this machine by
the tensor-parallel plan of transformers (:mod:`profiling.shards`). Printed: bytes of weights that the first holds, those estimated, and the
largest difference of the logits beside their standard deviation.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from profiling.build import cached_build
from profiling.estimate import estimate
from profiling.loading import load
from profiling.memory_breakdown import held_by
from profiling.quantities import say
from profiling.ranks import join
from profiling.shards import load_shard
from profiling.spec import HardwareSpec, ModelSpec, Workload
from tests.profiling.real_runs import SMALL

CPU = torch.device("cpu")
HARDWARE = HardwareSpec(name="Any", kind="cpu")


def compare(name: str, folder: Path, rank: int) -> str:
    """One line about the family; every rank calls it."""
    kind, config = SMALL[name]
    model = ModelSpec(name=name, config={"model_type": name, **config}, kind=kind)
    built = cached_build(model, "fp32", "sdpa")
    if not getattr(built.module, "supports_tp_plan", False) or not built.module.tp_plan:
        return f"{name:<14}no plan"
    attention = getattr(built.config, "_attn_implementation", None) or "eager"
    alone = Workload(dtype="fp32", input_tokens=24, output_tokens=4, attn_implementation=attention)
    if rank == 0:
        load(model, alone, CPU).save_pretrained(folder / name)
    dist.barrier()
    local = replace(model, weights="local", weights_path=str(folder / name))
    whole, part = load(local, alone, CPU), load_shard(local, replace(alone, tensor_parallel=2), CPU)
    ids = torch.arange(2, 26).reshape(1, 24)
    with torch.inference_mode():
        expected, found = whole(input_ids=ids).logits, part(input_ids=ids).logits
    held = held_by([*part.parameters(), *part.buffers()])
    memory = estimate(model, HARDWARE, replace(alone, tensor_parallel=2))["memory"]["estimate"]
    estimated = memory["weights_bytes"]
    off = float((expected - found).abs().max())
    return (
        f"{name:<14}holds {say(held, 'B'):>8}, estimated {say(estimated, 'B'):>8} ({estimated / held - 1:+.2%}); "
        f"logits {off:.1e} apart, of {float(expected.std()):.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(SMALL), choices=list(SMALL), metavar="MODEL_TYPE")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rank is not None:
        join(str(options.folder), options.rank, 2, CPU)
        for name in options.only:
            line = compare(name, options.folder, options.rank)
            if options.rank == 0:
                print(line, flush=True)
        dist.destroy_process_group()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.divided_weights", "--folder", folder, "--only", *options.only]
        ranks = [
            subprocess.Popen([*command, "--rank", str(rank)], stderr=None if rank == 0 else subprocess.DEVNULL)
            for rank in (0, 1)
        ]
        return max(rank.wait() for rank in ranks)


if __name__ == "__main__":
    sys.exit(main())
