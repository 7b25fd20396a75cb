"""Options of an estimate beyond the plain workload: one description each, for the form, the API, facts, comparisons and exports.

The engine says what there is (:class:`profiling.spec.Workload`), which values there are and what is wrong with one; here are only the
words. An option that is described here is on the form, in the API, in the facts and in shared pages: nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from profiling.precision import ACTIVATION_FORMATS, GROUP_SIZES, KV_FORMATS, SCHEMES, scheme
from profiling.spec import CHOICES, WORKLOAD_DTYPES, SpecError, Workload

DEFAULTS = Workload()

#: Attention that transformers is asked for; a model that does not offer it says so in a warning.
ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class Group:
    key: str
    title: str
    about: str


GROUPS = (
    Group("precision", "Precision", "weights, activations and cache in formats of their own"),
    Group("devices", "Several devices", "the model divided over the devices of a machine or of several"),
    Group("conventions", "Conventions", "what is computed and counted"),
    Group("media", "Images and audio", "beside the text, for models that read them"),
    Group("serving", "Speculation and prefix cache", "a draft that guesses tokens, and a prompt that is partly known"),
)


@dataclass(frozen=True)
class Option:
    """One field of the workload.

    ``values``: what it can be, in the engine's words; empty for numbers. ``words`` say what a value means. ``empty``: what None means.
    ``short``: the value in a few words, for heads and lists. ``measured``: a measurement follows it, too; ``beside``: it only shapes
    the estimates that stand beside one. ``needs``: the option without which it says nothing.
    """

    name: str
    group: str
    title: str
    help: str
    short: str
    values: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    empty: str = ""
    unit: str = ""
    fraction: bool = False
    measured: bool = False
    beside: bool = False
    needs: str = ""

    @property
    def default(self) -> Any:
        return getattr(DEFAULTS, self.name)

    def says(self, value: Any) -> str:
        """The value with its meaning, in one line."""
        if value is None:
            return self.empty or "not given"
        if self.values:
            meaning = self.words.get(str(value))
            return f"{value}: {meaning}" if meaning else _format_words(self, value)
        number = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
        if value == self.default:
            return number
        return f"{number} {self.unit}".rstrip()

    def tag(self, value: Any) -> str:
        return self.short.format(value)

    def is_plain(self, workload: Mapping[str, Any]) -> bool:
        """Does the workload leave this option as it is by itself?"""
        value = workload.get(self.name, self.default)
        if value == self.default or (self.group == "precision" and value == workload.get("dtype")):
            return True
        return bool(self.needs) and workload.get(self.needs) == getattr(DEFAULTS, self.needs)


def _format_words(option: Option, value: Any) -> str:
    """A format of weights in the engine's words; any other value as it is."""
    try:
        return scheme(value).describe() if option.name == "weights_dtype" else str(value)
    except SpecError:  # a document of another version
        return str(value)


def weight_formats() -> dict[str, list[tuple[str, str]]]:
    """Formats of weights with their bits, in two groups: those by name, and those with another size of group."""
    named, sized = [], []
    for name, stored in SCHEMES.items():
        named.append((name, f"{name} ({stored.bits_per_weight():.3g} bits a weight)"))
        if stored.name == name or not stored.group:
            continue
        for size in GROUP_SIZES:
            other = f"{name}-g{size}"
            sized.append((other, f"{other} ({scheme(other).bits_per_weight():.3g} bits a weight)"))
    return {"Usual": named, "By the size of a group": sized}


def _known(name: str) -> tuple[str, ...]:
    return tuple(choice for choice in CHOICES[name] if choice is not None)


