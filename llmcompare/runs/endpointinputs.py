"""Runs of an endpoint: what may be asked of one, how much that sends at most, and the frozen inputs. What the values mean is checked by the
engine's own classes, so that form, API and command line refuse the same with the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from hardware.models import Hardware
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.endpoints.models import Endpoint
from llmcompare.runs.validation import MAX_PROMPT_CHARACTERS
from profiling.load import Load, planned
from profiling.remote.levels import GAIN, Sweep, levels
from profiling.remote.spec import WORKLOAD_FIELDS, Budget, EndpointSpec, budget, workload_json
from profiling.spec import SpecError, Workload

#: How requests are sent: the modes of a load, one alone, and a sweep over users.
SINGLE, SWEEP = "single", "sweep"
MODES = (SINGLE, "closed", "poisson", "constant", SWEEP)
#: Levels of a sweep that names none: doublings up to the users that were asked for.
USUAL_USERS = 16
#: Output tokens of one run, at most: what a slip of the finger may cost.
MAX_OUTPUT_TOKENS = 20_000_000
#: Input tokens of one run, at most: all prompts are made before the first is sent, and lie in memory as text.
MAX_INPUT_TOKENS = 100_000_000


@dataclass(frozen=True)
class EndpointInputs:
    """Checked inputs. ``unique``: each prompt begins differently; ``profile``: ask a server of ours for its times and layers."""

    endpoint: Endpoint
    workload: Workload
    load: Load
    sweep: Sweep | None
    unique: bool
    profile: bool

    @property
    def model(self) -> LanguageModel | None:
        return self.endpoint.language_model

    @property
    def hardware(self) -> Hardware | None:
        return self.endpoint.hardware

    def freeze(self, place: int = 0) -> EndpointSpec:
        """The values that the run keeps. Neither address nor key is among them: the worker looks them up when it begins. ``place``: of
        :func:`llmcompare.endpoints.places.place_of`."""
        return EndpointSpec(
            endpoint={
                "id": self.endpoint.public_id,
                "name": self.endpoint.name,
                "kind": self.endpoint.kind,
                "model": self.endpoint.model,
                "api": self.endpoint.api,
                "place": place,
                "unique_prompts": self.unique,
                "profile": self.profile,
            },
            workload=workload_json(self.workload),
            load=self.load.to_json(),
            sweep=self.sweep.to_json() if self.sweep else None,
            model=self.model.to_spec().to_json() if self.model else None,
            hardware=self.hardware.to_spec().to_json() if self.hardware else None,
        )

    @property
    def budget(self) -> Budget:
        return budget(self.workload, self.load, self.sweep, self.profile)

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output tokens of a request, their mean where lengths are drawn. Input 0 with a prompt: its tokens are the server's to count."""
        into, out, load = self.workload.input_tokens, self.workload.output_tokens, self.load
        if load.input_lengths or load.output_lengths:
            asked = planned(load, input_tokens=into, output_tokens=out, seed=self.workload.seed)
            if asked:
                into = round(sum(one.input_tokens for one in asked) / len(asked))
                out = round(sum(one.output_tokens for one in asked) / len(asked))
        return (0 if self.workload.prompt is not None else into), out


def check_endpoint_inputs(
    *,
    endpoint: Endpoint | None,
    workload: Mapping[str, Any],
    load: Mapping[str, Any] | None = None,
    unique: bool = True,
    profile: bool | None = None,
) -> EndpointInputs:
    """The inputs as one checked value; raises :class:`FieldErrors` with everything that is wrong at once.

    ``workload``: of :data:`profiling.remote.spec.WORKLOAD_FIELDS`. ``load``: fields of :class:`profiling.load.Load` with ``load_`` before
    them; ``load_mode`` may also be ``single`` (the default) or ``sweep``, with ``load_levels`` and ``load_gain``. ``profile`` None: of
    endpoints on Vertex AI, where our own container may serve.
    """
    errors: dict[str, str] = {}
    if endpoint is None:
        errors["endpoint"] = _("Choose the endpoint to send requests to.")
    elif not endpoint.model:
        errors["endpoint"] = _("{name} has no model yet: open it and choose one of those that its server has.").format(
            name=endpoint.name
        )
    asked = _workload(workload, errors)
    sent, sweep = _load(dict(load or {}), errors)
    if errors or endpoint is None:
        raise FieldErrors(errors)
    wanted = endpoint.kind == Endpoint.Kind.VERTEX if profile is None else profile
    inputs = EndpointInputs(endpoint, asked, sent, sweep, unique, wanted)
    _check_budget(inputs.budget)
    return inputs


