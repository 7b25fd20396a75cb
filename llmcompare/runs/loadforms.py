"""A load of requests, as fields of the form of a new run: ``load_`` and the name of the field of :class:`profiling.load.Load`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from django import forms

from profiling.load import Load

PREFIX = "load_"
LOAD_FIELDS = tuple(PREFIX + field.name for field in fields(Load))
MODES = [
    ("", "none"),
    ("closed", "closed loop: users who wait for their answers"),
    ("poisson", "Poisson: arrivals at random, which do not wait"),
]
DISTRIBUTION = "such as uniform(64, 512), normal(200, 50, 1, 512), lognormal(200, 150, 1, 1024); empty: as above"
USUAL = Load()


def _seconds(label: str, help_text: str) -> forms.FloatField:
    return forms.FloatField(
        label=label, help_text=help_text, required=False, widget=forms.NumberInput(attrs={"step": "any"})
    )


class LoadForm(forms.Form):
    """Mix in. None of the fields must be sent; without a mode there is no load."""

    load_mode = forms.ChoiceField(
        label="Load",
        choices=MODES,
        required=False,
        help_text="requests after the iterations",
        error_messages={"invalid_choice": "Choose closed or poisson, or none."},
    )
    load_concurrency = forms.IntegerField(
        label="Users", required=False, help_text=f"of a closed loop; empty: {USUAL.concurrency}"
    )
    load_rate = _seconds("Requests per second", "of a Poisson load, on average")
    load_requests = forms.IntegerField(label="Requests", required=False, help_text=f"at most; empty: {USUAL.requests}")
    load_seconds = _seconds("Seconds", "no request arrives later; empty: no such limit")
    load_input_lengths = forms.CharField(label="Input lengths", required=False, max_length=100, help_text=DISTRIBUTION)
    load_output_lengths = forms.CharField(
        label="Output lengths", required=False, max_length=100, help_text="tokens of each answer, in the same way"
    )
    load_ttft_s = _seconds("TTFT objective", "seconds to the first token, waiting included; empty: none")
    load_tpot_s = _seconds("TPOT objective", "seconds for each token after it; empty: none")
    load_e2e_s = _seconds("End-to-end objective", "seconds to the last token; empty: none")

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
