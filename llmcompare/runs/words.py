"""Words that documents and the database keep in English, so that pages can say them in another language (``said``).

Little is read from here: the marks are for the catalogue of translations. Sentences of the engine have a catalogue of their own.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _
from django.utils.translation import pgettext

#: What limits, where a figure comes from, levels of ceilings.
FIGURES = (
    _("compute"),
    _("memory"),
    _("overhead"),
    _("network"),
    _("other"),
    _("unknown"),
    _("estimated"),
    _("measured"),
    _("measured from outside"),
    _("datasheet"),
    _("estimated, datasheet ceilings"),
    _("estimated, measured ceilings"),
    _("Runs"),
)

#: Stages and phases of a run.
STAGES = (
    _("encode"),
    _("encode_audio"),
    _("prefill"),
    _("decode"),
    _("cold"),
    _("queued"),
    _("waiting"),
    _("start"),
    _("convert"),
    _("build"),
    _("trace"),
    _("load"),
    _("connect"),
    _("requests"),
    _("profile"),
    _("tokenize"),
    _("prepare"),
    _("warmup"),
    _("iterations"),
    _("modules"),
    _("operators"),
    _("document"),
    _("estimate"),
    _("replay"),
    _("glue"),
    _("measure"),
    _("done"),
    _("cancelled"),
    _("failed"),
)

#: Verdicts of comparisons and of history.
VERDICTS = (
    _("faster"),
    _("slower"),
    _("no difference shown"),
    _("not comparable"),
    _("better"),
    _("worse"),
    _("inside"),
    _("above"),
    _("below"),
)

#: Classes of operators, and kinds of memory over time.
CLASSES = (
    _("gemm"),
    _("attention"),
    _("norm"),
    _("elementwise"),
    _("embedding"),
    _("reduction"),
    _("copy"),
    _("convolution"),
    _("rss"),
    _("allocated"),
    _("reserved"),
)

#: Which direction is the better one.
DIRECTIONS = (_("lower"), _("higher"))

#: Conventions that are formulas.
CONVENTIONS = (_("E·(1 − (1 − k/E)^tokens) experts are read per step, uniform routing; FLOPs are those of the top-k"),)

#: Keys of documents as the facts of a run have them.
FACTS = (
    _("Name"),
    _("Hf id"),
    _("Model type"),
    _("Architecture"),
    _("Kind"),
    _("Max context"),
    _("Parameters"),
    _("Digest"),
    _("Revision"),
    _("Vendor"),
    _("Memory bandwidth"),
    _("Interconnect bandwidth"),
    _("Batch size"),
    _("Input tokens"),
    _("Output tokens"),
    _("Iterations"),
    _("Seed"),
    _("Flop"),
    _("Execution"),
    _("Causal"),
    _("Window"),
    _("Experts touched"),
    _("Kv cache"),
    _("Compute"),
    _("Overhead"),
    _("Ceilings"),
    _("Weights"),
    _("Logits"),
    _("Parallelism"),
    _("Precision"),
    _("Speculation"),
    _("Prefix cache"),
    _("Media"),
    _("Version"),
    _("Packages"),
    _("Cores physical"),
    _("Cores logical"),
    _("Accelerators"),
    _("Virtualised"),
    _("Affinity"),
    _("Fingerprint"),
    _("Causal attention"),
    _("Experts"),
    _("Device"),
    _("Layers"),
    _("Attention"),
    _("Kernel"),
    _("Contended"),
    _("Steady"),
    _("Reasons"),
    _("Hooks"),
    _("Source"),
    _("Draft"),
)

#: Sentences that documents of earlier versions have.
EARLIER = (_("every operator: %(time)s µs of overhead"),)


def level_word(level: str | None) -> str:
    """What ceilings are, before that word: "datasheet" or "measured"."""
    words = {"datasheet": pgettext("ceilings", "datasheet"), "measured": pgettext("ceilings", "measured")}
    return words.get(str(level), str(level or ""))
