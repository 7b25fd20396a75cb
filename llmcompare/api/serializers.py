"""Shapes that the API takes and gives. Meaning is checked by the services; here only form, by name, in the open."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from llmcompare.runs.exports import RUNS_HEADER, shown_spec, summary
from llmcompare.runs.models import Run
from llmcompare.runs.options import NAMES as OPTION_NAMES
from llmcompare.runs.options import OPTIONS, Option
from profiling.spec import WORKLOAD_DTYPES

WORKLOAD_FIELDS = (
    "batch_size",
    "input_tokens",
    "output_tokens",
    "dtype",
    "prompt",
    "prompts",
    "iterations",
    "warmup",
    "seed",
    "threads",
    "time_limit_s",
    *OPTION_NAMES,
)
#: How a measurement is repeated.
PROTOCOL_FIELDS = ("processes", "min_seconds")
DTYPES = f"{', '.join(WORKLOAD_DTYPES[:-1])} or {WORKLOAD_DTYPES[-1]}"
MAX_KEY = 64


class Strict(serializers.Serializer):
    """Refuses fields that it does not know: a misspelt option must not be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise serializers.ValidationError({name[:100]: ["There is no such field."] for name in unknown[:20]})
        return super().to_internal_value(data)


class ErrorSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="a word for programs: invalid, not_found, quota, throttled, …")
    message = serializers.CharField(help_text="a sentence for people")
    errors = serializers.DictField(child=serializers.CharField(), help_text="field → what is wrong with it")


# --- tokens ----------------------------------------------------------------------------------------------------------


class LoginSerializer(Strict):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=1000, trim_whitespace=False, style={"input_type": "password"})
    days = serializers.IntegerField(min_value=1, max_value=365, default=30, help_text="how long the token works")


class TokenSerializer(serializers.Serializer):
    token = serializers.CharField(help_text="send it as `Authorization: Token …`; it is shown only here")
    expires = serializers.DateTimeField()
    username = serializers.CharField()


# --- catalogues ------------------------------------------------------------------------------------------------------


class ModelSerializer(serializers.Serializer):
    slug = serializers.CharField(help_text="names the model in every other call")
    name = serializers.CharField()
    hf_id = serializers.CharField(allow_blank=True)
    kind = serializers.CharField(help_text="decoder, encoder, encdec, ssm, audio or vision")
    model_type = serializers.CharField()
    architecture = serializers.CharField()
    parameters = serializers.IntegerField(allow_null=True)
    max_context = serializers.IntegerField(allow_null=True, help_text="tokens; null: unlimited or unknown")
    weights = serializers.CharField(help_text="what a measurement runs: local (real), random, preparing or failed")
    weights_note = serializers.CharField(allow_blank=True)
    licence = serializers.CharField(allow_blank=True)
    source = serializers.CharField()
    private = serializers.SerializerMethodField(help_text="your own upload, seen by nobody else")

    def get_private(self, model) -> bool:
        return model.owner_id is not None


class ModelDetailSerializer(ModelSerializer):
    config = serializers.JSONField(help_text="the model's config.json")
    config_sha256 = serializers.CharField()
    facts = serializers.JSONField(allow_null=True, help_text="what the engine found; null until it was asked")


class ModelUploadSerializer(Strict):
    name = serializers.CharField(max_length=150)
    config = serializers.DictField(help_text="content of a transformers config.json")


class ArtifactSerializer(serializers.Serializer):
    kind = serializers.CharField(help_text="trace or memory")
    name = serializers.CharField(help_text="of the file")
    title = serializers.CharField()
    opens_with = serializers.CharField()
    text_bytes = serializers.IntegerField(help_text="of the JSON")
    stored_bytes = serializers.IntegerField(help_text="of the file, compressed with gzip")
    sha256 = serializers.CharField(help_text="of the file")
    cut = serializers.CharField(help_text="what was left out because it was too large; empty: nothing")
    url = serializers.CharField()


