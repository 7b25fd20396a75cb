"""Forms of the cloud pages. What a value means is checked by the services; a form keeps what was typed and has the words."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.accounts.models import Team, User
from llmcompare.cloud.connections import kinds_for
from llmcompare.cloud.deployments import DEFAULT_LEASE_HOURS, MAX_REPLICAS
from llmcompare.cloud.machines import machines
from llmcompare.cloud.models import Connection, Deployment
from llmcompare.cloud.presentation import usd
from llmcompare.cloud.prices import prices_in
from llmcompare.common.forms import BootstrapForm

#: What an account or a reference may look like, also a wrong one.
REFERENCE = re.compile(r"(env:|file:)?[\w.@-]{0,63}(\.[\w.-]{1,63})?")
PLAIN = {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}


class ConnectionForm(BootstrapForm, forms.Form):
    name = forms.CharField(label=_("Name"), max_length=100)
    project = forms.CharField(
        label=_("Project"),
        max_length=63,
        help_text=_("The project's id, such as my-project-123."),
        widget=forms.TextInput(attrs=PLAIN),
    )
    region = forms.CharField(
        label=_("Region"), max_length=40, initial="us-central1", widget=forms.TextInput(attrs=PLAIN)
    )
    credential_kind = forms.ChoiceField(label=_("How to log in"))
    credential = forms.CharField(
        label=_("Account or reference"),
        max_length=200,
        required=False,
        help_text=_(
            "The service account's e-mail address; or env:NAME or file:NAME of a key that the operator put on the workers' machine. "
            "Nothing for the portal's own identity. Keys themselves are never entered here."
        ),
        widget=forms.TextInput(attrs=PLAIN),
    )
    team = forms.ModelChoiceField(
        label=_("Team"),
        queryset=Team.objects.none(),
        required=False,
        empty_label=_("nobody: only me"),
        help_text=_("Its members see the connection and what is deployed; its editors deploy through it."),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kinds = dict(Connection.Credential.choices)
        self.fields["credential_kind"].choices = [(kind, kinds[kind]) for kind in kinds_for(user)]  # type: ignore[attr-defined]
        self.fields["team"].queryset = user.teams.filter(membership__role="editor", membership__user=user)  # type: ignore[attr-defined]

    def drop_what_is_no_reference(self) -> None:
        """A key that was pasted by mistake is not put back into the page."""
        if "credential" in self.errors and not REFERENCE.fullmatch(self.data.get("credential", "")):
            self.data = {**self.data.dict(), "credential": ""}  # type: ignore[attr-defined]


class UploadForm(BootstrapForm, forms.Form):
    name = forms.CharField(label=_("Name"), max_length=100)
    image = forms.CharField(
        label=_("Container image"),
        max_length=400,
        help_text=_("What serves the model. The one of this project runs on CPU and CUDA, not on TPUs."),
        widget=forms.TextInput(attrs=PLAIN),
    )
    artifact_uri = forms.CharField(
        label=_("Model files"),
        max_length=1000,
        required=False,
        help_text=_("Their folder in Cloud Storage, gs://…; empty if the image has them."),
        widget=forms.TextInput(attrs=PLAIN | {"placeholder": "gs://bucket/folder"}),
    )
    environment = forms.CharField(
        label=_("Variables of the container"),
        required=False,
        max_length=20_000,
        help_text=_("One NAME=value in each line. Whoever may look at the project can read them: no secrets."),
        widget=forms.Textarea(attrs=PLAIN | {"rows": 3}),
    )
    port = forms.IntegerField(label=_("Port"), initial=8080, min_value=1, max_value=65535)
    health_route = forms.CharField(
        label=_("Health route"), max_length=200, initial="/health", widget=forms.TextInput(attrs=PLAIN)
    )
    predict_route = forms.CharField(
        label=_("Predict route"), max_length=200, initial="/predict", widget=forms.TextInput(attrs=PLAIN)
    )
    invoke = forms.BooleanField(
        label=_("All routes of the container can be reached (dedicated endpoints only)"), required=False
    )

    def clean_environment(self) -> dict[str, str]:
        """Name → value; lines that are empty or begin with # are left out."""
        found: dict[str, str] = {}
        for line in self.cleaned_data["environment"].splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals:
                raise forms.ValidationError(gettext("Enter one NAME=value in each line, at most 50."))
            found[name.strip()] = value.strip()
        return found


