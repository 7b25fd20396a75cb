"""How many tokens prompts have: only the model's tokenizer knows, so the web process's warm engine child is asked."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.utils.translation import gettext

from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.common.saying import said
from llmcompare.runs.models import Run
from llmcompare.runs.suitability import READ_ONLY_KINDS
from llmcompare.runs.validation import Inputs
from profiling.client import EngineError, warm_child
from profiling.lru import Lru
from profiling.prompts import Batches
from profiling.spec import digest

logger = logging.getLogger(__name__)

TIMEOUT_S = 20.0

#: The latest answers by digest of tokenizer and prompts.
answers: Lru[dict[str, Any]] = Lru(64)


def counted(inputs: Inputs) -> tuple[Inputs, dict[str, Any] | None]:
    """``inputs`` with the tokens of their prompts as input tokens, for an estimate of them; and what is said of the prompts: ``prompts``
    (how many), ``shortest``, ``longest``, ``total`` (tokens), ``batches``, ``padding`` (tokens), ``chat_template``.

    None and the same inputs where there are no prompts, or where the engine does not answer here (the worker's counts in any case).
    Raises :class:`FieldErrors` at the prompts where they are longer than the model's context, or cannot be read.
    """
    workload = inputs.workload
    at = "prompts" if workload.prompts else "prompt"
    texts = list(workload.prompts or ([workload.prompt] if workload.prompt else []))
    if not texts or inputs.kind != Run.Kind.MEASURE or inputs.model.weights != LanguageModel.Weights.LOCAL:
        return inputs, None
    if not Path(inputs.model.weights_path).exists():  # its files may lie on the worker's machine only
        return inputs, None
    try:
        answer = _ask(inputs, texts)
    except EngineError as error:
        if error.field is not None:
            raise FieldErrors(
                {at if error.field in ("prompt", "prompts") else error.field: said(error.message)}
            ) from error
        logger.warning("The tokens of the prompts were not counted before launch: %s", error)
        return inputs, None
    lengths = answer["tokens"]
    _check(inputs, lengths, at)
    batches = Batches(tuple(lengths), workload.batch_size) if workload.prompts else None
    longest = batches.shapes[batches.largest][1] if batches else max(lengths)
    facts = {
        "prompts": len(lengths),
        "shortest": min(lengths),
        "longest": max(lengths),
        "total": sum(lengths),
        "batches": len(batches.parts) if batches else 1,
        "padding": batches.padding if batches else 0,
        "chat_template": answer["chat_template"],
    }
    return replace(inputs, workload=replace(workload, input_tokens=longest)), facts


def _ask(inputs: Inputs, texts: list[str]) -> dict[str, Any]:
    model = inputs.model.to_spec()
    key = digest([model.weights_path, model.weights_digest, model.kind, texts])
    answer = answers.get(key)
    if answer is None:
        asked = {"model": model.to_json(), "prompts": texts}
        answer = answers.put(key, warm_child().request("tokens", asked, timeout_s=TIMEOUT_S))
    return answer


def _check(inputs: Inputs, lengths: list[int], at: str) -> None:
    limit, wanted = inputs.model.max_context, inputs.workload.output_tokens
    number = lengths.index(max(lengths))
    several = len(lengths) > 1
    if not min(lengths):
        text = gettext("The prompt has no tokens for this model. Write some text.")
        if several:
            text = gettext("Prompt %(number)s has no tokens for this model. Write some text.") % {
                "number": lengths.index(0) + 1
            }
        raise FieldErrors({at: text})
    apart = inputs.model.kind == "encdec"
    needed = max(lengths[number], wanted) if apart else lengths[number] + wanted
    if limit is None or needed <= limit:
        return
    which = gettext("Prompt %(number)s") % {"number": number + 1} if several else gettext("The prompt")
    if inputs.model.kind not in READ_ONLY_KINDS and not apart:
        text = gettext(
            "%(which)s has %(tokens)s tokens, and %(model)s takes %(limit)s with the %(wanted)s output tokens in it. "
            "Shorten it by %(excess)s tokens, or ask for fewer output tokens."
        )
    else:
        text = gettext(
            "%(which)s has %(tokens)s tokens, and %(model)s takes %(limit)s. "
            "Shorten it by %(excess)s tokens, or ask for fewer output tokens."
        )
    figures = {"tokens": lengths[number], "limit": limit, "wanted": wanted, "excess": needed - limit}
    words = {name: f"{value:,}" for name, value in figures.items()}
    raise FieldErrors({at: text % {"which": which, "model": inputs.model.name, **words}})
