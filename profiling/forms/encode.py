"""The encode pass of images and audio clips beside a closed form of the language model: traced once per batch (needs torch then).

A form knows prompts by their length alone, so points with images are those of a prompt that is longer by their tokens, with the time
of the encode pass before it and the higher of the two peaks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from profiling.forms.timing import PARTS
from profiling.parallel import Plan
from profiling.roofline import Ceilings
from profiling.spec import ModelSpec, Workload


class Encode:
    """The front ends of ``model`` under the options of ``workload``, whose batch and lengths do not matter. ``tokens``: of the prompt of
    a sequence that its images and audio clips take. ``kernel_threads``: of a processor; None for accelerators.

    Raises :class:`profiling.spec.SpecError` for a model without such a front end.
    """

    def __init__(self, model: ModelSpec, workload: Workload, kernel_threads: int | None) -> None:
        from profiling.build import cached_build
        from profiling.joined import joined_tokens

        self._model, self._workload, self._threads = model, workload, kernel_threads
        self._built = cached_build(model, workload.dtype, workload.attn_implementation)
        self.tokens = joined_tokens(self._traces(1))

    def _traces(self, batch: int):
        """Stage → trace of what ``batch`` sequences have."""
        from profiling.joined import encode_passes
        from profiling.passes import cached_trace

        options = self._workload
        passes = encode_passes(self._built, options, batch)
        return {
            stage: cached_trace(self._model, options.dtype, options.attn_implementation, spec)
            for stage, spec in passes.items()
        }

    def _cost(self, batch: int, limits: Sequence[Ceilings]) -> tuple[np.ndarray, int]:
        """(seconds by part on each of the devices, shape (4, devices); bytes of activations at the peak)."""
        from profiling.options import operators
        from profiling.tables import evaluate

        seconds, peak = np.zeros((len(PARTS), len(limits))), 0
        for trace in self._traces(batch).values():
            peak = max(peak, trace.recording.peak(self._threads))
            works = operators(trace, self._built, self._workload)
            for device, item in enumerate(limits):
                timings = evaluate(trace, works, item).timings
                if timings is None:
                    seconds[:, device] = np.nan
                    continue
                for work, t in zip(works, timings, strict=True):
                    for part, value in t.parts.items():
                        seconds[PARTS.index(part), device] += work.times * value
        return seconds, peak

    def small_shares(
        self, batch_size: np.ndarray, device: np.ndarray, limits: Sequence[Ceilings]
    ) -> dict[str, np.ndarray]:
        """What :meth:`profiling.forms.evaluate.Evaluator.small_shares` is of the language model, of the encode passes."""
        from profiling.options import operators
        from profiling.small_products import small_shares
        from profiling.tables import evaluate

        found: dict[str, np.ndarray] = {}
        batch = -(-batch_size // Plan.of(self._workload).data)
        for one, place in set(zip(batch.tolist(), device.tolist(), strict=True)):
            if limits[place].shapes is None:
                continue
            items = {
                stage: evaluate(trace, operators(trace, self._built, self._workload), limits[place])
                for stage, trace in self._traces(one).items()
            }
            for stage, share in small_shares(items, limits[place]).items():
                found.setdefault(stage, np.zeros(len(batch)))[(batch == one) & (device == place)] = share
        return found

    def added(
        self,
        columns: dict[str, np.ndarray],
        batch_size: np.ndarray,
        output_tokens: np.ndarray,
        device: np.ndarray,
        limits: Sequence[Ceilings],
        capacities: Sequence[int | None],
    ) -> dict[str, np.ndarray]:
        """``columns`` of :data:`profiling.forms.evaluate.COLUMNS` for the longer prompts, with the encode pass added.

        ``device``: position of each point's device in ``limits`` and ``capacities`` (bytes, None: unknown).
        """
        batch = -(-batch_size // Plan.of(self._workload).data)
        distinct, place = np.unique(batch, return_inverse=True)
        costs = [self._cost(int(b), limits) for b in distinct]
        parts = np.array([seconds for seconds, _ in costs])[place, :, device].T
        encoding, peak = parts.sum(axis=0), np.array([float(p) for _, p in costs])[place]
        later = np.where(output_tokens > 1, columns["tpot_s"] * (output_tokens - 1), 0.0)
        before = columns["ttft_s"] + later
        after = before + encoding
        higher = np.maximum(columns["activation_peak_bytes"], peak)
        total = columns["total_bytes"] - columns["activation_peak_bytes"] + higher
        capacity = np.array([np.nan if c is None else c for c in capacities], dtype=np.float64)[device]
        return {
            **columns,
            "ttft_s": columns["ttft_s"] + encoding,
            "e2e_s": columns["e2e_s"] + encoding,
            "output_tokens_per_s": columns["output_tokens_per_s"] * before / after,
            "activation_peak_bytes": higher,
            "total_bytes": total,
            "fits": np.where(np.isnan(capacity), np.nan, total <= capacity),
            **{
                f"{name}_share": (columns[f"{name}_share"] * before + part) / after
                for name, part in zip(PARTS, parts, strict=True)
            },
        }
