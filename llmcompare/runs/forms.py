"""The form of a new run. It checks shapes; what the values mean is checked by ``validation.check_inputs``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from uuid import uuid4

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from hardware.models import Hardware, Host
from hardware.templatetags.figures import bandwidth, short_size
from llmcompare.accounts.models import User
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.forms import BootstrapForm
from llmcompare.common.saying import said
from llmcompare.runs.endpointforms import EndpointForm
from llmcompare.runs.loadforms import LoadForm
from llmcompare.runs.models import Run
from llmcompare.runs.optionforms import OptionsForm
from llmcompare.runs.promptforms import PromptsForm
from llmcompare.runs.validation import MAX_PROMPT_CHARACTERS
from profiling.protocol import Protocol
from profiling.quantities import count
from profiling.spec import WORKLOAD_DTYPES, Workload

#: In the hardware list, a host is chosen for an estimate on the ceilings that were measured on it.
HOST_PREFIX = "host:"
WORKLOAD_FIELDS = ("batch_size", "input_tokens", "output_tokens", "dtype", "iterations", "warmup")
DEFAULTS = Workload()
#: How a measurement is repeated.
PROTOCOL_FIELDS = ("processes", "min_seconds")
REPEATED = Protocol()

#: What a server decides by itself: a run of an endpoint does not look at it.
OF_OTHER_KINDS = (
    "model",
    "hardware",
    "host",
    "batch_size",
    "dtype",
    "iterations",
    "processes",
    "min_seconds",
    "load_mode",
)

#: Fields that ask for a file of a measurement, and its kind.
ARTIFACT_FIELDS = {"trace": "trace", "allocations": "memory"}

MODEL_GROUPS = {
    "decoder": _("Decoders: generate text"),
    "encoder": _("Encoders: read text"),
    "encdec": _("Encoder-decoders"),
    "ssm": _("State-space models"),
    "audio": _("Audio"),
    "vision": _("Vision"),
}


class SpecSelect(forms.Select):
    """A select whose options carry what the page's filter and the list of formats need to know of them."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.data: dict[str, dict[str, str]] = {}

    def create_option(self, name, value, label, selected, index, subindex=None, attrs=None):
        option = super().create_option(name, value, label, selected, index, subindex, attrs)
        option["attrs"] |= {f"data-{key}": text for key, text in self.data.get(str(value), {}).items()}
        return option


