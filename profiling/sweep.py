"""Many estimates at once: a model over a grid or a list of points. numpy and the standard library; torch only where a form is made.

Points that differ in batch, lengths or device alone share one closed form. Where a model has none, every point is traced: slower,
the same numbers; the column ``method`` says which it was. A point that makes no sense keeps its row, with the reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from profiling.cautions import cautions
from profiling.forms.encode import Encode
from profiling.forms.evaluate import COLUMNS, Evaluator, Points
from profiling.forms.keys import form_key
from profiling.forms.store import FormStore
from profiling.forms.terms import ModelForm, NoForm
from profiling.forms.timing import PARTS
from profiling.limits import check_context
from profiling.parallel import Plan, link
from profiling.precision import Precision
from profiling.roofline import Ceilings, ceilings
from profiling.scratch import scratch_warnings
from profiling.small_products import SHARE, warning
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload
from profiling.workspace import kernel_threads

#: What a point may set: fields of a workload that decide an estimate.
OPTIONS = tuple(
    f.name
    for f in fields(Workload)
    if f.name not in ("prompt", "prompts", "iterations", "warmup", "seed", "time_limit_s")
)
_FREE = ("batch_size", "input_tokens", "output_tokens")

#: Columns of a result: the device, the options that were given, then what came out.
RESULTS = (*COLUMNS, "method", "level", "notes", "error")

#: Points that one sweep may have.
MAX_POINTS = 5_000_000

Progress = Callable[[int], None]
Maker = Callable[[ModelSpec, Workload, int | None], ModelForm]


@dataclass(frozen=True)
class Sweep:
    """A table: ``columns`` by name, lists or arrays of one length. Units are in the names: s, bytes, tokens_per_s, parts of 1."""

    columns: dict[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Row by row, plain values; None where a number is unknown or does not apply."""
        lists = [values.tolist() if isinstance(values, np.ndarray) else values for values in self.columns.values()]
        for row in zip(*lists, strict=True):
            yield {n: None if v != v else v for n, v in zip(self.columns, row, strict=True)}


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the values of ``axes``, the last one changing fastest. Raises :class:`SpecError` for too many."""
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MAX_POINTS:
        raise SpecError("points", f"The grid has {count:,} points: at most {MAX_POINTS:,} are possible.")
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def sweep(
    model: ModelSpec,
    devices: Sequence[HardwareSpec],
    points: Iterable[Mapping[str, Any]],
    base: Workload,
    *,
    store: FormStore | None = None,
    make: Maker | None = None,
    level: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Estimate ``model`` at ``points``: each sets options of ``base``, and ``hardware`` (a slug or name among ``devices``) where there are several.

    ``make``: makes a form that ``store`` does not have; by default in this process, which then imports torch. ``progress`` is told how
    many points are done. Raises :class:`SpecError` for an option that does not exist.
    """
    points = list(points)
    if len(points) > MAX_POINTS:
        raise SpecError("points", f"There are {len(points):,} points: at most {MAX_POINTS:,} are possible.")
    run = _Run(model, list(devices), base, store or FormStore(), make or _make, level, progress or (lambda done: None))
    return run(points)


def _make(model: ModelSpec, workload: Workload, threads: int | None) -> ModelForm:
    from profiling.forms.make import make_form

    return make_form(model, workload, threads)


