"""The conventions behind the numbers of a run document, in plain words. Standard library only."""

from __future__ import annotations

from profiling.parallel import Plan
from profiling.precision import KV_SCALE_BITS, KV_ZERO_BITS, QUANTISE_OPERATIONS, Precision
from profiling.quantities import say
from profiling.roofline import Ceilings
from profiling.spec import DTYPE_BYTES, Counting

_EXECUTION = {
    "eager": "each operator reads its inputs from memory and writes its outputs to memory, as PyTorch does without compilation; "
    "the cache is copied when a token is added, as transformers' dynamic cache does",
    "fused": "element-wise chains, copies and reductions ride along with the operator before them; "
    "the cache is appended to in place; a state-space scan is one kernel",
}

_CAUSAL = {
    "full": "full: every query-key pair counts, masked or not",
    "halved": "halved: of causal attention kernels, the pairs that the mask lets through count",
}

_MLA = {
    "executed": "as executed by transformers: the latent is cached and expanded again in every step",
    "expanded": "expanded: keys and values are cached, only new tokens are expanded from their latent",
    "absorbed": "absorbed: the latent is cached and attended to directly, the expansion is folded into queries and output; prefill "
    "too, for which serving engines expand",
}

_ALL_PAIRS = "does not apply: the scores of every query-key pair are computed and stored, masked or not"

_SPECULATION = "steps run over one token and its guesses, begin with equal probability at every position, and each keeps guesses up to the first wrong one. "

_EXPERTS = {
    "uniform": "E·(1 − (1 − k/E)^tokens) experts are read per step, uniform routing; FLOPs are those of the top-k",
    "topk": "top-k: all tokens of a step choose the same experts (the fewest bytes possible); FLOPs are those of the top-k",
    "all": "all: every expert is read in every step (the most bytes possible); FLOPs are those of the top-k",
}

_CEILINGS = {
    "datasheet": "the vendor's dense rates and bandwidth: an optimistic bound, real runs are slower",
    "measured": "rates measured on this host by timing kernels",
}


def _ceilings(limits: Ceilings) -> str:
    """Which rates the times stand on, kernel by kernel."""
    text = f"{limits.level}: {_CEILINGS[limits.level]}" + (f" ({limits.peak_dtype} rate)" if limits.peak_dtype else "")
    if limits.level != "measured":
        return text
    rows = ", ".join(str(count) for count, _ in limits.skinny)
    parts = [
        "large products: square product",
        f"products with few rows: timed with {rows} rows, straight lines between" if rows else "",
        "products with up to 8 rows also read at the rate of a matrix-vector product" if limits.stream else "",
        _shapes(limits),
        "attention over more than 8 queries: one attention kernel, softmax included" if limits.attention else "",
        "all other traffic: copy",
        _calls(limits) if limits.overhead_s else "",
    ]
    return f"{text}. " + "; ".join(part for part in parts if part)


def _calls(limits: Ceilings) -> str:
    us = limits.overhead_s * 1e6
    if limits.ahead:
        return f"every operator: {us:.1f} µs of the host to call it, while the device works on those before: a pass takes the longer of the two"
    return f"every operator: {us:.1f} µs of overhead, as in a model larger than the caches"


def _shapes(limits: Ceilings) -> str:
    """For which shapes of their weights products have rates of their own, and what holds beyond."""
    if limits.shapes is None:
        return ""
    few, most, short, long = limits.shapes
    low, high = (say(elements * DTYPE_BYTES[limits.dtype], "B") for elements in (few, most))
    return (
        f"both by the shape of the weights, each matrix out of memory: timed from {low} to {high} in straight lines of time, and with sums of "
        f"{short} to {long} products, in straight lines of the number of results; beyond, the rate of the nearest"
    )


def _parallelism(plan: Plan, limits: Ceilings) -> str:
    """How devices share the work, and how what they send each other is timed."""
    parts = [
        "figures of stages, operators, modules, graph and memory are those of one device (of each pipeline stage); throughput is that of all",
        f"tensor parallel over {plan.tensor}: layers by columns and rows of their weights, attention by heads, keys and values by their "
        "own heads and by at least one, embedding and LM head by vocabulary with an all-gather of the logits"
        if plan.tensor > 1
        else "",
        f"expert parallel over {plan.expert}: rows go to their experts and back in two all-to-alls, routing is uniform"
        if plan.expert > 1
        else "",
        f"pipeline parallel over {plan.pipeline}: one batch in flight, so the stages work one after the other"
        if plan.pipeline > 1
        else "",
        f"data parallel over {plan.data}: the replica with the most sequences is timed" if plan.data > 1 else "",
        "what an operator with a divided output reads is divided as well, small tables and masks too",
    ]
    if plan.communicates:
        rate = f"{limits.interconnect / 1e9:g} GB/s, half" if limits.interconnect else "half"
        parts.append(
            f"sent by ring algorithms at one direction of the interconnect ({rate} of the sum of both directions that vendors quote), "
            "not overlapped with computation; the latency of a message is unknown and not counted"
        )
    return "; ".join(part for part in parts if part)


