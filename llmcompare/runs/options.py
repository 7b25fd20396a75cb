"""Options of an estimate beyond the plain workload: one description each, for the form, the API, facts, comparisons and exports.

The engine says what there is (:class:`profiling.spec.Workload`), which values there are and what is wrong with one; here are only the
words. An option that is described here is on the form, in the API, in the facts and in shared pages: nothing else is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, said
from profiling.precision import ACTIVATION_FORMATS, GROUP_SIZES, KV_FORMATS, SCHEMES, scheme
from profiling.spec import CHOICES, WORKLOAD_DTYPES, SpecError, Workload

DEFAULTS = Workload()

#: Attention that transformers is asked for; a model that does not offer it says so in a warning.
ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class Group:
    key: str
    title: Text
    about: Text


GROUPS = (
    Group("precision", _("Precision"), _("weights, activations and cache in formats of their own")),
    Group("devices", _("Several devices"), _("the model divided over the devices of a machine or of several")),
    Group("conventions", _("Conventions"), _("what is computed and counted")),
    Group("media", _("Images and audio"), _("beside the text, for models that read them")),
    Group(
        "serving",
        _("Speculation and prefix cache"),
        _("a draft that guesses tokens, and a prompt that is partly known"),
    ),
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
    title: Text
    help: Text
    short: Text
    values: tuple[str, ...] = ()
    words: Mapping[str, Text] = field(default_factory=dict)
    empty: Text = ""
    unit: Text = ""
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
            return str(self.empty) if self.empty else gettext("not given")
        if self.values:
            meaning = self.words.get(str(value))
            return f"{value}: {meaning}" if meaning else _format_words(self, value)
        number = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
        if value == self.default:
            return number
        return str(self.unit).format(number) if self.unit else number

    def tag(self, value: Any) -> str:
        return str(self.short).format(value)

    def is_plain(self, workload: Mapping[str, Any]) -> bool:
        """Does the workload leave this option as it is by itself?"""
        value = workload.get(self.name, self.default)
        if value == self.default or (self.group == "precision" and value == workload.get("dtype")):
            return True
        return bool(self.needs) and workload.get(self.needs) == getattr(DEFAULTS, self.needs)


def _format_words(option: Option, value: Any) -> str:
    """A format of weights in the engine's words; any other value as it is."""
    try:
        return str(said(scheme(value).describe())) if option.name == "weights_dtype" else str(value)
    except SpecError:  # a document of another version
        return str(value)


def _with_bits(name: str) -> str:
    return gettext("%(format)s (%(bits)s bits a weight)") % {
        "format": name,
        "bits": f"{scheme(name).bits_per_weight():.3g}",
    }


def _format_names() -> tuple[list[str], list[str]]:
    """Formats of weights by name, and those with another size of group."""
    sized = [
        f"{name}-g{size}"
        for name, stored in SCHEMES.items()
        if stored.name != name and stored.group
        for size in GROUP_SIZES
    ]
    return list(SCHEMES), sized


def weight_formats() -> dict[str, list[tuple[str, str]]]:
    """Formats of weights with their bits, in two groups: those by name, and those with another size of group."""
    named, sized = ([(name, _with_bits(name)) for name in names] for names in _format_names())
    return {gettext("Usual"): named, gettext("By the size of a group"): sized}


def _known(name: str) -> tuple[str, ...]:
    return tuple(choice for choice in CHOICES[name] if choice is not None)


