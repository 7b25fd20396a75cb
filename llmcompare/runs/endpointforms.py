"""A run of an endpoint, as fields of the form of a new run. Lengths and objectives are those of the form's load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.endpointinputs import MODES, SINGLE, SWEEP, mode_of
from profiling.remote.levels import GAIN

#: What the form posts of a run of an endpoint, beside what other kinds have too.
ENDPOINT_FIELDS = ("endpoint", "send", "load_levels", "load_gain", "same_prompt", "profile")
SEND = [
    (SINGLE, gettext_lazy("One request")),
    ("closed", gettext_lazy("Closed loop: users who wait for their answers")),
    ("poisson", gettext_lazy("Poisson: arrivals at random, which do not wait")),
    ("constant", gettext_lazy("Constant: arrivals at equal distances, which do not wait")),
    (SWEEP, gettext_lazy("Sweep: more and more users, until throughput grows no further")),
]
#: Fields of a workload that a run of an endpoint has.
WORKLOAD = ("input_tokens", "output_tokens", "warmup")


class EndpointForm(forms.Form):
    """Mix in. ``self.endpoints``: those that the user sees, by their public id."""

    endpoint = forms.ChoiceField(
        label=gettext_lazy("Endpoint"),
        required=False,
        error_messages={"invalid_choice": gettext_lazy("Choose an endpoint from the list.")},
    )
    send = forms.ChoiceField(
        label=gettext_lazy("Requests"),
        choices=SEND,
        required=False,
        initial=SINGLE,
        error_messages={"invalid_choice": gettext_lazy("Choose how requests are sent.")},
    )
    load_levels = forms.CharField(
        label=gettext_lazy("Levels of users"),
        required=False,
        max_length=100,
        help_text=gettext_lazy("of a sweep: 1, 2, 4, 8 or 1..64 for doublings; empty: 1..16"),
    )
    load_gain = forms.FloatField(
        label=gettext_lazy("Least gain"),
        required=False,
        help_text=gettext_lazy("share of throughput that a level of a sweep must gain, or it is the last; empty: 0.1"),
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    same_prompt = forms.BooleanField(
        label=gettext_lazy("Send the same prompt every time"),
        required=False,
        help_text=gettext_lazy("so that the server's cache of prefixes may answer; otherwise each begins differently"),
    )
    profile = forms.BooleanField(
        label=gettext_lazy("Ask for the profile of the layers"),
        required=False,
        help_text=gettext_lazy(
            "one request more, after the others, to a server of ours (python -m serving); other servers refuse or ignore it"
        ),
    )

    def fill_endpoints(self, user: Any) -> None:
        rows = Endpoint.objects.visible_to(user).select_related("hardware", "language_model")
        self.endpoints = {row.public_id: row for row in rows}
        choices = [("", _("Choose an endpoint")), *((key, endpoint_label(row)) for key, row in self.endpoints.items())]
        self.fields["endpoint"].choices = choices  # type: ignore[attr-defined]

    def endpoint_ticks(self) -> list[forms.BoundField]:
        return [self["same_prompt"], self["profile"]]

    def endpoint_what(self) -> dict[str, Any]:
        """What is asked, for ``check_endpoint_inputs`` and ``launch_endpoint_run``. Only after validation."""
        data = self.cleaned_data
        workload = {name: data[name] for name in WORKLOAD}
        if data["prompt"].strip():
            workload["prompt"] = data["prompt"]
        load = self.load_values() | {"load_mode": data["send"] or SINGLE}  # type: ignore[attr-defined]
        load |= {name: data[name] for name in ("load_levels", "load_gain") if data[name] not in (None, "")}
        return {
            "endpoint": self.endpoints.get(data["endpoint"]),
            "workload": workload,
            "load": _fitting(load),
            "unique": not data["same_prompt"],
            "profile": data["profile"],
        }


def _fitting(load: dict[str, Any]) -> dict[str, Any]:
    """Without what the chosen way of sending does not have: the form shows those fields nowhere, or has their usual values in them."""
    mode = load["load_mode"]
    assert mode in MODES  # noqa: S101  (the choice field has checked it)
    unfit: set[str] = set() if mode == SWEEP else {"load_levels", "load_gain"}
    if mode == SINGLE:
        unfit |= {name for name in load if name not in ("load_mode", "load_ttft_s", "load_tpot_s", "load_e2e_s")}
    return {name: value for name, value in load.items() if name not in unfit}


def endpoint_label(endpoint: Endpoint) -> str:
    return f"{endpoint.name} ({endpoint.model or _('no model chosen yet')})"


def endpoint_settings(spec: Mapping[str, Any], public_id: str) -> dict[str, Any]:
    """The fields of the form for a run of an endpoint, to ask for the same again."""
    workload, sweep, about = (spec.get(name) or {} for name in ("workload", "sweep", "endpoint"))
    found = {name: workload[name] for name in (*WORKLOAD, "prompt") if workload.get(name) is not None}
    load = spec.get("load") or {}
    found |= {f"load_{name}": value for name, value in load.items() if value not in (None, "") and name != "mode"}
    found |= {"endpoint": public_id, "send": mode_of(spec), "same_prompt": not about.get("unique_prompts", True)}
    found["profile"] = bool(about.get("profile"))
    if sweep:
        found["load_levels"] = ", ".join(map(str, sweep.get("levels") or ()))
        if sweep.get("gain") != GAIN:
            found["load_gain"] = sweep.get("gain")
        found.pop("load_concurrency", None)
    if found["send"] == SINGLE:
        found.pop("load_requests", None)
    return found
