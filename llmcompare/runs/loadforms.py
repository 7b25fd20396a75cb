"""A load of requests, as fields of the form of a new run: ``load_`` and the name of the field of :class:`profiling.load.Load`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text
from profiling.load import Load

PREFIX = "load_"
LOAD_FIELDS = tuple(PREFIX + field.name for field in fields(Load))
MODES = [
    ("", _("none")),
    ("closed", _("closed loop: users who wait for their answers")),
    ("poisson", _("Poisson: arrivals at random, which do not wait")),
    ("constant", _("Constant: arrivals at equal distances, which do not wait")),
]
DISTRIBUTION = _("such as uniform(64, 512), normal(200, 50, 1, 512), lognormal(200, 150, 1, 1024); empty: as above")
USUAL = Load()


def _seconds(label: Text, help_text: Text) -> forms.FloatField:
    return forms.FloatField(
        label=label, help_text=help_text, required=False, widget=forms.NumberInput(attrs={"step": "any"})
    )


class LoadForm(forms.Form):
    """Mix in. None of the fields must be sent; without a mode there is no load."""

    load_mode = forms.ChoiceField(
        label=_("Load"),
        choices=MODES,
        required=False,
        help_text=_("requests after the iterations"),
        error_messages={"invalid_choice": _("Choose closed, poisson or constant, or none.")},
    )
    load_concurrency = forms.IntegerField(
        label=_("Users"),
        required=False,
        help_text=format_lazy(_("of a closed loop; empty: {value}"), value=USUAL.concurrency),
    )
    load_rate = _seconds(_("Requests per second"), _("of a Poisson load on average, or of a constant one"))
    load_requests = forms.IntegerField(
        label=_("Requests"), required=False, help_text=format_lazy(_("at most; empty: {value}"), value=USUAL.requests)
    )
    load_seconds = _seconds(_("Seconds"), _("no request arrives later; empty: no such limit"))
    load_input_lengths = forms.CharField(
        label=_("Input lengths"), required=False, max_length=100, help_text=DISTRIBUTION
    )
    load_output_lengths = forms.CharField(
        label=_("Output lengths"), required=False, max_length=100, help_text=_("tokens of each answer, in the same way")
    )
    load_ttft_s = _seconds(_("TTFT objective"), _("seconds to the first token, waiting included; empty: none"))
    load_tpot_s = _seconds(_("TPOT objective"), _("seconds for each token after it; empty: none"))
    load_e2e_s = _seconds(_("End-to-end objective"), _("seconds to the last token; empty: none"))

    def load_values(self) -> dict[str, Any]:
        """What was filled in, by the names of the form. Only after validation."""
        return {name: value for name in LOAD_FIELDS if (value := self.cleaned_data.get(name)) not in (None, "")}

    def load_groups(self) -> list[forms.BoundField]:
        return [self[name] for name in LOAD_FIELDS]

    def load_is_open(self) -> bool:
        """Whether the page shows the fields: one has a value, or is wrong."""
        return any(self[name].value() not in (None, "") or self[name].errors for name in LOAD_FIELDS)


def load_settings(load: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of the form for the load of a run, to ask for the same again."""
    return {PREFIX + name: value for name, value in (load or {}).items() if value not in (None, "")}