class _Run:
    """One sweep: points in, table out."""

    def __init__(
        self,
        model: ModelSpec,
        devices: list[HardwareSpec],
        base: Workload,
        store: FormStore,
        make: Maker,
        level: str | None,
        progress: Progress,
    ) -> None:
        self._model, self._devices, self._base = model, devices, base
        self._store, self._make, self._level, self._progress = store, make, level, progress
        self._names = {name: i for i, d in enumerate(devices) for name in (d.name, d.slug) if name}

    def __call__(self, points: list[Mapping[str, Any]]) -> Sweep:
        given = list(dict.fromkeys(name for point in points for name in point if name != "hardware"))
        for name in given:
            if name not in OPTIONS:
                raise SpecError(name, f"A point has no option {name!r}. Options: hardware, {', '.join(OPTIONS)}.")
        size = len(points)
        numbers = {name: np.full(size, np.nan) for name in COLUMNS}
        texts: dict[str, list[str | None]] = {name: [None] * size for name in ("method", "level", "notes", "error")}
        groups: dict[tuple[Any, ...], list[int]] = {}
        device = np.zeros(size, dtype=np.int64)
        for i, point in enumerate(points):
            try:
                device[i] = self._device(point.get("hardware"))
            except SpecError as error:
                texts["error"][i] = f"{error.field}: {error}"
                continue
            threads = kernel_threads(self._devices[device[i]].kind, point.get("threads", self._base.threads))
            groups.setdefault(
                (threads, *(point.get(n, getattr(self._base, n)) for n in given if n not in _FREE)), []
            ).append(i)
        done = size - sum(map(len, groups.values()))
        for indices in groups.values():
            self._group([points[i] for i in indices], indices, device, numbers, texts)
            done += len(indices)
            self._progress(done)
        columns: dict[str, Any] = {"hardware": [self._devices[d].slug or self._devices[d].name for d in device]}
        for name in dict.fromkeys([*_FREE, *given]):
            columns[name] = [point.get(name, getattr(self._base, name)) for point in points]
        return Sweep({**columns, **numbers, **texts})

    def _device(self, name: Any) -> int:
        if name is None and len(self._devices) == 1:
            return 0
        if name not in self._names:
            raise SpecError("hardware", f"{name!r} is none of the devices of this sweep: {', '.join(self._names)}.")
        return self._names[name]

    def _group(
        self,
        points: list[Mapping[str, Any]],
        indices: list[int],
        device: np.ndarray,
        numbers: dict[str, np.ndarray],
        texts: dict[str, list[str | None]],
    ) -> None:
        """Points that share a form."""
        try:
            workload = replace(self._base, **{k: v for k, v in points[0].items() if k != "hardware" and k not in _FREE})
            workload = replace(workload, batch_size=max(workload.batch_size, workload.data_parallel))
            workload.check()
        except SpecError as error:
            for i in indices:
                texts["error"][i] = f"{error.field}: {error}"
            return
        first = self._devices[device[indices[0]]]
        try:
            form: ModelForm | None = self._form(workload, first)
            encode = None
            if form is not None and (workload.images or workload.audios):
                check_context(form.facts["kind"], None, workload)
                encode = Encode(self._model, workload, kernel_threads(first.kind, workload.threads))
        except SpecError as error:
            for i in indices:
                texts["error"][i] = f"{error.field}: {error}"
            return
        valid = []
        for i, point in zip(indices, points, strict=True):
            asked = replace(workload, **{k: point[k] for k in _FREE if k in point})
            problem = _problem(form, asked, encode.tokens if encode else 0)
            texts["error"][i] = problem
            if problem is None:
                valid.append((i, point))
        if form is not None and valid:
            valid = self._evaluate(form, workload, encode, valid, device, numbers, texts)
        for i, point in valid:
            self._trace(i, replace(workload, **{k: point[k] for k in _FREE if k in point}), device, numbers, texts)

    def _form(self, workload: Workload, device: HardwareSpec) -> ModelForm | None:
        threads = kernel_threads(device.kind, workload.threads)
        key = form_key(self._model, workload, threads)
        try:
            found = self._store.get(key)
            if found is None:
                found = self._make(self._model, workload, threads)
                self._store.put(found)
            return found
        except NoForm as error:
            self._store.put_reason(key, str(error))
            return None

    def _limits(
        self, workload: Workload, device: HardwareSpec
    ) -> tuple[Ceilings, list[dict[str, str]], list[dict[str, str]]]:
        """What limits a device, and what to keep in mind about it and about its links."""
        products = Precision.of(workload).product_dtype
        limits, warnings = ceilings(device, workload.dtype, self._level, workload.threads, products)
        plan = Plan.of(workload)
        interconnect, unlinked = link(device, plan)
        warnings = warnings + scratch_warnings(device, workload)
        return replace(limits, interconnect=interconnect, linked=plan.communicates), warnings, unlinked

    def _evaluate(
        self,
        form: ModelForm,
        workload: Workload,
        encode: Encode | None,
        valid: list[tuple[int, Mapping[str, Any]]],
        device: np.ndarray,
        numbers: dict[str, np.ndarray],
        texts: dict[str, list[str | None]],
    ) -> list[tuple[int, Mapping[str, Any]]]:
        """Fill in the points that the form covers; returns the others."""
        rows = np.array([i for i, _ in valid])
        used = sorted(set(device[rows].tolist()))
        limits, of_rates, of_links = zip(*(self._limits(workload, self._devices[d]) for d in used), strict=True)
        capacities = [self._devices[d].memory_bytes for d in used]
        evaluator = Evaluator(form, workload, limits, capacities)
        joined = encode.tokens if encode else 0

        def column(name: str) -> np.ndarray:
            return np.array([point.get(name, getattr(workload, name)) for _, point in valid], dtype=np.int64)

        at = Points(
            column("batch_size"),
            column("input_tokens") + joined,
            column("output_tokens"),
            np.searchsorted(used, device[rows]),
        )
        covered = evaluator.covered(at)
        rows = rows[covered]
        small: dict[str, np.ndarray] = {}
        if len(rows):
            at = at.at(covered)
            found, small = evaluator(at), evaluator.small_shares(at)
            if encode is not None:
                small = encode.small_shares(at.batch_size, at.device, limits) | small
                found = encode.added(found, at.batch_size, at.output_tokens, at.device, limits, capacities)
            for name, values in found.items():
                numbers[name][rows] = values
        facts = form.facts
        of_model = cautions(
            self._model, workload, facts["architecture"], facts["kind"], facts["attention"], facts["unknown"]
        )
        of_device = [rates + facts["uneven"] + links for rates, links in zip(of_rates, of_links, strict=True)]
        notes = [_said(before + of_model) for before in of_device]
        for n, i in enumerate(rows.tolist()):
            d = int(at.device[n])
            texts["method"][i], texts["level"][i], texts["notes"][i] = "closed form", limits[d].level, notes[d]
        for n in {n for share in small.values() for n in np.flatnonzero(share > SHARE).tolist()}:
            d = int(at.device[n])
            beside = warning({stage: float(share[n]) for stage, share in small.items()}, limits[d])
            texts["notes"][int(rows[n])] = _said(of_device[d] + beside + of_model)
        return [pair for pair, held in zip(valid, covered.tolist(), strict=True) if not held]

    def _trace(
        self,
        i: int,
        workload: Workload,
        device: np.ndarray,
        numbers: dict[str, np.ndarray],
        texts: dict[str, list[str | None]],
    ) -> None:
        from profiling.estimate import estimate

        try:
            document = estimate(self._model, self._devices[device[i]], workload, level=self._level)
        except SpecError as error:
            texts["error"][i] = f"{error.field}: {error}"
            return
        for name, value in from_document(document).items():
            numbers[name][i] = np.nan if value is None else value
        texts["method"][i] = "trace"
        # Whether it fits is a column of its own.
        texts["notes"][i] = _said(
            w for w in document["warnings"] if w["code"] not in ("does_not_fit", "capacity_unknown")
        )
        texts["level"][i] = document["conventions"]["ceilings"].split(":")[0]