OPTIONS: tuple[Option, ...] = (
    Option(
        "weights_dtype",
        "precision",
        "Weight format",
        "of linear layers and experts; the rest stays in the data type",
        "{} weights",
        values=tuple(name for formats in weight_formats().values() for name, _ in formats),
        empty="as the data type",
    ),
    Option(
        "activation_dtype",
        "precision",
        "Activation format",
        "inputs of those layers; 8 bits need weights in the same format",
        "{} activations",
        values=ACTIVATION_FORMATS,
        words={
            name: "quantised token by token, products run in it"
            for name in ACTIVATION_FORMATS
            if name not in WORKLOAD_DTYPES
        },
        empty="as the data type",
    ),
    Option(
        "kv_dtype",
        "precision",
        "Cache format",
        "of the cached keys and values",
        "{} cache",
        values=KV_FORMATS,
        empty="as the data type",
    ),
    Option(
        "tensor_parallel",
        "devices",
        "Tensor parallel",
        "devices that share every layer",
        "tensor parallel {}",
        unit="devices share every layer",
    ),
    Option(
        "pipeline_parallel",
        "devices",
        "Pipeline parallel",
        "stages of layers, each on devices of its own",
        "pipeline parallel {}",
        unit="stages of layers",
    ),
    Option(
        "expert_parallel",
        "devices",
        "Expert parallel",
        "devices, of those of tensor and data parallel, that experts are spread over",
        "expert parallel {}",
        unit="devices hold the experts together",
    ),
    Option(
        "data_parallel",
        "devices",
        "Data parallel",
        "replicas that share the batch",
        "data parallel {}",
        unit="replicas share the batch",
    ),
    Option(
        "execution",
        "conventions",
        "Execution",
        "what goes to memory between operators",
        "{} execution",
        values=_known("execution"),
        words={
            "eager": "each operator goes to memory",
            "fused": "element-wise chains ride along",
        },
        beside=True,
    ),
    Option(
        "causal",
        "conventions",
        "Causal attention",
        "pairs of tokens that count",
        "causal attention {}",
        values=_known("causal"),
        words={"full": "every pair, masked or not", "halved": "only those that the mask lets through"},
        beside=True,
    ),
    Option(
        "window",
        "conventions",
        "Sliding window",
        "for models that have one",
        "window {}",
        values=_known("window"),
        words={"executed": "limits the cache alone", "windowed": "the kernel skips what is outside"},
        empty="as the execution",
        beside=True,
    ),
    Option(
        "mla",
        "conventions",
        "Latent attention (MLA)",
        "for models that have it",
        "latent attention {}",
        values=_known("mla"),
        words={
            "executed": "expanded anew each step",
            "expanded": "keys and values are cached",
            "absorbed": "attends to the latent itself",
        },
        beside=True,
    ),
    Option(
        "experts",
        "conventions",
        "Experts",
        "whose weights a step reads, for models that have them",
        "experts {}",
        values=_known("experts"),
        words={
            "uniform": "what uniform routing hits",
            "topk": "the fewest: all tokens agree",
            "all": "all of them",
        },
        beside=True,
    ),
    Option(
        "attn_implementation",
        "conventions",
        "Attention kernel",
        "that transformers is asked for",
        "{} attention",
        values=ATTENTION,
        words={"sdpa": "one fused kernel", "eager": "products and softmax apart"},
        measured=True,
    ),
    Option(
        "logits",
        "conventions",
        "Logits",
        "positions of the prompt for which the head runs",
        "logits of {} positions",
        values=_known("logits"),
        words={"last": "as generation does", "all": "every position"},
        measured=True,
    ),
    Option(
        "images",
        "media",
        "Images",
        "in each sequence; their tokens come to the input tokens",
        "{} images",
        unit="in each sequence",
    ),
    Option(
        "audios",
        "media",
        "Audio clips",
        "in each sequence; their tokens come to the input tokens",
        "{} audio clips",
        unit="in each sequence",
    ),
    Option(
        "draft_tokens",
        "serving",
        "Draft tokens",
        "guessed before each step; 0: no speculation",
        "{} draft tokens",
        unit="guessed before each step",
    ),
    Option(
        "draft_acceptance",
        "serving",
        "Acceptance",
        "probability, 0 to 1, that a guess is right",
        "acceptance {}",
        unit="is the probability that a guess is right",
        fraction=True,
        needs="draft_tokens",
    ),
    Option(
        "draft_cost",
        "serving",
        "Cost of a guess",
        "its time as a fraction of a step",
        "guesses at {} of a step",
        unit="of the time of a step for each guess",
        empty="not counted",
        fraction=True,
        needs="draft_tokens",
    ),
    Option(
        "prefix_tokens",
        "serving",
        "Prefix tokens",
        "of the prompt that lie in the cache already",
        "{} tokens cached",
        unit="tokens of the prompt lie in the cache already",
    ),
    Option(
        "decoder_tokens",
        "serving",
        "Decoder tokens",
        "that the decoder of an encoder-decoder begins with",
        "decoder begins with {} tokens",
        unit="tokens that the decoder begins with",
    ),
)
NAMES = tuple(option.name for option in OPTIONS)


def chosen(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a workload sets to something else than they are by themselves."""
    return {o.name: workload[o.name] for o in OPTIONS if o.name in workload and not o.is_plain(workload)}


def tags(workload: Mapping[str, Any]) -> list[str]:
    """The same in a few words each, none of which breaks over two lines: "int4 weights", "tensor parallel 4"."""
    values = chosen(workload)
    return [o.tag(values[o.name]).replace(" ", "\xa0") for o in OPTIONS if o.name in values]


def devices_of(workload: Mapping[str, Any]) -> int:
    """Devices of the whole deployment; experts are spread over those that there are."""
    degrees = (workload.get(name) or 1 for name in ("tensor_parallel", "pipeline_parallel", "data_parallel"))
    count = 1
    for degree in degrees:
        count *= degree
    return count
