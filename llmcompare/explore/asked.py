"""What an address asks: models, places, workload, factors and charts, each parameter checked, every problem said at its field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.http import Http404, QueryDict
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from hardware.models import Hardware, Host
from llmcompare.accounts.models import User
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.forms import BootstrapForm
from llmcompare.common.saying import Text, said
from llmcompare.explore.grid import MOST_CHARACTERS, axis, check_cells
from llmcompare.runs.forms import HOST_PREFIX
from llmcompare.runs.optionforms import OptionsForm
from profiling.parallel import Plan
from profiling.spec import WORKLOAD_DTYPES, SpecError, Workload

MOST_MODELS, MOST_PLACES, MOST_SERIES = 4, 6, 12
LOWEST_FACTOR, HIGHEST_FACTOR = 0.01, 100.0
DEFAULT_BATCHES, DEFAULT_LENGTHS = "1..256*2", "128..32768*2"

#: Column of an answer → what it is called in lists of charts.
HEAT_METRICS = {
    "e2e_s": _("End-to-end latency"),
    "ttft_s": _("Time to first token"),
    "tpot_s": _("Time per output token"),
    "output_tokens_per_s": _("Output throughput"),
    "decode_tokens_per_s": _("Decode throughput"),
    "prefill_tokens_per_s": _("Prefill throughput"),
    "total_bytes": _("Memory of one device"),
    "bound": _("What limits"),
}
CURVE_METRICS = {name: title for name, title in HEAT_METRICS.items() if name != "bound"}
LENGTHS = {"input_tokens": _("Input tokens"), "output_tokens": _("Output tokens")}
ALONG = {"batch_size": _("Batch size"), **LENGTHS}
FACTORS = ("x_bandwidth", "x_flops", "x_memory")


def _choice(label: Text, choices: Mapping[str, Text], initial: str) -> forms.ChoiceField:
    return forms.ChoiceField(
        label=label,
        choices=list(choices.items()),
        initial=initial,
        required=False,
        error_messages={"invalid_choice": _("%(value)s cannot be chosen here. Choose one of the list.")},
    )


def _factor(label: Text, about: Text) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        help_text=about,
        initial=1,
        required=False,
        min_value=LOWEST_FACTOR,
        max_value=HIGHEST_FACTOR,
        widget=forms.NumberInput(attrs={"step": "any"}),
    )


class ExploreForm(BootstrapForm, OptionsForm):
    """Every control of the page but models and places, which may occur several times. All are optional."""

    batch_size = forms.IntegerField(label=_("Batch size"), initial=1, required=False)
    input_tokens = forms.IntegerField(label=_("Input tokens"), initial=1024, required=False)
    output_tokens = forms.IntegerField(label=_("Output tokens"), initial=256, required=False)
    dtype = _choice(_("Data type"), {name: name for name in WORKLOAD_DTYPES}, "bf16")
    x_bandwidth = _factor(_("× bandwidth"), _("of the memory"))
    x_flops = _factor(_("× FLOP/s"), _("of every format"))
    x_memory = _factor(_("× memory"), _("capacity"))
    heat = _choice(_("Shows"), HEAT_METRICS, "e2e_s")
    heat_along = _choice(_("Length"), LENGTHS, "input_tokens")
    heat_of = forms.IntegerField(label=_("Of"), initial=0, required=False, min_value=0, max_value=MOST_SERIES - 1)
    batches = forms.CharField(label=_("Batches"), initial=DEFAULT_BATCHES, required=False, max_length=MOST_CHARACTERS)
    lengths = forms.CharField(label=_("Lengths"), initial=DEFAULT_LENGTHS, required=False, max_length=MOST_CHARACTERS)
    curve = _choice(_("Metric"), CURVE_METRICS, "output_tokens_per_s")
    along = _choice(_("Along"), ALONG, "batch_size")

    def __init__(self, query: QueryDict) -> None:
        # An address says only what differs; the fields are shown filled in all the same.
        given = {name: str(value) for name, value in query.items() if str(value).strip()}
        super().__init__(data=None)
        filled = {name: f.initial for name, f in self.fields.items() if f.initial is not None}
        self.is_bound, self.data = True, filled | {name: given[name] for name in self.fields if name in given}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in ("batches", "lengths"):
            try:
                cleaned[name] = axis(name, cleaned.get(name) or "")
            except SpecError as error:
                if name not in self.errors:
                    self.add_error(name, said(str(error)))
        if isinstance(cleaned.get("batches"), list) and isinstance(cleaned.get("lengths"), list):
            try:
                check_cells(cleaned["batches"], cleaned["lengths"])
            except SpecError as error:
                self.add_error(error.field, said(str(error)))
        if not self.errors:
            self._check_workload()
        return cleaned

    def _check_workload(self) -> None:
        """What is wrong with the workload whatever the model, at its field."""
        try:
            workload = Workload(**self.workload())
            workload.check()
            Plan.of(workload)
        except SpecError as error:
            self.add_error(error.field if error.field in self.fields else None, said(str(error)))

    def workload(self) -> dict[str, Any]:
        """Fields of a workload. Only after validation."""
        plain = ("batch_size", "input_tokens", "output_tokens", "dtype")
        return {name: self.cleaned_data[name] for name in plain} | self.option_values(measured=False)


@dataclass(frozen=True)
class Place:
    """Where to estimate: a device, or a host with the rates measured on it. ``key``: as the address has it."""

    key: str
    hardware: Hardware | None
    host: Host | None
    price: float | None = None
    power: float | None = None

    @property
    def name(self) -> str:
        return f"{self.host.name} ({self.hardware})" if self.host else str(self.hardware)


@dataclass
class Question:
    """An address, understood. ``errors``: field → sentence; with some, there is no answer."""

    form: ExploreForm
    models: list[LanguageModel]
    places: list[Place]
    errors: dict[str, str] = field(default_factory=dict)
    given: QueryDict = field(default_factory=QueryDict)

    @property
    def values(self) -> dict[str, Any]:
        return self.form.cleaned_data

    @property
    def factors(self) -> dict[str, float]:
        """Arguments of :func:`profiling.scaling.scaled`."""
        return {name.removeprefix("x_"): float(self.values.get(name) or 1.0) for name in FACTORS}

    @property
    def is_scaled(self) -> bool:
        return any(factor != 1 for factor in self.factors.values())


def read(query: QueryDict, user: User) -> Question:
    """The question of an address. What the user may not see is a 404."""
    form = ExploreForm(query)
    errors: dict[str, str] = {}
    models = _models(_several(query, "model"), user)
    keys = _several(query, "hardware")
    if len(models) > MOST_MODELS:
        errors["model"] = gettext("%(count)s models are chosen: at most %(most_models)s are shown together.") % {
            "count": len(models),
            "most_models": MOST_MODELS,
        }
    if len(keys) > MOST_PLACES:
        errors["hardware"] = gettext("%(count)s devices are chosen: at most %(most_places)s are shown together.") % {
            "count": len(keys),
            "most_places": MOST_PLACES,
        }
    elif len(keys) * len(models) > MOST_SERIES:
        errors["hardware"] = gettext(
            "%(count)s models on %(count2)s devices are too many lines: at most %(most_series)s."
        ) % {"count": len(models), "count2": len(keys), "most_series": MOST_SERIES}
    places = _places(keys[: MOST_PLACES + 1], user, query, errors)
    form.is_valid()
    errors |= {name: str(messages[0]) for name, messages in form.errors.items()}
    if not errors and not query.get("lengths", "").strip():
        _shorten_axis(form.cleaned_data, models)
    return Question(form, models, places, errors, query)


def _shorten_axis(values: dict[str, Any], models: list[LanguageModel]) -> None:
    """Lengths that nobody asked for end where the longest context of the models does."""
    limits = [model.max_context for model in models]
    if not limits or None in limits:
        return
    along = values["heat_along"] or "input_tokens"
    others = sum(values[name] for name in LENGTHS if name != along)
    room = max(limit for limit in limits if limit is not None) - others
    values["lengths"] = [length for length in values["lengths"] if length <= room] or values["lengths"][:1]


def _several(query: QueryDict, name: str) -> list[str]:
    # PostgreSQL takes no NUL, not even to look for it.
    texts = (value.replace("\x00", "") for value in query.getlist(name))
    return list(dict.fromkeys(text for text in texts if text))[:50]


def _models(slugs: list[str], user: User) -> list[LanguageModel]:
    found = {row.slug: row for row in LanguageModel.objects.visible_to(user).defer("facts").filter(slug__in=slugs)}
    if len(found) < len(slugs):
        raise Http404(gettext("There is no such model, or it is not shared with you."))
    return [found[slug] for slug in slugs]


def _places(keys: list[str], user: User, query: QueryDict, errors: dict[str, str]) -> list[Place]:
    hosts = {
        HOST_PREFIX + row.slug: row
        for row in Host.objects.select_related("hardware").filter(
            slug__in=[key.removeprefix(HOST_PREFIX) for key in keys if key.startswith(HOST_PREFIX)]
        )
    }
    plain = [key for key in keys if not key.startswith(HOST_PREFIX)]
    devices = {row.slug: row for row in Hardware.objects.visible_to(user).filter(slug__in=plain)}
    found = []
    for key in keys:
        host = hosts.get(key)
        hardware = host.hardware if host else devices.get(key)
        if hardware is None:
            raise Http404(gettext("There is no such hardware, or it is not shared with you."))
        price, power = (_amount(query, f"{name}.{key}", errors) for name in ("price", "power"))
        found.append(Place(key, hardware, host, price, power))
    return found


def _amount(query: QueryDict, name: str, errors: dict[str, str]) -> float | None:
    """A price or a power that somebody entered; None: unknown."""
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        return forms.FloatField(min_value=0, max_value=1e9).clean(text)
    except forms.ValidationError:
        errors[name] = gettext("Enter a number from 0 to 1,000,000,000, or leave it empty.")
        return None