class DeployForm(BootstrapForm, forms.Form):
    """Everything that is confirmed on the page after it. ``source`` says whether ``model`` is one of the project or an open one."""

    source = forms.ChoiceField(choices=Deployment.Source.choices, widget=forms.HiddenInput())
    model = forms.CharField(label=_("Model"), max_length=300)
    at = forms.ChoiceField(
        label=_("Endpoint"),
        required=False,
        help_text=_("A model that joins an endpoint gets no requests until you divide them anew."),
    )
    name = forms.CharField(
        label=_("Name of the new endpoint"),
        max_length=60,
        required=False,
        help_text=_("Lower-case letters, digits and hyphens."),
        widget=forms.TextInput(attrs=PLAIN),
    )
    machine_type = forms.ChoiceField(label=_("Machine"))
    replicas = forms.IntegerField(
        label=_("Replicas"),
        initial=1,
        min_value=1,
        max_value=MAX_REPLICAS,
        help_text=_("A fixed number: scaling would move what is measured."),
    )
    spot = forms.BooleanField(label=_("Spot machines (may be taken away at any time)"), required=False)
    dedicated = forms.BooleanField(
        label=_("Dedicated endpoint (streams, 10 MB, requests of up to 1 h; a shared one: 1.5 MB, 60 s, no streams)"),
        required=False,
        initial=True,
    )
    lease_hours = forms.IntegerField(
        label=_("Lease (hours)"),
        initial=DEFAULT_LEASE_HOURS,
        min_value=1,
        help_text=_("Then it is undeployed by itself. Can be extended."),
    )
    idle_minutes = forms.IntegerField(
        label=_("Idle limit (minutes)"),
        required=False,
        min_value=5,
        max_value=1440,
        help_text=_("Undeployed after so long without a request of this portal. Empty: no limit."),
    )

    def __init__(self, *args: Any, connection: Connection, source: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["source"].initial = source
        if source == Deployment.Source.MODEL:
            choices = [(m["id"], f"{m['title']} ({m['id']})") for m in connection.models_found]
            self.fields["model"] = forms.ChoiceField(label=_("Model"), choices=choices)
            self.fields["model"].widget.attrs["class"] = "form-select"
        ready = connection.deployments.filter(state="ready", stop_reason="").order_by("name", "pk")
        there = {one.endpoint_name: one for one in ready}.values() if source == Deployment.Source.MODEL else ()
        self.fields["at"].choices = [("", _("a new one")), *((one.public_id, one.name) for one in there)]  # type: ignore[attr-defined]
        self.fields["machine_type"].choices = machine_choices(connection.region)  # type: ignore[attr-defined]
        self.fields["lease_hours"].widget.attrs["max"] = settings.CLOUD_MAX_LEASE_HOURS
        self.fields["idle_minutes"].initial = settings.CLOUD_IDLE_MINUTES


def machine_choices(region: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """By series, each with its price where one is known; TPUs say what they are for."""
    groups: dict[str, list[tuple[str, str]]] = {}
    prices = prices_in(region)
    for machine in machines().values():
        series = machine.series
        if machine.is_tpu:
            series = gettext("%(series)s: only for containers that serve on TPUs") % {"series": machine.series}
        price = prices[machine.name].usd_per_hour
        words = gettext("price unknown") if price is None else gettext("%(price)s per hour") % {"price": usd(price)}
        groups.setdefault(series, []).append((machine.name, f"{machine.label} · {words}"))
    return list(groups.items())


class ExtendForm(BootstrapForm, forms.Form):
    hours = forms.IntegerField(label=_("Hours from now"), initial=1, min_value=1)


class StopAllForm(BootstrapForm, forms.Form):
    reason = forms.CharField(label=_("Reason (shown to everybody)"), max_length=200, required=False)
    typed = forms.CharField(label=_("Type STOP"), max_length=20, widget=forms.TextInput(attrs=PLAIN))

    def clean_typed(self) -> str:
        if self.cleaned_data["typed"].strip() != "STOP":
            raise forms.ValidationError(gettext("Type STOP in capital letters."))
        return "STOP"