class LaunchSerializer(Strict):
    """A run to launch. Everything but kind, model and the place to run has a default."""

    kind = serializers.CharField(
        max_length=20, help_text="estimate (any hardware), measure (on a host) or endpoint (requests to a server)"
    )
    model = serializers.CharField(
        max_length=200, required=False, help_text="slug of a model; a run of an endpoint has the endpoint's"
    )
    endpoint = serializers.CharField(max_length=22, required=False, help_text="id of an endpoint; for its runs")
    hardware = serializers.CharField(max_length=200, required=False, help_text="slug; for estimates")
    host = serializers.CharField(
        max_length=200, required=False, help_text="slug; for measurements, and for estimates on its measured ceilings"
    )
    batch_size = serializers.IntegerField(required=False)
    input_tokens = serializers.IntegerField(required=False, help_text="of the prompt, per sequence")
    output_tokens = serializers.IntegerField(required=False, help_text="generated, per sequence")
    dtype = serializers.CharField(
        required=False, max_length=20, help_text=f"format of weights and activations: {DTYPES}"
    )
    prompt = serializers.CharField(required=False, allow_null=True, trim_whitespace=False)
    prompts = serializers.ListField(
        child=serializers.CharField(trim_whitespace=False, allow_blank=True),
        required=False,
        allow_null=True,
        help_text="several prompts of a measurement, each a request: up to 1,000, 1 MB together; they fill batches in their order",
    )
    iterations = serializers.IntegerField(required=False)
    warmup = serializers.IntegerField(required=False)
    processes = serializers.IntegerField(
        required=False, help_text="fresh processes of a measurement, one after the other; default 3"
    )
    against = serializers.CharField(
        required=False, max_length=22, help_text="id of a measurement on the same host that this one takes turns with"
    )
    min_seconds = serializers.FloatField(
        required=False, help_text="seconds for which each process repeats a measurement at least; default 0"
    )
    load_mode = serializers.CharField(
        required=False,
        max_length=20,
        help_text="requests against the model after the iterations of a measurement: closed (users who wait for answers), poisson or "
        "constant (arrivals that do not); left out: none. Of an endpoint also single (the default) and sweep",
    )
    load_concurrency = serializers.IntegerField(required=False, help_text="users of a closed loop; default 1")
    load_rate = serializers.FloatField(
        required=False, help_text="requests per second of a Poisson load (on average) or a constant one"
    )
    load_requests = serializers.IntegerField(required=False, help_text="requests at most; default 50")
    load_seconds = serializers.FloatField(required=False, help_text="no request arrives later than this")
    load_input_lengths = serializers.CharField(
        required=False,
        max_length=100,
        help_text="tokens of each prompt: fixed(n), uniform(min, max), normal(mean, sd, min, max) or lognormal(mean, sd, min, max); "
        "left out: input_tokens",
    )
    load_output_lengths = serializers.CharField(
        required=False, max_length=100, help_text="tokens of each answer, in the same way"
    )
    load_ttft_s = serializers.FloatField(
        required=False, help_text="objective: seconds to the first token, with waiting"
    )
    load_tpot_s = serializers.FloatField(required=False, help_text="objective: seconds for each token after it")
    load_e2e_s = serializers.FloatField(required=False, help_text="objective: seconds to the last token")
    load_levels = serializers.CharField(
        required=False,
        max_length=100,
        help_text="users of a sweep: 1,2,4,8 or 1..64 for doublings; left out: 1..16, or up to load_concurrency",
    )
    load_gain = serializers.FloatField(
        required=False, help_text="share of throughput that a level of a sweep must gain; default 0.1"
    )
    unique_prompts = serializers.BooleanField(
        required=False,
        help_text="of an endpoint: each prompt begins differently (default), so that no cache answers",
    )
    profile = serializers.BooleanField(
        required=False,
        help_text="of an endpoint: one request more, for the server's own times and layers; default: of Vertex AI",
    )
    artifacts = serializers.ListField(
        child=serializers.CharField(max_length=40),
        required=False,
        max_length=10,
        help_text="files of a measurement's profiled pass: trace (for Perfetto), memory (allocations); left out: none",
    )
    replay = serializers.BooleanField(
        required=False,
        help_text="of an estimate with a host: time the model's operators alone there (it waits for the machine as a measurement does), and "
        "predict from them: metrics replay_ttft, replay_tpot, replay_e2e_latency or replay_encode_time; default false",
    )
    seed = serializers.IntegerField(required=False)
    threads = serializers.IntegerField(required=False, allow_null=True)
    time_limit_s = serializers.FloatField(required=False)
    visibility = serializers.CharField(required=False, max_length=20, help_text="private (default), team or public")
    team = serializers.CharField(required=False, max_length=100, help_text="slug; with visibility team")
    title = serializers.CharField(required=False, allow_blank=True, max_length=150)
    notes = serializers.CharField(required=False, allow_blank=True, max_length=20_000)
    idempotency_key = serializers.CharField(
        required=False, max_length=MAX_KEY, help_text="sending the same key again returns the first run"
    )

    def get_fields(self) -> dict[str, serializers.Field]:
        return super().get_fields() | {option.name: option_field(option) for option in OPTIONS}