class NewRunForm(BootstrapForm, OptionsForm, LoadForm, PromptsForm, EndpointForm):
    kind = forms.ChoiceField(
        label=_("Kind"), choices=Run.Kind.choices, initial=Run.Kind.ESTIMATE, widget=forms.RadioSelect
    )
    model = forms.ChoiceField(
        label=_("Model"),
        required=False,
        widget=SpecSelect,
        error_messages={"invalid_choice": _("Choose a model from the list.")},
    )
    hardware = forms.ChoiceField(
        label=_("Hardware"),
        required=False,
        widget=SpecSelect,
        error_messages={"invalid_choice": _("Choose hardware from the list.")},
    )
    host = forms.ChoiceField(
        label=_("Host"),
        required=False,
        widget=SpecSelect,
        error_messages={"invalid_choice": _("Choose a host from the list.")},
    )
    prompt = forms.CharField(
        label=_("Prompt"),
        required=False,
        strip=False,
        max_length=MAX_PROMPT_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": False}),
    )
    batch_size = forms.IntegerField(label=_("Batch size"), initial=DEFAULTS.batch_size)
    input_tokens = forms.IntegerField(label=_("Input tokens"), initial=DEFAULTS.input_tokens)
    output_tokens = forms.IntegerField(label=_("Output tokens"), initial=DEFAULTS.output_tokens)
    dtype = forms.ChoiceField(
        label=_("Data type"), choices=[(name, name) for name in WORKLOAD_DTYPES], initial=DEFAULTS.dtype
    )
    iterations = forms.IntegerField(label=_("Timed iterations"), initial=DEFAULTS.iterations)
    warmup = forms.IntegerField(label=_("Warm-up iterations"), initial=DEFAULTS.warmup)
    processes = forms.IntegerField(label=_("Fresh processes"), initial=REPEATED.processes, required=False)
    min_seconds = forms.FloatField(label=_("Seconds at least"), initial=REPEATED.min_seconds, required=False)
    trace = forms.BooleanField(
        required=False,
        label=_("Keep the trace"),
        help_text=_(
            "of one pass under the profiler, for Perfetto and chrome://tracing: operators, modules, kernels, without names of this machine"
        ),
    )
    allocations = forms.BooleanField(
        required=False,
        label=_("Keep the allocations"),
        help_text=_("of that pass, as JSON: what torch's allocator gave out and took back, under module and operator"),
    )
    replay = forms.BooleanField(
        required=False,
        label=_("Time this model's operators on that host (replay)"),
        help_text=_(
            "Every different operator is called alone there, with inputs that lie in memory and not in a cache, and the times are put together: "
            "a prediction of its own beside the roofline estimate, also of models that do not fit into that host. It waits for the machine "
            "as a measurement does; no weights are loaded, and it is not a measurement."
        ),
    )
    visibility = forms.ChoiceField(
        choices=Run.Visibility.choices, initial=Run.Visibility.PRIVATE, label=_("Who may see it")
    )
    team = forms.ChoiceField(label=_("Team"), required=False)
    title = forms.CharField(required=False, max_length=150, label=_("Title (optional)"))
    notes = forms.CharField(
        required=False, max_length=5000, label=_("Notes (optional)"), widget=forms.Textarea(attrs={"rows": 2})
    )
    against = forms.CharField(required=False, max_length=22, widget=forms.HiddenInput)
    idempotency_key = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args, user: User, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.models = {row.slug: row for row in LanguageModel.objects.visible_to(user)}
        self.devices = {row.slug: row for row in Hardware.objects.visible_to(user)}
        hosts = Host.objects.select_related("hardware").prefetch_related("ceilings")
        self.hosts = {row.slug: row for row in hosts}
        self.online = set(Host.objects.online().values_list("slug", flat=True))
        self.teams = {team.slug: team for team in user.teams.all()}
        self._fill_models()
        self._fill_places()
        self.fill_endpoints(user)
        self._choice("team").choices = [("", "–"), *((slug, team.name) for slug, team in self.teams.items())]
        self.fields["kind"].widget.attrs.pop("class", None)
        if not self.is_bound:
            self.initial.setdefault("idempotency_key", uuid4().hex)
            able = [slug for slug, host in self.hosts.items() if slug in self.online and host.has_engine]
            if len(able) == 1:
                # Where only one machine can measure, nobody should have to choose it.
                self.initial.setdefault("host", able[0])

    def _choice(self, name: str) -> forms.ChoiceField:
        return cast(forms.ChoiceField, self.fields[name])

    def _fill_models(self) -> None:
        field = self._choice("model")
        groups: dict[str, list] = {}
        for row in self.models.values():
            group = gettext("Real weights") if row.weights == "local" else str(MODEL_GROUPS.get(row.kind, row.kind))
            groups.setdefault(group, []).append((row.slug, model_label(row)))
            field.widget.data[row.slug] = {
                "weights": row.weights,
                "find": f"{row.name} {row.hf_id} {row.model_type} {row.architecture}".lower(),
            }
        field.choices = [("", gettext("Choose a model")), *_real_first(groups)]

    def _fill_places(self) -> None:
        field = self._choice("hardware")
        groups: dict[str, list] = {}
        for host in self.hosts.values():
            if host.hardware and host.ceilings.all():
                place, here = (
                    HOST_PREFIX + host.slug,
                    groups.setdefault(gettext("Hosts here, with measured ceilings"), []),
                )
                here.append((place, f"{host.name} ({host.hardware})"))
                field.widget.data[place] = {"dtypes": " ".join(known_dtypes(host.hardware, host))}
        for row in self.devices.values():
            group = gettext("Only yours") if row.owner_id else row.vendor or gettext("Other")
            groups.setdefault(group, []).append((row.slug, hardware_label(row)))
            field.widget.data[row.slug] = {"dtypes": " ".join(known_dtypes(row)), "find": f"{row} {row.kind}".lower()}
        field.choices = [("", gettext("Choose hardware")), *groups.items()]
        self._choice("host").choices = [
            ("", gettext("Choose a host")),
            *((h.slug, self._host_label(h)) for h in self.hosts.values()),
        ]

    def _host_label(self, host: Host) -> str:
        state = (
            gettext("offline")
            if host.slug not in self.online
            else gettext("cannot measure")
            if not host.has_engine
            else gettext("online")
        )
        return f"{host.name} ({host.hardware or gettext('hardware not known yet')}), {state}"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("against") and self.base() is None:
            self.add_error(
                None, gettext("The run to take turns with could not be found: deleted, or not shared with you.")
            )
        kind = cleaned.get("kind")
        if kind in (Run.Kind.MEASURE, Run.Kind.ENDPOINT):
            self.forget_option_errors()
        place = "host" if kind == Run.Kind.MEASURE else "hardware"
        if kind == Run.Kind.ENDPOINT:
            self._clean_endpoint(cleaned)
        elif not cleaned.get("model") and "model" not in self.errors:
            self.add_error("model", gettext("Choose a model."))
        if kind != Run.Kind.ENDPOINT and not cleaned.get(place) and place not in self.errors:
            text = (
                gettext("Choose the host to measure on: a machine with a worker.")
                if place == "host"
                else gettext("Choose the hardware to estimate for.")
            )
            self.add_error(place, text)
        if cleaned.get("visibility") == Run.Visibility.TEAM and not cleaned.get("team"):
            text = (
                gettext("Choose the team.")
                if self.teams
                else gettext("You are not in a team yet. Choose another visibility, or make a team first.")
            )
            self.add_error("team" if self.teams else "visibility", text)
        return cleaned

    def _clean_endpoint(self, cleaned: dict[str, Any]) -> None:
        """Fields that this kind does not have keep nothing from being started, whatever is in them."""
        for name in set(self.errors) & set(OF_OTHER_KINDS):
            del self.errors[name]
        if not cleaned.get("endpoint") and "endpoint" not in self.errors:
            self.add_error("endpoint", gettext("Choose the endpoint to send requests to."))

    @property
    def is_endpoint(self) -> bool:
        return self.cleaned_data.get("kind") == Run.Kind.ENDPOINT

    def what(self) -> dict[str, Any]:
        """What is asked, for ``launch_run`` and ``preview``: kind, model, hardware or host, workload, protocol, against, load, artifacts. Only after
        validation."""
        data = self.cleaned_data
        place = data["host"] if data["kind"] == Run.Kind.MEASURE else data["hardware"]
        on_host = data["kind"] == Run.Kind.MEASURE or place.startswith(HOST_PREFIX)
        workload = {name: data[name] for name in WORKLOAD_FIELDS}
        workload |= self.option_values(measured=data["kind"] == Run.Kind.MEASURE)
        # A prompt is read by a real tokenizer, when the run is measured; an estimate counts tokens.
        if data["kind"] == Run.Kind.MEASURE and data["prompt"].strip():
            workload["prompt"] = data["prompt"]
        if data.get("prompt_list"):
            workload["prompts"] = data["prompt_list"]
        return {
            "kind": data["kind"],
            "model": self.models[data["model"]],
            "hardware": None if on_host else self.devices[place],
            "host": self.hosts[place.removeprefix(HOST_PREFIX)] if on_host else None,
            "workload": workload,
            "protocol": {name: data[name] for name in PROTOCOL_FIELDS} if data["kind"] == Run.Kind.MEASURE else None,
            "against": self.base(),
            "load": self.load_values() if data["kind"] == Run.Kind.MEASURE else None,
            "artifacts": [
                kind for name, kind in ARTIFACT_FIELDS.items() if data[name] and data["kind"] == Run.Kind.MEASURE
            ],
            "replay": data["replay"] and data["kind"] == Run.Kind.ESTIMATE,
        }

    @property
    def has_measured_hosts(self) -> bool:
        """Whether the hardware list has hosts, on which operators could be timed."""
        return any(host.hardware and host.ceilings.all() for host in self.hosts.values())

    def file_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ARTIFACT_FIELDS]

    def base(self) -> Run | None:
        """The measurement to take turns with."""
        asked = self["against"].value()
        return (
            Run.objects.visible_to(self.user).filter(public_id=asked).select_related("host").first() if asked else None
        )

    def about(self) -> dict[str, Any]:
        """The rest, for ``launch_run``: who may see it, what it is called, its key."""
        data = self.cleaned_data
        return {
            "visibility": data["visibility"],
            "team": self.teams.get(data["team"]),
            "title": data["title"],
            "notes": data["notes"],
            "idempotency_key": data["idempotency_key"] or None,
        }

    def add_service_errors(self, errors: dict[str, str]) -> None:
        """Messages of a service at the fields that they are about; an estimate's host was chosen in the hardware list."""
        for name, message in errors.items():
            if name == "host" and self.cleaned_data.get("kind") == Run.Kind.ESTIMATE:
                name = "hardware"
            known = name in self.fields and name != "idempotency_key"
            self.add_error(name if known else None, said(message))