def _problem(form: ModelForm | None, workload: Workload, joined: int = 0) -> str | None:
    """Why a point makes no sense, or None. ``joined``: tokens of its prompt that images and audio clips take."""
    try:
        workload.check()
        Plan.of(workload)
        if form is not None:
            check_context(form.facts["kind"], form.facts["max_context"], workload, joined)
    except SpecError as error:
        return f"{error.field}: {error}"
    return None


def _said(warnings: Iterable[Mapping[str, str]]) -> str | None:
    return " ".join(dict.fromkeys(w["message"] for w in warnings)) or None


def from_document(document: Mapping[str, Any]) -> dict[str, float | None]:
    """The columns of a sweep, read off a run document."""
    metrics = {name: item["value"] for name, item in document["metrics"].items()}
    memory = document["memory"]["estimate"]
    first, encoding = metrics.get("prefill_time"), metrics.get("encode_time")
    reads = "prefill_time" not in metrics  # an encoder; else what its front end encodes comes before the prefill
    if first is not None and "encode_time" in metrics:
        first = None if encoding is None else encoding + first
    found: dict[str, float | None] = {
        "ttft_s": metrics.get("ttft", first),
        "tpot_s": metrics.get("tpot"),
        "e2e_s": metrics.get("e2e_latency", encoding if reads else None),
        "prefill_tokens_per_s": metrics.get("prefill_throughput", metrics.get("encode_throughput")),
        "decode_tokens_per_s": metrics.get("decode_throughput"),
        "output_tokens_per_s": metrics.get("output_throughput"),
        "weights_bytes": memory["weights_bytes"],
        "cache_bytes": memory["kv_cache_bytes"] + memory["state_bytes"],
        "activation_peak_bytes": memory["activation_peak_bytes"],
        "widened_bytes": memory["widened_bytes"],
        "total_bytes": memory["total_bytes"],
        "fits": None if memory["fits"] is None else float(memory["fits"]),
        **_shares(document["stages"]),
    }
    return found


def _shares(stages: Mapping[str, Any]) -> dict[str, float | None]:
    """Parts of the time from the first pass to the last token, by what they go to; None where a time is unknown."""
    passes = [stage.get("all_steps", stage) for stage in stages.values()]
    if any(one["latency_s"] is None for one in passes):
        return {f"{part}_share": None for part in PARTS}
    seconds = {part: sum(one["time_by_bound"].get(part, 0.0) for one in passes) for part in PARTS}
    total = sum(seconds.values())
    return {f"{part}_share": value / total if total else None for part, value in seconds.items()}