def option_field(option: Option) -> serializers.Field:
    """Form only, as for every field here: whether a number is in its range and goes with the others, the service says."""
    common: dict[str, Any] = {"required": False, "help_text": option_help(option)}
    if option.default is None:
        common["allow_null"] = True
    if option.values:
        choices = f"Choose one of {', '.join(option.values)}."
        return serializers.ChoiceField(option.values, error_messages={"invalid_choice": choices}, **common)
    return (serializers.FloatField if option.fraction else serializers.IntegerField)(**common)


def option_help(option: Option) -> str:
    """What it is, what its values mean, what holds when it is left out, and for which kinds of run it is."""
    lines = [f"{option.title}: {option.help}"]
    lines += (
        [f"{value}: {words}" for value, words in option.words.items()] if len(set(option.words.values())) > 1 else []
    )
    lines.append(f"default: {f'null, {option.says(None)}' if option.default is None else option.default}")
    if not option.measured:
        lines.append("for the estimates beside a measurement, too" if option.beside else "estimates only")
    return "; ".join(lines)


class MetricSerializer(serializers.Serializer):
    key = serializers.CharField(help_text="ttft, tpot, e2e_latency, …")
    origin = serializers.CharField(help_text="estimated, measured, or reported (by the server of an endpoint)")
    value = serializers.FloatField(allow_null=True)
    unit = serializers.CharField()
    definition = serializers.CharField()


class RunSerializer(serializers.Serializer):
    """One line of a list of runs: the columns of the CSV export."""

    id = serializers.CharField()
    name = serializers.CharField()
    title = serializers.CharField(allow_blank=True)
    kind = serializers.CharField(help_text="estimate, measure or endpoint")
    state = serializers.CharField(help_text="queued, running, done, failed or cancelled")
    visibility = serializers.CharField(help_text="private, team or public")
    owner = serializers.CharField()
    team = serializers.CharField(allow_null=True)
    model = serializers.CharField()
    hardware = serializers.CharField(help_text="of a run of an endpoint: the name of the endpoint")
    host = serializers.CharField(allow_null=True)
    batch_size = serializers.IntegerField(allow_null=True, help_text="null: a run of an endpoint")
    input_tokens = serializers.IntegerField(allow_null=True, help_text="null: unknown, of an endpoint with a prompt")
    output_tokens = serializers.IntegerField()
    dtype = serializers.CharField(allow_null=True, help_text="null: a run of an endpoint")
    created = serializers.DateTimeField()
    started = serializers.DateTimeField(allow_null=True)
    finished = serializers.DateTimeField(allow_null=True)
    duration_s = serializers.FloatField(allow_null=True)
    ttft_s = serializers.FloatField(allow_null=True)
    tpot_s = serializers.FloatField(allow_null=True)
    e2e_s = serializers.FloatField(allow_null=True)
    output_tokens_per_s = serializers.FloatField(allow_null=True)
    memory_bytes = serializers.IntegerField(allow_null=True)
    fits = serializers.BooleanField(allow_null=True)
    bound = serializers.CharField(allow_null=True)
    ceilings = serializers.CharField(
        allow_null=True,
        help_text="what the times of an estimate stand on: `datasheet` (an optimistic bound) or `measured`",
    )
    attempt = serializers.IntegerField()
    error_phase = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True)
    spec_digest = serializers.CharField()
    url = serializers.CharField(help_text="the run's page")
    options = serializers.DictField(
        help_text="what the workload sets beyond batch, tokens and data type: option → value; `spec.workload` has all of it"
    )
    tags = serializers.ListField(child=serializers.CharField(), help_text="words that people put on the run")

    def to_representation(self, run: Run) -> dict[str, Any]:
        return super().to_representation(summary(run))


