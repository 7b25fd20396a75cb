"""What a run is made of, as frozen values: model, hardware, workload.

These are the inputs of every analysis and measurement. They come from JSON (a file, the portal's database, the REST API)
and go back to JSON unchanged, and each has a digest, so that a result can say exactly what it was made from.
Sizes are bytes, rates are per second, times are seconds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

#: Floating-point and integer formats, by the names used everywhere, with bytes per element.
DTYPE_BYTES: dict[str, float] = {
    "fp32": 4,
    "tf32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8": 1,
    "int8": 1,
    "fp4": 0.5,
    "int4": 0.5,
}

#: Formats in which this version can run or estimate a whole model (weights and activations alike).
WORKLOAD_DTYPES = ("fp32", "bf16", "fp16")

#: What the options of a workload that are words can be; None leaves the choice to another option.
CHOICES: dict[str, tuple[str | None, ...]] = {
    "logits": ("last", "all"),
    "execution": ("eager", "fused"),
    "causal": ("full", "halved"),
    "window": (None, "executed", "windowed"),
    "mla": ("executed", "expanded", "absorbed"),
    "experts": ("uniform", "topk", "all"),
}

MODEL_KINDS = ("decoder", "encoder", "encdec", "ssm", "audio", "vision")


class SpecError(ValueError):
    """An input cannot be used. ``field`` names it, ``str(error)`` says why and what to do, in one sentence."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class _Spec:
    """JSON in, JSON out, digest. Unknown keys are refused by name: a misspelt option must not be ignored."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(data) - known)
        if unknown:
            raise SpecError(unknown[0], f"{cls.__name__} has no field {unknown[0]!r}.")
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    def digest(self) -> str:
        return digest(self.to_json())


@dataclass(frozen=True)
class ModelSpec(_Spec):
    """A language model.

    ``config`` is the content of a transformers ``config.json`` (it has ``model_type``; ``architectures`` names the class
    unless ``architecture`` does). ``weights`` is ``random`` or ``local``; with ``local``, ``weights_path`` is a folder with
    safetensors and tokenizer. ``weights_note`` is shown wherever results are ("dequantised from Q4_1").
    ``weights_root``: the registered folder that ``weights_path`` must lie under when it is loaded; ``weights_digest``: what it must still be
    then (see :mod:`profiling.folders`). None: not checked.
    """

    name: str
    config: dict[str, Any]
    architecture: str | None = None
    kind: str = "decoder"
    source: str = "config"
    weights: str = "random"
    weights_path: str | None = None
    weights_note: str | None = None
    weights_root: str | None = None
    weights_digest: str | None = None

    def config_sha256(self) -> str:
        """Digest of what decides the architecture: config and class, not the name. Raises :class:`SpecError` for what is no JSON."""
        try:
            return digest({"config": self.config, "architecture": self.architecture})
        except (TypeError, ValueError, RecursionError):
            message = (
                "The configuration has a value that JSON does not have: a number that is not finite, or broken text."
            )
            raise SpecError("config", message) from None


@dataclass(frozen=True)
class HardwareSpec(_Spec):
    """A device as its datasheet describes it: ``None`` where a figure is unknown.

    ``peak_flops``: dense FLOP/s (or integer OP/s) by dtype name. ``memory_bandwidth``, ``interconnect_bandwidth``: bytes/s.
    ``memory_bytes``, ``cache_bytes``: bytes. ``confidence``: field name → ``confirmed`` | ``unconfirmed`` | ``measured``.
    ``ceilings``: rates measured on one host, by ``profiling.ceilings`` (list of its rows), or empty.
    """

    name: str
    slug: str = ""
    vendor: str = ""
    kind: str = "gpu"
    memory_bytes: int | None = None
    memory_bandwidth: float | None = None
    peak_flops: dict[str, float | None] = field(default_factory=dict)
    cache_bytes: int | None = None
    interconnect_bandwidth: float | None = None
    tdp_w: float | None = None
    confidence: dict[str, str] = field(default_factory=dict)
    ceilings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counting:
    """Which operations and bytes of a forward pass are counted. Every result names its choices (``profiling.conventions``).

    ``execution``: ``eager`` (each kernel reads and writes memory) or ``fused`` (element-wise chains ride along).
    ``causal``: ``full`` counts every query-key pair, ``halved`` those that the causal mask lets through.
    ``window``: ``executed`` counts the pairs that transformers computes, ``windowed`` those that a kernel which knows the sliding
    window visits; None: ``windowed`` for the fused execution model, ``executed`` for eager.
    ``mla``: multi-head latent attention ``executed`` (the latent is cached and expanded again in every step), ``expanded`` (keys
    and values are cached) or ``absorbed`` (attention over the latent itself).
    ``experts``: weights read in one step: ``uniform`` routing, ``topk`` (all tokens choose the same) or ``all``.
    """

    execution: str = "eager"
    causal: str = "full"
    window: str | None = None
    mla: str = "executed"
    experts: str = "uniform"

    @property
    def windowed(self) -> bool:
        return (self.window or ("windowed" if self.execution == "fused" else "executed")) == "windowed"


@dataclass(frozen=True)
class Workload(_Spec):
    """What the model is asked to do.

    ``input_tokens`` counts the prompt per sequence; it is derived from ``prompt`` when one is given to a measured run, or from
    ``prompts``: several, each a request of its own, which fill batches of ``batch_size`` in their order (:mod:`profiling.prompts`).
    ``output_tokens`` are generated per sequence (0 for encoders). ``iterations`` are timed, ``warmup`` come before them.
    ``logits``: ``last`` computes the LM head on the last prompt position (what generate() does), ``all`` on every one.
    ``execution``, ``causal``, ``window``, ``mla``, ``experts``: see :class:`Counting`.
    ``weights_dtype``, ``activation_dtype``, ``kv_dtype``: formats that differ from ``dtype`` (see ``profiling.precision``); None: ``dtype``.
    ``decoder_tokens``: tokens that the decoder of an encoder-decoder model begins with. ``prefix_tokens``: tokens of the prompt
    that lie in the cache already. ``draft_tokens`` guessed per step by a draft that is right with probability
    ``draft_acceptance`` each (speculative decoding); each takes ``draft_cost`` of the time of a step (None: unknown, not counted).
    ``images``, ``audios``: images and audio clips per sequence, which the front end of a model that reads text encodes; their tokens
    are in the prompt beside ``input_tokens``.
    The ``…_parallel`` degrees split the model over their product of devices.
    """

    batch_size: int = 1
    input_tokens: int = 128
    output_tokens: int = 32
    dtype: str = "bf16"
    prompt: str | None = None
    prompts: tuple[str, ...] | None = None
    logits: str = "last"
    execution: str = "eager"
    causal: str = "full"
    window: str | None = None
    mla: str = "executed"
    experts: str = "uniform"
    weights_dtype: str | None = None
    activation_dtype: str | None = None
    kv_dtype: str | None = None
    decoder_tokens: int = 1
    prefix_tokens: int = 0
    draft_tokens: int = 0
    draft_acceptance: float | None = None
    draft_cost: float | None = None
    images: int = 0
    audios: int = 0
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    data_parallel: int = 1
    attn_implementation: str = "sdpa"
    iterations: int = 5
    warmup: int = 1
    seed: int = 0
    threads: int | None = None
    time_limit_s: float = 900.0

    def __post_init__(self) -> None:
        if isinstance(self.prompts, list):  # as JSON has it
            object.__setattr__(self, "prompts", tuple(self.prompts))

    def check(self) -> None:
        """Raise :class:`SpecError` at the first value that makes no sense, whatever the model."""
        limits = {
            "batch_size": (1, 65536),
            "input_tokens": (1, 100_000_000),
            "output_tokens": (0, 1_000_000),
            "iterations": (1, 10_000),
            "warmup": (0, 1000),
            "decoder_tokens": (1, 1_000_000),
            "prefix_tokens": (0, 100_000_000),
            "draft_tokens": (0, 64),
            "images": (0, 10_000),
            "audios": (0, 10_000),
            "tensor_parallel": (1, 1024),
            "pipeline_parallel": (1, 1024),
            "expert_parallel": (1, 1024),
            "data_parallel": (1, 65536),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise SpecError(name, f"Enter a whole number from {low} to {high}.")
        if self.dtype not in WORKLOAD_DTYPES:
            raise SpecError("dtype", f"Choose one of {', '.join(WORKLOAD_DTYPES)}.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                shown = [c for c in choices if c is not None]
                raise SpecError(name, f"Choose {', '.join(shown[:-1])} or {shown[-1]}.")
        if self.prompts is not None:
            self._check_prompts()
        self._check_draft()

    def _check_prompts(self) -> None:
        from profiling.prompts import checked  # here: it raises errors of the class above

        prompts = checked(self.prompts)
        if self.prompt is not None:
            raise SpecError("prompt", "Give one prompt or a file of them, not both: clear one of the two.")
        if len(prompts) < self.batch_size:
            raise SpecError(
                "batch_size",
                f"{'Only one prompt was' if len(prompts) == 1 else f'Only {len(prompts)} prompts were'} given: a batch of "
                f"{self.batch_size} cannot be filled. Enter at most {len(prompts)}.",
            )

    def _check_draft(self) -> None:
        if self.draft_tokens and self.draft_acceptance is None:
            raise SpecError("draft_acceptance", "Enter how likely a drafted token is right, from 0 to 1.")
        for name in () if self.draft_tokens else ("draft_acceptance", "draft_cost"):
            if getattr(self, name) is not None:
                raise SpecError(
                    name, "Say how many tokens the draft guesses before each step (draft tokens), or leave this empty."
                )
        for name, high in (("draft_acceptance", 1.0), ("draft_cost", math.inf)):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and 0 <= value <= high and math.isfinite(value)):
                raise SpecError(name, "Enter a number from 0 to 1." if high == 1 else "Enter a number from 0.")
        from profiling.precision import check_formats  # here: formats are made of the names above

        check_formats(self)

    @property
    def counting(self) -> Counting:
        return Counting(self.execution, self.causal, self.window, self.mla, self.experts)


@dataclass(frozen=True)
class RunSpec(_Spec):
    """One run: kind (``estimate`` or ``measure``) and its three inputs, as plain JSON objects of the classes above.

    ``protocol``: how a measurement is repeated, of :class:`profiling.protocol.Protocol`; None: of an estimate, or in one process.
    ``against``: the specification of the measurement that this one takes turns with (:mod:`profiling.turns`).
    ``load``: requests against the model after the iterations, of :class:`profiling.load.Load`; None: none.
    ``artifacts``: files to make of a measurement (kinds of :data:`profiling.artifacts.KINDS`); None: none.
    ``replay``: of an estimate, the device of this host on which its operators are timed alone, ``cpu`` or ``cuda``; None: they are not.
    """

    kind: str
    model: dict[str, Any]
    hardware: dict[str, Any]
    workload: dict[str, Any]
    protocol: dict[str, Any] | None = None
    against: dict[str, Any] | None = None
    load: dict[str, Any] | None = None
    artifacts: list[str] | None = None
    replay: str | None = None

    def parts(self) -> tuple[ModelSpec, HardwareSpec, Workload]:
        """The three inputs as checked values; raises :class:`SpecError`."""
        workload = Workload.from_json(self.workload)
        workload.check()
        return ModelSpec.from_json(self.model), HardwareSpec.from_json(self.hardware), workload