OPTIONS: tuple[Option, ...] = (
    Option(
        "weights_dtype",
        "precision",
        _("Weight format"),
        _("of linear layers and experts; the rest stays in the data type"),
        _("{} weights"),
        values=tuple(name for names in _format_names() for name in names),
        empty=_("as the data type"),
    ),
    Option(
        "activation_dtype",
        "precision",
        _("Activation format"),
        _("inputs of those layers; 8 bits need weights in the same format"),
        _("{} activations"),
        values=ACTIVATION_FORMATS,
        words={
            name: _("quantised token by token, products run in it")
            for name in ACTIVATION_FORMATS
            if name not in WORKLOAD_DTYPES
        },
        empty=_("as the data type"),
    ),
    Option(
        "kv_dtype",
        "precision",
        _("Cache format"),
        _("of the cached keys and values"),
        _("{} cache"),
        values=KV_FORMATS,
        empty=_("as the data type"),
    ),
    Option(
        "tensor_parallel",
        "devices",
        _("Tensor parallel"),
        _("devices that share every layer; measured: a process for each GPU of the host"),
        _("tensor parallel {}"),
        unit=_("{} devices share every layer"),
        measured=True,
    ),
    Option(
        "pipeline_parallel",
        "devices",
        _("Pipeline parallel"),
        _("stages of layers, each on devices of its own"),
        _("pipeline parallel {}"),
        unit=_("{} stages of layers"),
    ),
    Option(
        "expert_parallel",
        "devices",
        _("Expert parallel"),
        _("devices, of those of tensor and data parallel, that experts are spread over"),
        _("expert parallel {}"),
        unit=_("{} devices hold the experts together"),
    ),
    Option(
        "data_parallel",
        "devices",
        _("Data parallel"),
        _("replicas that share the batch"),
        _("data parallel {}"),
        unit=_("{} replicas share the batch"),
    ),
    Option(
        "execution",
        "conventions",
        _("Execution"),
        _("what goes to memory between operators"),
        _("{} execution"),
        values=_known("execution"),
        words={
            "eager": _("each operator goes to memory"),
            "fused": _("element-wise chains ride along"),
        },
        beside=True,
    ),
    Option(
        "causal",
        "conventions",
        _("Causal attention"),
        _("pairs of tokens that count"),
        _("causal attention {}"),
        values=_known("causal"),
        words={"full": _("every pair, masked or not"), "halved": _("only those that the mask lets through")},
        beside=True,
    ),
    Option(
        "window",
        "conventions",
        _("Sliding window"),
        _("for models that have one"),
        _("window {}"),
        values=_known("window"),
        words={"executed": _("limits the cache alone"), "windowed": _("the kernel skips what is outside")},
        empty=_("as the execution"),
        beside=True,
    ),
    Option(
        "mla",
        "conventions",
        _("Latent attention (MLA)"),
        _("for models that have it"),
        _("latent attention {}"),
        values=_known("mla"),
        words={
            "executed": _("expanded anew each step"),
            "expanded": _("keys and values are cached"),
            "absorbed": _("attends to the latent itself"),
        },
        beside=True,
    ),
    Option(
        "experts",
        "conventions",
        _("Experts"),
        _("whose weights a step reads, for models that have them"),
        _("experts {}"),
        values=_known("experts"),
        words={
            "uniform": _("what uniform routing hits"),
            "topk": _("the fewest: all tokens agree"),
            "all": _("all of them"),
        },
        beside=True,
    ),
    Option(
        "attn_implementation",
        "conventions",
        _("Attention kernel"),
        _("that transformers is asked for"),
        _("{} attention"),
        values=ATTENTION,
        words={"sdpa": _("one fused kernel"), "eager": _("products and softmax apart")},
        measured=True,
    ),
    Option(
        "logits",
        "conventions",
        _("Logits"),
        _("positions of the prompt for which the head runs"),
        _("logits of {} positions"),
        values=_known("logits"),
        words={"last": _("as generation does"), "all": _("every position")},
        measured=True,
    ),
    Option(
        "images",
        "media",
        _("Images"),
        _("in each sequence; their tokens come to the input tokens"),
        _("{} images"),
        unit=_("{} in each sequence"),
    ),
    Option(
        "audios",
        "media",
        _("Audio clips"),
        _("in each sequence; their tokens come to the input tokens"),
        _("{} audio clips"),
        unit=_("{} in each sequence"),
    ),
    Option(
        "draft_tokens",
        "serving",
        _("Draft tokens"),
        _("guessed before each step; 0: no speculation"),
        _("{} draft tokens"),
        unit=_("{} guessed before each step"),
    ),
    Option(
        "draft_acceptance",
        "serving",
        _("Acceptance"),
        _("probability, 0 to 1, that a guess is right"),
        _("acceptance {}"),
        unit=_("{} is the probability that a guess is right"),
        fraction=True,
        needs="draft_tokens",
    ),
    Option(
        "draft_cost",
        "serving",
        _("Cost of a guess"),
        _("its time as a fraction of a step"),
        _("guesses at {} of a step"),
        unit=_("{} of the time of a step for each guess"),
        empty=_("not counted"),
        fraction=True,
        needs="draft_tokens",
    ),
    Option(
        "prefix_tokens",
        "serving",
        _("Prefix tokens"),
        _("of the prompt that lie in the cache already"),
        _("{} tokens cached"),
        unit=_("{} tokens of the prompt lie in the cache already"),
    ),
    Option(
        "decoder_tokens",
        "serving",
        _("Decoder tokens"),
        _("that the decoder of an encoder-decoder begins with"),
        _("decoder begins with {} tokens"),
        unit=_("{} tokens that the decoder begins with"),
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
