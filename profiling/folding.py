"""Is it safe to trace fewer blocks than a model has? Only if all that runs once per block runs inside of the blocks.

A folded trace multiplies what it saw in a block by the number of blocks that it stands for. Operators that a parent runs
between one block and the next would be counted for the kept blocks only. So the order of a trace is looked at once for
each model: where anything else runs between the first operator of the first block and the last operator of the last
block, the model has to be traced complete.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiling.build import Built, Fold, block_index
from profiling.passes import Pass, trace
from profiling.recording import Call


def folds_hold(built: Built) -> bool:
    """Whether a short trace of the folded ``built`` shows nothing between its blocks. Raises what a trace raises."""
    if not any(len(fold.kinds) > fold.kept for fold in built.folds):
        return True
    stage = "encode" if built.kind in ("encoder", "vision") else "prefill"
    calls = trace(built, Pass(stage, 1, 2, 0, 2)).calls
    return not any(between_blocks(fold, calls) for fold in built.folds)


def between_blocks(fold: Fold, calls: Sequence[Call]) -> list[Call]:
    """Operators that ran after the first and before the last operator of the blocks of ``fold``, outside of these blocks."""
    inside = [block_index(fold, call.path) is not None for call in calls]
    if not any(inside):
        return []
    first, last = inside.index(True), len(inside) - inside[::-1].index(True)
    return [call for call, within in zip(calls[first:last], inside[first:last], strict=True) if not within]