class RunDetailSerializer(RunSerializer):
    """One run, with its progress and its metrics; ``document`` has everything."""

    stage = serializers.CharField(allow_blank=True)
    progress = serializers.FloatField(help_text="0 to 1")
    message = serializers.CharField(allow_blank=True)
    cancel_requested = serializers.BooleanField()
    notes = serializers.CharField(allow_blank=True)
    spec = serializers.JSONField(help_text="the frozen inputs, without the folder of the weights")
    metrics = MetricSerializer(many=True)
    document = serializers.CharField(allow_null=True, help_text="address of the run document; null until there is one")

    OWN = ("stage", "progress", "message", "cancel_requested", "notes")

    def to_representation(self, run: Run) -> dict[str, Any]:
        stored = getattr(run, "document", None) is not None
        address = settings.PUBLIC_URL + reverse("api:run-document", args=[run.public_id])
        values = summary(run) | {name: getattr(run, name) for name in self.OWN} | {"spec": shown_spec(run)}
        values |= {"metrics": run.metrics.all(), "document": address if stored else None}
        return serializers.Serializer.to_representation(self, values)


assert tuple(RunSerializer().fields) == RUNS_HEADER, "the API and the CSV export show the same columns"  # noqa: S101


# --- inference -------------------------------------------------------------------------------------------------------


class InferenceSerializer(Strict):
    model = serializers.CharField(
        max_length=200, required=False, help_text="slug of a model; left out where an endpoint is named"
    )
    endpoint = serializers.CharField(
        max_length=22, required=False, help_text="id of an endpoint: its server answers, and no host of ours"
    )
    prompt = serializers.CharField(max_length=200_000, trim_whitespace=False)
    max_output_tokens = serializers.IntegerField(default=64, min_value=1, max_value=4096)
    host = serializers.CharField(required=False, max_length=200, help_text="slug; any free host when left out")
    dtype = serializers.CharField(
        required=False, max_length=20, help_text=f"{DTYPES}; by default fp32 on a CPU, bf16 elsewhere"
    )
    wait = serializers.FloatField(default=30, min_value=0, max_value=60, help_text="seconds to wait for the text")
    idempotency_key = serializers.CharField(required=False, max_length=MAX_KEY)


class InferenceResultSerializer(serializers.Serializer):
    run = serializers.CharField(help_text="id of the run")
    url = serializers.CharField()
    state = serializers.CharField()
    text = serializers.CharField(allow_null=True, help_text="what the model generated; null until it is done")
    weights = serializers.CharField(
        allow_null=True, help_text="local (real weights) or random: random ones write nonsense"
    )
    metrics = MetricSerializer(many=True)


# --- comparison ------------------------------------------------------------------------------------------------------


@extend_schema_field(OpenApiTypes.ANY)
class AnyField(serializers.Field):
    """Text, number, truth value or null."""

    def to_representation(self, value: Any) -> Any:
        return value


class ComparisonRowSerializer(serializers.Serializer):
    section = serializers.CharField(help_text="run, option or metric")
    key = serializers.CharField()
    origin = serializers.CharField(allow_blank=True)
    unit = serializers.CharField(allow_blank=True)
    values = serializers.ListField(child=AnyField(), help_text="one per run; null: unknown")
    delta_pct = serializers.ListField(
        child=serializers.FloatField(allow_null=True), required=False, help_text="difference to the baseline in percent"
    )


class ComparisonSerializer(serializers.Serializer):
    schema = serializers.CharField()
    schema_version = serializers.CharField()
    runs = serializers.ListField(child=serializers.CharField(), help_text="ids, in the order asked")
    baseline = serializers.CharField()
    rows = ComparisonRowSerializer(many=True)
    layers = serializers.DictField(
        required=False,
        help_text="roles and parts of the models in one stage, with their own figures; left out where fewer than two runs have some",
    )