def _real_first(groups: dict[str, list]) -> list[tuple[str, list]]:
    return sorted(groups.items(), key=lambda group: group[0] != gettext("Real weights"))


def known_dtypes(hardware: Hardware, host: Host | None = None) -> list[str]:
    """Formats for which a rate is known, from the datasheet or measured on the host; empty when none is."""
    known = {name for name, rate in hardware.peak_flops.items() if rate}
    if host is not None:
        known |= {row.dtype for row in host.ceilings.all() if row.op_class == "gemm"}
    return [name for name in WORKLOAD_DTYPES if name in known]


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)


def model_label(model: LanguageModel) -> str:
    size = gettext("%(parameters)s parameters") % {"parameters": count(model.parameters)} if model.parameters else ""
    note = {"preparing": gettext("weights being prepared"), "local": said(model.weights_note)}.get(model.weights, "")
    extra = _joined([size, note, gettext("only yours") if model.owner_id else ""])
    return f"{model.name} ({extra})" if extra else model.name


def hardware_label(hardware: Hardware) -> str:
    memory = short_size(hardware.memory_bytes) if hardware.memory_bytes else gettext("memory unknown")
    speed = bandwidth(hardware.memory_bandwidth) if hardware.memory_bandwidth else gettext("bandwidth unknown")
    return f"{hardware} ({memory}, {speed})"
