"""Images and audio clips of a workload: the passes that encode them, and the prompt that they lengthen.

A front end (:mod:`profiling.front_ends`) encodes all images of a batch in one pass before the prefill. What it makes of them takes the
place of as many tokens of the prompt, so prefill and cache are those of a longer prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from profiling.build import Built
from profiling.front_ends import beside_prompt, front_ends
from profiling.passes import Pass, Trace
from profiling.spec import SpecError, Workload

#: Front end → the field of a workload that counts what it encodes, and its name in words.
FIELDS = {"image": ("images", "image"), "audio": ("audios", "audio clip")}


def encode_passes(built: Built, workload: Workload, batch: int) -> dict[str, Pass]:
    """Stage → the pass that encodes what ``batch`` sequences have: ``encode``, and ``encode_audio`` for audio beside images.

    Raises :class:`SpecError` at the field of what the model does not take.
    """
    found: dict[str, Pass] = {}
    for kind, (field, word) in FIELDS.items():
        count = getattr(workload, field)
        if not count:
            continue
        if kind not in front_ends(built.module):
            raise SpecError(field, f"{built.architecture} has no front end for {word}s: leave it at 0.")
        if beside_prompt(built.module, kind):
            raise SpecError(
                field,
                f"{built.architecture} attends to {word}s from layers of its own instead of taking them into the prompt: estimates "
                "do not cover that, leave it at 0.",
            )
        found["encode" if not found else f"encode_{kind}"] = Pass("encode", batch, count, front_end=kind)
    return found


def joined_tokens(stages: Mapping[str, Trace]) -> int:
    """Tokens that images and audio clips take in the prompt of one sequence. ``stages``: the passes of the workload."""
    return sum(t.spec.tokens * (t.sequence_length or 0) for t in stages.values() if t.spec.front_end)


def whole_prompt(workload: Workload, stages: Mapping[str, Trace]) -> Workload:
    """``workload`` with an input as long as the prompt of the language model: text, images and audio clips."""
    return replace(workload, input_tokens=workload.input_tokens + joined_tokens(stages))


def in_order(stages: Mapping[str, Trace]) -> dict[str, Trace]:
    """The passes in the order in which they run: front ends first."""
    return dict(sorted(stages.items(), key=lambda pair: not pair[1].spec.front_end))


def front_end_note(workload: Workload, stages: Mapping[str, Trace]) -> str | None:
    """What images and audio clips are and what is counted of them, for the conventions of a document; None where there are none."""
    encoded = [t for t in in_order(stages).values() if t.spec.front_end]
    if not encoded:
        return None
    sizes = " and ".join(
        f"1 {FIELDS[t.spec.front_end][1]} of {t.takes} takes {t.sequence_length or 0:,} tokens" for t in encoded
    )
    return (
        f"{sizes}; with {workload.input_tokens:,} tokens of text (marks where they begin and end included) the prompt of "
        f"a sequence has {whole_prompt(workload, stages).input_tokens:,}; all of a batch are encoded in one pass before the prefill, "
        f"in {workload.dtype} and whole on each device; putting them into the prompt is not counted"
    )
