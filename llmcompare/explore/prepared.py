"""Forms and evaluators in the memory of this process: reading and preparing the form of a large model takes up to a second, once.

Both caches are bounded; ``benchmarks/explore.py`` prints what they hold. Nothing here imports torch.
"""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import replace

from llmcompare.explore.models import StoredForm
from profiling.forms.evaluate import Evaluator
from profiling.forms.terms import ModelForm, NoForm, from_json
from profiling.lru import Lru
from profiling.spec import Workload

#: Forms, and evaluators (a form under formats and conventions) that are kept ready; together they take some MB each.
FORMS, EVALUATORS = 16, 32

_forms: Lru[ModelForm] = Lru(FORMS)
_evaluators: Lru[Evaluator] = Lru(EVALUATORS)
#: One preparation at a time: two requests for the same large form would otherwise both do the work, and fight over the interpreter.
_lock = threading.Lock()


def evaluator_of(row: StoredForm, workload: Workload) -> Evaluator | None:
    """The form of ``row`` under the options of ``workload``, on no device yet (see ``Evaluator.on``); ``None`` when what is stored cannot
    be read here. Raises :class:`profiling.spec.SpecError` for options that do not go together."""
    stamp = (row.pk, row.finished)
    # Batch and lengths are what an evaluator is asked, no part of it.
    options = replace(workload, batch_size=max(1, workload.data_parallel), input_tokens=1, output_tokens=0)
    found = _evaluators.get((stamp, options))
    if found is not None:
        return found
    with _lock:
        found = _evaluators.get((stamp, options))
        if found is None:
            form = _form(row, stamp)
            if form is None:
                return None
            found = _evaluators.put((stamp, options), Evaluator(form, options, [], []))
        return found


def _form(row: StoredForm, stamp: tuple) -> ModelForm | None:
    form = _forms.get(stamp)
    if form is not None:
        return form
    data = StoredForm.objects.filter(pk=row.pk, finished=row.finished).values_list("data", flat=True).first()
    if data is None:
        return None
    try:
        return _forms.put(stamp, from_json(json.loads(zlib.decompress(bytes(data)))))
    except (NoForm, ValueError, KeyError, TypeError, IndexError, AttributeError, zlib.error):
        return None  # damaged, or of another version


def clear() -> None:
    """Forget everything (tests)."""
    _forms.clear()
    _evaluators.clear()
