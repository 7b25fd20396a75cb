"""One line of an answer: a model at a place. Which stored form it needs, and what that form says at any points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.utils.translation import gettext

from hardware.services import host_spec
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.explore import making
from llmcompare.explore.asked import Place, Question
from llmcompare.explore.models import StoredForm
from llmcompare.explore.prepared import evaluator_of
from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS, devices_of
from llmcompare.runs.suitability import READ_ONLY_KINDS, either
from llmcompare.runs.validation import check_inputs
from profiling.forms.evaluate import COLUMNS, Evaluator
from profiling.forms.keys import versions
from profiling.forms.terms import NoForm
from profiling.forms.timing import PARTS
from profiling.scaling import scaled
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload, digest
from profiling.what_if import UNHELD, Device, Point, as_points, evaluate, notes_of, small_products
from profiling.workspace import kernel_threads

State = StoredForm.State


@dataclass
class Series:
    """``state``: ``ready``, ``missing`` (nobody has asked for its form, or making it failed), ``making``, ``none`` (the model has no closed
    form so), ``unheld`` (an option that no form holds) or ``refused``. ``problem``: why there is no answer; ``wrong``: at which field."""

    index: int
    model: LanguageModel
    place: Place
    state: str = "missing"
    problem: str = ""
    wrong: dict[str, str] = field(default_factory=dict)
    spec: HardwareSpec | None = None
    model_spec: ModelSpec | None = None
    workload: Workload | None = None
    threads: int | None = None
    form: StoredForm | None = None
    evaluator: Evaluator | None = None
    device: Device | None = None

    @property
    def label(self) -> str:
        name = self.spec.name if self.spec and not self.place.host else self.place.name
        return gettext("%(model)s on %(place)s") % {"model": self.model.name, "place": name}

    @property
    def devices(self) -> int:
        return devices_of(self.workload.to_json()) if self.workload else 1

    @property
    def level(self) -> str:
        return self.device.limits.level if self.device else ""

    @property
    def reads_only(self) -> bool:
        return self.model.kind in READ_ONLY_KINDS

    @property
    def stale(self) -> dict[str, tuple[str, str]]:
        """Libraries of other versions than here that the form was made with: name → (made with, here). Empty where this process has none."""
        made, here = self.form.made_with if self.form else {}, versions()
        pairs = {name: (_plain(made.get(name)), _plain(here.get(name))) for name in making.LIBRARIES}
        return {name: (a, b) for name, (a, b) in pairs.items() if a and b and a != b}

    def notes(self) -> list[str]:
        """What to keep in mind about its figures."""
        if self.device is None or self.evaluator is None or self.workload is None or self.model_spec is None:
            return []
        w = self.workload
        found = [
            *self.device.notes,
            *small_products(self.evaluator, self.device, (w.batch_size, w.input_tokens, w.output_tokens)),
            *notes_of(self.model_spec, w, self.evaluator.facts),
        ]
        for name, (made, here) in self.stale.items():
            found.append(
                gettext(
                    "The closed form was made with %(name)s %(made)s; this server has %(here)s. Make it again to be sure."
                )
                % {"name": name, "made": made, "here": here}
            )
        if self.model.kind in READ_ONLY_KINDS:
            found.append(gettext("This model generates no tokens: output tokens are 0."))
        return found

    def at(self, points: Sequence[Point]) -> tuple[dict[str, np.ndarray], list[str | None]]:
        """Columns at every point, and why one has none. Without an answer all are unknown."""
        if self.evaluator is None or self.workload is None:
            nothing = {name: np.full(len(points), np.nan) for name in COLUMNS}
            return nothing, [self.problem or gettext("no closed form yet")] * len(points)
        if self.reads_only:
            points = [(batch, tokens, 0) for batch, tokens, _ in points]
        return evaluate(self.evaluator, self.evaluator.facts, self.workload, points)

    def stages(self) -> dict[str, dict[str, float | None]]:
        """Seconds of each stage at the asked point by what limits them; empty without an answer there."""
        if self.evaluator is None or self.workload is None:
            return {}
        w = self.workload
        try:
            found = self.evaluator.by_stage(as_points([(w.batch_size, w.input_tokens, w.output_tokens)]))
        except NoForm:
            return {}
        return {
            name: {
                part: None if np.isnan(value) else float(value)
                for part, value in zip(PARTS, seconds[:, 0], strict=True)
            }
            for name, seconds in found.items()
        }


def _plain(version: Any) -> str:
    """Without what follows a plus: builds for other devices trace alike."""
    return str(version or "").split("+")[0]


def series_of(question: Question) -> list[Series]:
    """A series for every model at every place, each with its form where that is stored. One query for all forms."""
    pairs = [(model, place) for model in question.models for place in question.places]
    found = [Series(index, model, place) for index, (model, place) in enumerate(pairs)]
    specs = {model.pk: model.to_spec() for model in question.models}
    wanted: dict[tuple[Any, ...], str] = {}
    for item in found:
        item.model_spec = specs[item.model.pk]
        _check(item, question)
        if item.state == "missing" and item.workload is not None:
            key = (item.model.pk, item.threads)
            if key not in wanted:
                wanted[key] = digest(making.stored_key(item.model_spec, item.workload, item.threads))
    rows = StoredForm.objects.defer("data", "request").filter(digest__in=wanted.values())
    forms = {row.digest: row for row in rows}
    for item in found:
        row = forms.get(wanted.get((item.model.pk, item.threads), "")) if item.state == "missing" else None
        if row is not None:
            _take(item, row)
    return found


def _check(item: Series, question: Question) -> None:
    """Fill in what the engine would be asked, or say what is wrong with it."""
    try:
        inputs = check_inputs(
            kind=Run.Kind.ESTIMATE,
            model=item.model,
            hardware=item.place.hardware,
            host=item.place.host,
            workload=question.form.workload(),
        )
    except FieldErrors as error:
        item.state, item.problem, item.wrong = "refused", " ".join(error.errors.values()), error.errors
        return
    item.workload = inputs.workload
    plain = host_spec(item.place.host) if item.place.host else item.place.hardware.to_spec()  # type: ignore[union-attr]
    item.spec = scaled(plain, **question.factors)
    item.threads = kernel_threads(item.spec.kind, item.workload.threads)
    unheld = [
        option.title.lower() for option in OPTIONS if option.name in UNHELD and getattr(item.workload, option.name)
    ]
    if unheld:
        item.state = "unheld"
        item.problem = gettext(
            "No closed form holds %(options)s: what they add is traced for each estimate. Run it instead."
        ) % {"options": either(unheld)}


def _take(item: Series, row: StoredForm) -> None:
    item.form = row
    if row.state == State.NONE:
        item.state = "none"
        item.problem = gettext(
            "This model has no closed form under these options (%(reason)s). Run an estimate instead."
        ) % {"reason": row.reason.rstrip(".")}
    elif row.is_active:
        item.state = "making"
    elif row.state != State.READY:
        item.problem = (
            gettext("Cancelled.")
            if row.state == State.CANCELLED
            else gettext("Making the closed form failed: %(reason)s") % {"reason": row.reason}
        )
    else:
        _prepare(item, row)


def _prepare(item: Series, row: StoredForm) -> None:
    if item.workload is None or item.spec is None:
        return
    try:
        prepared = evaluator_of(row, item.workload)
        if prepared is None:
            item.problem = gettext("The stored closed form cannot be read: make it again.")
            return
        item.device = Device.of(item.spec, item.workload)
    except SpecError as error:
        item.state, item.problem, item.wrong = "refused", str(error), {error.field: str(error)}
        return
    item.evaluator = prepared.on([item.device.limits], [item.device.capacity])
    item.state = "ready"
    making.note_use(row)
