"""What is sent: the user's prompt, made unique, or words at random of roughly a token each. Standard library only."""

from __future__ import annotations

import random

from profiling.load import Load, planned
from profiling.spec import Workload

_WORDS = (
    *(
        "river",
        "stone",
        "amber",
        "cloud",
        "violin",
        "harbor",
        "winter",
        "copper",
        "meadow",
        "signal",
        "lantern",
        "orbit",
        "pepper",
    ),
    *(
        "canvas",
        "thunder",
        "valley",
        "marble",
        "anchor",
        "willow",
        "summit",
        "ribbon",
        "desert",
        "mirror",
        "garden",
        "falcon",
        "island",
    ),
    *(
        "candle",
        "forest",
        "bridge",
        "silver",
        "ocean",
        "puzzle",
        "rocket",
        "saddle",
        "timber",
        "velvet",
        "walnut",
        "zephyr",
    ),
)
#: Words at the beginning of a prompt of random words that no other run has: more than a server's cache takes for the same.
OWN_WORDS = 8


def prompts(
    workload: Workload, load: Load, *, unique: bool = True, first: int = 0, run: str = ""
) -> list[tuple[str, int]]:
    """Prompt and most output tokens of each request of ``load``. ``unique``: each begins differently, so that no cache of prefixes answers
    for the model. ``first``: number of the first request, so that a later load repeats no prompt of an earlier one. ``run``: what no other
    run has, so that a run with the same seed is not answered from what the server remembers of this one; only the beginnings differ."""
    asked = planned(load, input_tokens=workload.input_tokens, output_tokens=workload.output_tokens, seed=workload.seed)
    found = []
    for one in asked:
        name = f"{workload.seed} prompt {first + one.index}" if unique else f"{workload.seed} prompt"
        chance, own = random.Random(name), random.Random(f"{run} {name}")
        if workload.prompt is not None:
            text = f"[{own.getrandbits(48):012x}] {workload.prompt}" if unique else workload.prompt
        else:
            words = [chance.choice(_WORDS) for _ in range(one.input_tokens)]
            if unique:
                words[:OWN_WORDS] = [own.choice(_WORDS) for _ in words[:OWN_WORDS]]
            text = " ".join(words)
        found.append((text, one.output_tokens))
    return found
