"""What a model takes in memory in the formats of a workload, and which other formats would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from profiling.build import Built
from profiling.execution import Work
from profiling.options import operators
from profiling.passes import Trace
from profiling.precision import SCHEMES, Precision, Scheme, kv_bits
from profiling.quantised import Weights, as_stored, mark_quantised, weights, widened_bytes
from profiling.spec import Workload

#: Schemes and formats of the cache that are tried, in this order, when a model does not fit.
_TRIED_WEIGHTS = ("int8", "int4")
_TRIED_CACHE = "fp8"


@dataclass(frozen=True)
class Footprint:
    """Memory of the passes ``traces`` (the one of each stage that needs the most) in the formats of ``workload``."""

    built: Built
    traces: Mapping[str, Trace]
    workload: Workload

    @cached_property
    def precision(self) -> Precision:
        return Precision.of(self.workload)

    @cached_property
    def works(self) -> dict[str, list[Work]]:
        """By stage, what one device has of the operators, everything still in ``dtype``."""
        plain = replace(self.workload, weights_dtype=None, activation_dtype=None, kv_dtype=None)
        return {
            name: mark_quantised(operators(trace, self.built, plain), self.built) for name, trace in self.traces.items()
        }

    @cached_property
    def held(self) -> Weights:
        """The weights of the complete model."""
        return weights(next(iter(self.works.values())), self.built)

    @cached_property
    def stored(self) -> Built:
        """The model with the bytes of its weights as they are stored."""
        stored = self.precision.weights
        return self.built if stored is None else as_stored(self.built, self.held, stored)

    def quantised_share(self) -> float:
        """Part (0–1) of the stored bytes that are in the scheme of the weights."""
        stored = self.precision.weights
        return self.held.quantised(stored) / (self.held.total(stored) or 1) if stored else 0.0

    def cache_ratio(self, name: str | None) -> float:
        """Bytes of keys and values in the format ``name`` per byte of them in ``dtype``."""
        if name is None:
            return 1.0
        wide = stored = 0.0
        for work in next(iter(self.works.values())):
            if work.cache_vector:
                wide += work.times * work.cache_written
                stored += work.times * work.cache_written * kv_bits(name, work.cache_vector)
        return stored / 8 / self.precision.base_bytes / wide if wide else 1.0

    def widened(self, stage: str, precision: Precision) -> int:
        """Bytes of the largest copy in ``dtype`` that the stage makes of what is stored in another format."""
        return 0 if precision.plain else widened_bytes(self.works[stage], precision)

    def alternatives(self, weights_bytes: int, kv_cache_bytes: int) -> Iterator[tuple[str, int]]:
        """(formats in words, bytes that they take fewer) for formats smaller than those of the workload, of one device.

        ``weights_bytes``, ``kv_cache_bytes``: what the device has of them now.
        """
        now = self.precision
        found: list[tuple[str, Precision, int]] = []
        bits = now.weights.bits if now.weights else 8 * now.base_bytes
        changes = [(name, SCHEMES[name]) for name in _TRIED_WEIGHTS if SCHEMES[name].bits < bits]
        for name, other in changes:
            changed = replace(now, weights=other, activations=None)
            found.append((f"{name} weights", changed, self._saved(weights_bytes, other)))
        cache = round(kv_cache_bytes * (1 - self.cache_ratio(_TRIED_CACHE) / self.cache_ratio(now.cache)))
        if cache > 0:
            found.append((f"an {_TRIED_CACHE} cache", replace(now, cache=_TRIED_CACHE), cache))
            for name, other in changes:
                changed = replace(now, weights=other, activations=None, cache=_TRIED_CACHE)
                words = f"{name} weights and an {_TRIED_CACHE} cache"
                found.append((words, changed, self._saved(weights_bytes, other) + cache))
        copies = max(self.widened(stage, now) for stage in self.traces)
        for words, changed, saved in found:
            yield words, saved + copies - max(self.widened(stage, changed) for stage in self.traces)

    def _saved(self, weights_bytes: int, other: Scheme) -> int:
        return round(weights_bytes * (1 - self.held.total(other) / self.held.total(self.precision.weights)))
