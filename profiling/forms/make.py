"""Closed forms of a model, made from traces of its real forward (needs torch and transformers).

The forms are fitted on the folded model and checked by one trace of the complete one; a model whose folding is at fault is fitted
complete. Traces are not kept beyond that.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from profiling import mla
from profiling.build import Built, attention_of, build, cached_build
from profiling.demand import CHANNELS
from profiling.deployment import Divided, Needs, plan_of, shortest
from profiling.execution import Work, works
from profiling.forms.basis import at
from profiling.forms.keys import form_key
from profiling.forms.samples import NUMBERS, Sample, row
from profiling.forms.search import Search, boxes
from profiling.forms.terms import ModelForm, NoForm, StageForm
from profiling.inspection import active_parameters
from profiling.layouts import Marks
from profiling.passes import Pass, Trace, cache_shape, trace
from profiling.precision import GROUP_SIZES, SCHEMES, scheme
from profiling.quantised import as_stored, mark_quantised, weights
from profiling.roles import Roles
from profiling.sharding import find_marks, marked_by
from profiling.shares import divided_profile
from profiling.spec import Counting, ModelSpec, SpecError, Workload

#: Where nothing limits the context, forms reach so far.
UNLIMITED_CONTEXT = 131_072
#: A loop over tokens or chunks in Python is followed for so many operators, and at least so many tokens.
LOOPED_CALLS = 5_000
LOOPING_CONTEXT = 2_048
#: Seconds of this thread's own time that finding the forms of a model may take.
TIME_LIMIT_S = 120.0

#: Keys of one tile of a processor's attention kernel (profiling.workspace).
TILE_KEYS = 512

Progress = Callable[[str, float, str], None]


def make_form(
    model: ModelSpec, workload: Workload, kernel_threads: int | None = None, progress: Progress | None = None
) -> ModelForm:
    """The forms of ``model`` under the conventions and on the devices of ``workload`` (its batch, lengths and formats do not matter).

    Raises :class:`NoForm` where no polynomial holds, :class:`SpecError` for a model that cannot be built or traced.
    """
    tell = progress or (lambda stage, fraction, message: None)
    if kernel_threads is not None and workload.tensor_parallel * workload.pipeline_parallel > 1:
        # An estimate takes the processor's peak at the part that a device has of an accelerator's: no polynomial.
        raise NoForm(
            "What kernels of a processor take of memory where several devices share a model is in no closed form."
        )
    built = cached_build(model, workload.dtype, workload.attn_implementation)
    deadline = time.thread_time() + TIME_LIMIT_S
    tell("fit", 0.2, "Fitting closed forms")
    maker = _Maker(built, workload, kernel_threads, deadline)
    stages = maker.stages()
    tell("check", 0.8, "Checking them against the complete model")
    whole = maker
    if any(fold.kept < len(fold.kinds) for fold in built.folds):
        complete = build(model, workload.dtype, workload.attn_implementation, fold=False)
        whole = _Maker(complete, workload, kernel_threads, deadline)
    if whole is not maker and not _agree(stages, whole):
        maker, stages = whole, whole.stages()
    if maker is whole and not _agree(stages, whole):
        raise NoForm("The closed form differs from a trace of the complete model.")
    facts = _facts(model, built, maker) | {
        "unknown": sorted({name for form in stages.values() for name in form.unknown})
    }
    return ModelForm(form_key(model, workload, kernel_threads), facts, stages)


def _facts(model: ModelSpec, built: Built, maker: _Maker) -> dict[str, Any]:
    shape = cache_shape(built)
    return {
        "name": model.name,
        "architecture": built.architecture,
        "model_type": built.config.model_type,
        "kind": model.kind,
        "parameters": built.parameters,
        "active_parameters": active_parameters(built, maker.first()),
        "weight_bytes": built.weight_bytes,
        "layers": built.layers,
        "max_context": built.max_context,
        "windows": list(built.windows),
        "sequence_length": maker.first().sequence_length,
        "kv_cache_bytes_per_token": shape.bytes_per_token + maker.grown_per_token() if shape else None,
        "state_bytes": shape.state_bytes if shape else 0,
        "bytes_per_source_token": shape.bytes_per_source_token if shape else 0,
        "attention": attention_of(built),
        "uneven": Divided(built, maker.shortest(), maker.form).check(maker.plan),
        "held": _held(built, maker),
    }


def _held(built: Built, maker: _Maker) -> dict[str, Any]:
    """What one device of each pipeline stage holds of a replica: bytes of weights by the scheme that they are stored in, and parts
    (0–1) of keys and values and of states. ``vectors``: (values of a key or value in one head, part of the cache's growth)."""
    plan, traces = maker.plan, maker.shortest()
    marked = mark_quantised(works(maker.first(), maker.counting), built)
    found = weights(marked, built)
    large = 10**15  # bytes: shares of it are rounded to whole ones
    stored: dict[str, list[int]] = {}
    for name in ("", *SCHEMES, *(f"int{bits}-g{size}" for bits in (2, 3, 4) for size in GROUP_SIZES)):
        kept = as_stored(built, found, scheme(name) if name else None)
        divided = Divided(kept, traces, maker.form)
        stages = divided.stages(plan, Needs(kept.weight_bytes, large, large, 0))
        stored[name] = [stage.weights for stage in stages]
    vectors: dict[int, int] = {}
    for work in marked:
        if work.cache_vector:
            vectors[work.cache_vector] = vectors.get(work.cache_vector, 0) + int(work.times * work.cache_written)
    written = sum(vectors.values()) or 1
    return {
        "weights": stored,
        "kv_cache": [stage.kv_cache / large for stage in stages],
        "state": [stage.state / large for stage in stages],
        "vectors": [[vector, count / written] for vector, count in vectors.items()],
    }


def _agree(stages: Mapping[str, StageForm], complete: _Maker) -> bool:
    """One pass of the complete model for each stage against the forms: all channels in all, the cache, and the activation peak."""
    return all(_agrees(form, complete.inside(form), complete) for form in stages.values())


def _agrees(form: StageForm, point: Mapping[str, int], complete: _Maker) -> bool:
    sample, piece = complete.sample(form.stage, point), form.piece(point)
    full = piece.complete(point)
    times = NUMBERS.index("calls")
    for i, channel in enumerate(NUMBERS):
        if channel not in CHANNELS or channel == "rows":
            continue  # they do not add up
        told = sum(at(t.exact[channel], piece.basis, full) for t in piece.terms)
        if told != sum(numbers[i] * numbers[times] for numbers in sample.numbers):
            return False
    peak = max((at(p, piece.basis, full) for p in piece.peaks), default=0)
    return at(piece.cache, piece.basis, full) == sample.cache_bytes and peak == max(sample.alive, default=0)


class _Maker:
    """The stages of one built model. Remembers its samples."""

    def __init__(self, built: Built, workload: Workload, kernel_threads: int | None, deadline: float) -> None:
        self._built, self._workload, self._deadline = built, workload, deadline
        self._threads = kernel_threads
        self.plan = plan_of(workload, built)
        self._roles = Roles(built)
        self._samples: dict[tuple[Any, ...], Sample] = {}
        self._unknown: dict[str, None] = {}
        self._shortest: dict[str, Trace] | None = None

    def first(self) -> Trace:
        """A trace of the model, for facts."""
        return next(iter(self.shortest().values()))

    @property
    def counting(self) -> Counting:
        return self._workload.counting

    @property
    def form(self) -> str:
        """Of latent attention."""
        return self._workload.mla

    def grown_per_token(self) -> int:
        """Bytes by which a cached token is larger than as transformers caches it."""
        return mla.grown_per_token(self.first(), self._workload.counting)

    def shortest(self) -> dict[str, Trace]:
        """Short passes of every stage, for facts."""
        if self._shortest is None:
            self._shortest = shortest(self._built)
        return self._shortest

    def stages(self) -> dict[str, StageForm]:
        kind, workload = self._built.kind, self._workload
        limit = self._limit()
        windows = [w + d for w in self._built.windows for d in (-1, 0, 1, 2)]
        if kind == "vision":
            return {"encode": self._line("encode", "tokens", (1, 1), {}, [])}
        if kind == "encoder":
            return {"encode": self._line("encode", "tokens", (1, limit), {}, [2, *windows])}
        decode_tokens = workload.draft_tokens + 1
        if kind == "encdec":
            # As many decoder steps are followed as the encoder takes tokens, at least.
            prefill = self._line(
                "prefill", "source", (1, limit), {"tokens": workload.decoder_tokens, "context": 0}, [2]
            )
            decode = self._box("decode", {"context": (1, limit - 1), "source": (2, limit)}, {"tokens": decode_tokens})
            # Products with a single source token are other operators.
            shortest = self._line("decode", "context", (1, limit - 1), {"tokens": decode_tokens, "source": 1}, [2])
            decode = replace(decode, pieces=(*decode.pieces, *shortest.pieces))
            return {"prefill": prefill, "decode": decode}
        prefix = workload.prefix_tokens
        shifted = [w - prefix for w in windows]
        prefill = self._line(
            "prefill",
            "tokens",
            (1, limit - prefix),
            {"context": prefix, "source": 0},
            [2, *(w for w in shifted if w > 1)],
        )
        last = limit - decode_tokens
        if last < 1:
            return {"prefill": prefill}
        decode = self._line("decode", "context", (1, last), {"tokens": decode_tokens, "source": 0}, [2, *windows])
        return {"prefill": prefill, "decode": decode}

    def _limit(self) -> int:
        """Most tokens that the forms cover."""
        limit = min(self._built.max_context or UNLIMITED_CONTEXT, 4 * UNLIMITED_CONTEXT)
        if self._built.kind in ("encoder", "vision", "encdec"):
            return limit
        # A full window, and few chunks, change what runs too.
        chunk = max(self._chunks(), default=64)
        begin = max(self._built.windows, default=0) + 6 * chunk + 2
        if limit < begin + 8 * chunk:
            return limit
        short, long = (len(self._trace("prefill", {"batch": 1, "tokens": t}).calls) for t in (begin, begin + 8 * chunk))
        if short == long:
            return limit
        return min(limit, max(LOOPING_CONTEXT, LOOPED_CALLS * 8 * chunk // abs(long - short)))

    def _line(
        self, stage: str, variable: str, limits: tuple[int, int], fixed: Mapping[str, int], cuts: list[int]
    ) -> StageForm:
        chunks = self._chunks()
        search = Search(lambda p: self.sample(stage, p), variable, fixed, chunks, self._deadline)
        if variable == "tokens":  # short convolutions, and loops over few chunks
            cuts = [*cuts, 3, 4, *(count * chunk + 1 for chunk in chunks for count in range(1, 6))]
        one = search.pieces(*limits, cuts, batched=False)
        seams = [p.ranges[variable][0] for p in one]
        many = search.pieces(*limits, [*cuts, *seams], batched=True)
        return StageForm(stage, dict(fixed), (*many, *one), tuple(self._unknown))

    def _box(self, stage: str, ranges: Mapping[str, tuple[int, int]], fixed: Mapping[str, int]) -> StageForm:
        # A processor's attention kernel works on tiles of at most so many keys.
        cuts = {} if self._threads is None else {"context": TILE_KEYS + 1 - fixed["tokens"], "source": TILE_KEYS + 1}
        pieces = boxes(lambda p: self.sample(stage, p), ranges, fixed, cuts, self._deadline)
        return StageForm(stage, dict(fixed), pieces, tuple(self._unknown))

    def inside(self, form: StageForm) -> dict[str, int]:
        """A point in the middle of the widest piece of a stage, batch 2."""
        pieces = [p for p in form.pieces if p.batched]
        widest = max(pieces, key=lambda p: max(high - low for low, high in p.ranges.values()))
        middle = {name: low + min(high - low, 611) // 2 for name, (low, high) in widest.ranges.items()}
        return {**form.constants, **middle, "batch": 2}

    def _chunks(self) -> tuple[int, ...]:
        """Sizes by which tokens may be rounded up: in the configuration, the modules, and as defaults of the functions beside them."""
        modules = list(self._built.module.modules())
        named = [pair for holder in (self._built.config, *modules) for pair in vars(holder).items()]
        for file in dict.fromkeys(type(m).__module__ for m in modules):
            for function in vars(sys.modules[file]).values():
                if inspect.isfunction(function) and function.__module__ == file:
                    named += [(p.name, p.default) for p in inspect.signature(function).parameters.values()]
        wanted = ("chunk", "block_size")
        return tuple(
            dict.fromkeys(
                number
                for name, number in named
                if any(word in name for word in wanted) and isinstance(number, int) and 1 < number <= 8192
            )
        )

    def sample(self, stage: str, point: Mapping[str, int]) -> Sample:
        key = (stage, *sorted(point.items()))
        found = self._samples.get(key)
        if found is None:
            found = self._samples[key] = self._sampled(self._trace(stage, point))
        return found

    def _trace(self, stage: str, point: Mapping[str, int]) -> Trace:
        checks = "all" if self._workload.draft_tokens else "last"
        logits = self._workload.logits if stage == "prefill" else checks
        spec = Pass(
            stage, point["batch"], point.get("tokens", 1), point.get("context", 0), point.get("source", 0), logits
        )
        try:
            made = mla.kept(trace(self._built, spec), self._workload.counting)
        except SpecError as error:
            raise NoForm(str(error)) from error
        self._unknown.update(dict.fromkeys(made.recording.unknown))
        return made

    def _sampled(self, item: Trace) -> Sample:
        marks = None if self.plan.single else find_marks(item, self._built, self._workload.mla)
        demands = self._demands(item, marks)
        rows = [
            row(
                work,
                self._roles.of(work.call),
                work.call.name,
                work.times,
                sum(b for _, b, source in work.call.reads if source == "weight"),
            )
            for work in demands
        ]
        return Sample(
            signature=tuple((w.call.path, w.call.label, w.call.name) for w in demands),
            statics=tuple(static for static, _ in rows),
            numbers=tuple(numbers for _, numbers in rows),
            alive=self._alive(item, marks),
            cache_bytes=item.cache_bytes,
            unknown=item.recording.unknown,
        )

    def _demands(self, item: Trace, marks: Marks | None) -> list[Work]:
        """The operators in ``dtype`` and whole, marked with what formats and devices will do to them."""
        marked = mark_quantised(works(item, self._workload.counting), self._built)
        return marked if marks is None else marked_by(marks, marked)

    def _alive(self, item: Trace, marks: Marks | None) -> tuple[Any, ...]:
        """Bytes of activations after each allocation, of the device with the most."""
        if self._threads is not None:
            return item.recording.alive_on_cpu(self._threads)  # whole: see :func:`make_form`
        return item.recording.alive if marks is None else divided_profile(item, marks, self.plan)
