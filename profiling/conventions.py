"""The conventions behind the numbers of a run document, in plain words. Standard library only."""

from __future__ import annotations

_EXECUTION = {
    "eager": "each operator reads its inputs from memory and writes its outputs to memory, as PyTorch does without compilation; "
    "the cache is copied when a token is added, as transformers' dynamic cache does",
    "fused": "element-wise chains, copies and reductions ride along with the operator before them; "
    "the cache is appended to in place; attention skips what its window masks; a state-space scan is one kernel",
}

_CEILINGS = {
    "datasheet": "the vendor's dense rates and bandwidth: an optimistic bound, real runs are slower",
    "measured": "rates measured on this host by timing kernels",
}


def conventions(*, logits: str, execution: str, level: str, peak_dtype: str | None, attention: str) -> dict[str, str]:
    """Name → value in plain words, for the ``conventions`` object of the run document."""
    return {
        "flop": "a multiply-add is 2 FLOPs; flops are those of matrix products and convolutions, the rest is elementwise_flops",
        "logits": "the LM head runs on the last position of the prompt"
        if logits == "last"
        else "the LM head runs on every position of the prompt",
        "causal_attention": "full: every query-key pair counts, masked or not",
        "window": "as executed: a sliding window limits the cache and so decode; prefill computes all pairs"
        if execution == "eager"
        else "windowed kernel: each query visits at most as many keys as its window holds",
        "mla": "as executed by transformers: the latent is cached and expanded again in every step",
        "experts_touched": "E·(1 − (1 − k/E)^tokens) experts are read per step, uniform routing; FLOPs are those of the top-k",
        "execution": f"{execution}: {_EXECUTION[execution]}",
        "attention": f"{attention}: "
        + (
            "one kernel that moves Q, K, V and the output once"
            if attention == "sdpa"
            else "scores and probabilities are written to memory between the operators"
        ),
        "ceilings": f"{level}: {_CEILINGS[level]}" + (f" ({peak_dtype} rate)" if peak_dtype else ""),
    }