def _check_budget(found: Budget) -> None:
    for tokens, most, text in (
        (
            found.output_tokens,
            MAX_OUTPUT_TOKENS,
            _("This may generate {tokens} tokens; {most} are allowed. Send fewer requests, or shorter answers."),
        ),
        (
            found.input_tokens,
            MAX_INPUT_TOKENS,
            _("This may send {tokens} tokens; {most} are allowed. Send fewer requests, or shorter prompts."),
        ),
    ):
        if tokens > most:
            raise FieldErrors({"load_requests": text.format(tokens=f"{tokens:,}", most=f"{most:,}")})


def _workload(values: Mapping[str, Any], errors: dict[str, str]) -> Workload:
    given = {name: value for name, value in values.items() if value is not None}
    for name in given.keys() - set(WORKLOAD_FIELDS):
        errors[name] = _("A server decides this by itself: leave it out.")
        del given[name]
    prompt = given.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        errors["prompt"] = _("The prompt must be text.")
        del given["prompt"]
    elif prompt is not None and len(prompt) > MAX_PROMPT_CHARACTERS:
        errors["prompt"] = _("The prompt has {length} characters; {most} fit.").format(
            length=len(prompt),
            most=MAX_PROMPT_CHARACTERS,
        )
        del given["prompt"]
    elif prompt is not None and not prompt.strip():
        del given["prompt"]
    limit = given.get("time_limit_s", 1)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 1 <= limit <= settings.MAX_RUN_SECONDS:
        errors["time_limit_s"] = _("Enter seconds from 1 to {most}.").format(most=settings.MAX_RUN_SECONDS)
        del given["time_limit_s"]
    seed = given.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        errors["seed"] = _("Enter a whole number from 0 to {most}.").format(most=2**31 - 1)
        del given["seed"]
    while True:
        try:
            found = Workload.from_json(given)
            found.check()
            if found.output_tokens < 1:
                raise SpecError("output_tokens", _("Ask for at least 1 output token."))
            return found
        except SpecError as error:
            errors[error.field] = str(error)
            if given.pop(error.field, None) is None:
                return Workload()


def _load(values: dict[str, Any], errors: dict[str, str]) -> tuple[Load, Sweep | None]:
    given = {name: value for name, value in values.items() if value not in (None, "")}
    mode, text, gain = given.pop("load_mode", SINGLE), given.pop("load_levels", None), given.pop("load_gain", None)
    if mode not in MODES:
        errors["load_mode"] = _("Choose one of {modes}.").format(modes=", ".join(MODES))
        return Load(), None
    if mode != SWEEP and (text is not None or gain is not None):
        errors["load_levels" if text is not None else "load_gain"] = _(
            "Only a sweep has levels: choose it, or leave this empty."
        )
    if mode == SINGLE:
        objectives = ("load_ttft_s", "load_tpot_s", "load_e2e_s")
        for name in given.keys() - set(objectives):
            errors[name] = _("One request has none of this: choose a load first, or leave it empty.")
        given = {name: given[name] for name in objectives if name in given} | {"load_requests": 1}
    try:
        named = {name.removeprefix("load_"): value for name, value in given.items()}
        load = Load.from_json(named | {"mode": "closed" if mode in (SINGLE, SWEEP) else mode})
        load.check()
        return load, _sweep(load, text, gain) if mode == SWEEP else None
    except SpecError as error:
        errors[error.field] = str(error)
        return Load(), None


def _sweep(load: Load, text: Any, gain: Any) -> Sweep:
    users = load.concurrency if load.concurrency > 1 else USUAL_USERS
    found = Sweep(levels(str(text) if text is not None else f"1..{users}"), GAIN if gain is None else gain)
    found.check()
    return found


def mode_of(spec: Mapping[str, Any]) -> str:
    """How the requests of a run were sent, a word of :data:`MODES`."""
    load = spec.get("load") or {}
    if spec.get("sweep"):
        return SWEEP
    return SINGLE if load.get("mode") == "closed" and load.get("requests") == 1 else str(load.get("mode") or SINGLE)