def _weights(precision: Precision) -> str:
    """Scheme, bits, layers, and where stored weights are widened."""
    stored = precision.weights
    if stored is None:
        return f"all weights in {precision.dtype}"
    text = (
        f"{stored.describe()}, for the linear layers inside the blocks and for experts; embeddings, LM head (tied or not), norms, "
        f"biases, convolutions and routers stay in {precision.dtype}"
    )
    if precision.activations:
        return text
    how = (
        f"the whole matrix is widened to {precision.dtype} in memory before each product, of experts those that are used"
        if precision.eager
        else f"the kernel of the product widens them to {precision.dtype} in its registers, each once"
    )
    return (
        f"{text}; {how}: {'a multiplication' if stored.symmetric else 'a subtraction and a multiplication'} per weight"
    )


def _kv_cache(precision: Precision) -> str:
    name = precision.cache
    if name is None:
        return f"keys and values in {precision.dtype}; states as the model keeps them"
    scales = {
        "int8": f", a {KV_SCALE_BITS}-bit scale for each token's key and value in each head (an assumption: engines differ)",
        "int4": f", a {KV_SCALE_BITS}-bit scale and a {KV_ZERO_BITS}-bit zero point for each token's key and value in each head "
        "(an assumption: engines differ)",
        "fp8": ", one scale for a layer",
    }.get(name, "")
    how = (
        f"what attention reads is widened to {precision.dtype} in memory first"
        if precision.eager
        else f"the attention kernel widens them to {precision.dtype} in its registers"
    )
    return f"keys and values in {name}{scales}; {how}; states of convolutions and recurrences stay as they are"


def _compute(precision: Precision, limits: Ceilings) -> str:
    """The formats in which products run, and at the rates of which formats they are timed."""

    def at(name: str, rate: str | None) -> str:
        return name if rate in (name, None) else f"{name} (timed at the {rate} rate)"

    everything = at(precision.dtype, limits.peak_dtype)
    if not precision.activations:
        return f"all products in {everything}"
    low = at(precision.activations, limits.quantised.peak_dtype if limits.quantised else None)
    made = "a kernel of its own" if precision.eager else "the operator before it"
    return (
        f"products of quantised layers in {low}, their inputs quantised token by token by {made} ({QUANTISE_OPERATIONS} operations a value) "
        f"and their outputs rescaled to {precision.dtype}; attention and all other products in {everything}"
    )


def _window(counting: Counting, attention: str) -> str:
    if attention != "sdpa":
        return _ALL_PAIRS + "; a sliding window limits the cache and so decode"
    if counting.windowed:
        return "windowed kernel: each query visits at most as many keys as its window or chunk holds"
    return "as executed: a sliding window limits the cache and so decode; prefill computes all pairs"


def _prefix(tokens: int) -> str:
    return (
        f"{tokens:,} tokens of the prompt lie in the cache already, found without a cost: prefill, the time to first token and the "
        "prefill throughput are those of the new tokens; memory holds all"
    )


def conventions(
    *,
    logits: str,
    counting: Counting,
    limits: Ceilings,
    attention: str,
    plan: Plan | None = None,
    precision: Precision | None = None,
    latent: bool = True,
    prefix_tokens: int = 0,
    front_ends: str | None = None,
    speculation: str | None = None,
) -> dict[str, str]:
    """Name → value in plain words, for the ``conventions`` object of the run document. ``plan``: of several devices.

    ``latent``: whether the model has latent attention. ``front_ends``: what was counted of images and audio clips.
    ``speculation``: what decoding with a draft was counted as.
    """
    formats = precision or Precision(limits.dtype, eager=counting.execution == "eager")
    return {
        "flop": "a multiply-add is 2 FLOPs; flops are those of matrix products and convolutions, the rest is elementwise_flops",
        "logits": "the LM head runs on the last position of the prompt"
        if logits == "last"
        else "the LM head runs on every position of the prompt",
        "causal_attention": _CAUSAL[counting.causal] if attention == "sdpa" else _ALL_PAIRS,
        "window": _window(counting, attention),
        "mla": _MLA[counting.mla] if latent else "does not apply: this model has no latent attention",
        "experts_touched": _EXPERTS[counting.experts],
        "execution": f"{counting.execution}: {_EXECUTION[counting.execution]}",
        "attention": f"{attention}: "
        + (
            "one kernel that moves Q, K, V and the output once"
            if attention == "sdpa"
            else "scores and probabilities are written to memory between the operators"
        ),
        "weights": _weights(formats),
        "kv_cache": _kv_cache(formats),
        "compute": _compute(formats, limits),
        "ceilings": _ceilings(limits),
        **({"prefix_cache": _prefix(prefix_tokens)} if prefix_tokens else {}),
        **({"front_ends": front_ends} if front_ends else {}),
        **({"speculation": _SPECULATION + speculation} if speculation else {}),
        **({"parallelism": _parallelism(plan, limits)} if plan is not None and not plan.single else {}),
    }
