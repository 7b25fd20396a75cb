"""What a run may be asked to do: every input is checked for meaning, and every problem is said at its field.

Shared by ``launch_run`` and the preview of the new-run page, so that both refuse the same things with the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext, gettext_noop

from hardware.models import Hardware, Host
from hardware.services import host_spec
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.common.saying import said
from llmcompare.runs.models import Run
from llmcompare.runs.options import ATTENTION, devices_of
from llmcompare.runs.suitability import (
    READ_ONLY_KINDS,
    REPLAY_DEVICES,
    check_divisible,
    check_estimable,
    check_length,
    check_measurable,
    check_rate,
    check_replay,
    either,
    place,
)
from profiling.artifacts import check_kinds
from profiling.load import Load, bounds
from profiling.parallel import Plan
from profiling.protocol import Protocol
from profiling.spec import DTYPE_BYTES, RunSpec, SpecError, Workload

MAX_PROMPT_CHARACTERS = 200_000

#: Devices of one deployment: far more than anybody divides one model over, few enough for every check to be quick.
MAX_DEVICES = 65_536

#: Fresh processes of one measurement, and seconds that each repeats it at least.
MAX_PROCESSES, MAX_SECONDS = 20, 3600

#: Where one value is missing, the one that asks for it: without that, the rest of the workload can still be checked.
ASKED_BY = {"draft_acceptance": "draft_tokens"}


@dataclass(frozen=True)
class Inputs:
    """Checked inputs of a run. ``notes`` are sentences about what was adjusted, for the run's log and the preview. ``replay``: whether the
    operators are timed alone on the host of an estimate."""

    kind: str
    model: LanguageModel
    hardware: Hardware
    host: Host | None
    workload: Workload
    protocol: Protocol | None = None
    against: Run | None = None
    load: Load | None = None
    artifacts: tuple[str, ...] = ()
    replay: bool = False
    notes: list[str] = field(default_factory=list)

    def freeze(self) -> RunSpec:
        """The values that the run keeps: later edits of catalogue entries or ceilings do not reach them."""
        hardware = host_spec(self.host) if self.host else self.hardware.to_spec()
        return RunSpec(
            kind=self.kind,
            model=self.model.to_spec().to_json(),
            hardware=hardware.to_json(),
            workload=self.workload.to_json(),
            protocol=self.protocol.to_json() if self.protocol else None,
            against=self._base(hardware.to_json()),
            load=self.load.to_json() if self.load else None,
            artifacts=list(self.artifacts) or None,
            replay=REPLAY_DEVICES[self.hardware.kind] if self.replay else None,
        )

    def _base(self, hardware: dict[str, Any]) -> dict[str, Any] | None:
        """What the run takes turns with: as it was asked then, on the host as it is now."""
        if self.against is None:
            return None
        spec = self.against.spec
        return RunSpec(kind="measure", model=spec["model"], hardware=hardware, workload=spec["workload"]).to_json()


def check_inputs(
    *,
    kind: str,
    model: LanguageModel,
    hardware: Hardware | None,
    host: Host | None,
    workload: Mapping[str, Any],
    protocol: Mapping[str, Any] | None = None,
    against: Run | None = None,
    load: Mapping[str, Any] | None = None,
    artifacts: Sequence[str] = (),
    replay: bool = False,
) -> Inputs:
    """The inputs as one checked value; raises :class:`FieldErrors` with everything that is wrong at once.

    ``protocol``: how a measurement is repeated; what it leaves out is as in :class:`profiling.protocol.Protocol`.
    ``against``: a measurement that it takes turns with, on the same host.
    ``load``: requests after the iterations, fields of :class:`profiling.load.Load` with ``load_`` before them; empty: none.
    ``artifacts``: files of a measurement's profiled pass, kinds of :data:`profiling.artifacts.KINDS`.
    ``replay``: time the operators of an estimate alone on its host.
    """
    parsed, errors = _parse_workload(workload)
    repeated, wrong = _parse_protocol(kind, protocol or {})
    errors |= wrong | _check_against(kind, host, against)
    sent, wrong = _parse_load(kind, model, parsed, load or {})
    errors |= wrong
    files, wrong = _parse_artifacts(kind, artifacts)
    errors |= wrong
    if kind not in Run.Kind.values:
        raise FieldErrors(
            errors | {"kind": gettext("Choose one of %(choices)s.") % {"choices": ", ".join(Run.Kind.values)}}
        )
    hardware, place_errors = place(kind, hardware, host)
    errors |= place_errors

    notes: list[str] = []
    if model.kind in READ_ONLY_KINDS and parsed.output_tokens:
        parsed = replace(parsed, output_tokens=0)
        # Kept in the log of the run, so in English.
        note = (
            gettext_noop("%(model)s is an encoder: it reads images and generates nothing, so output tokens are 0.")
            if model.kind == "vision"
            else gettext_noop("%(model)s is an encoder: it reads text and generates none, so output tokens are 0.")
        )
        notes.append(note % {"model": model.name})
    too_long = check_length(model, parsed)
    if kind == Run.Kind.ESTIMATE:
        if parsed.prompts:
            errors["prompts"] = gettext("An estimate counts tokens and reads no prompts: leave them out, or measure.")
        too_long = too_long or check_estimable(model, parsed)
        if hardware is not None:
            errors = check_rate(hardware, host, parsed) | errors
    errors = too_long | errors
    if kind == Run.Kind.MEASURE:
        errors = check_measurable(model, parsed) | errors
        if host is not None:
            errors = check_divisible(model, host, parsed) | errors
    if replay:
        errors = check_replay(kind, model, host, parsed) | errors
    if errors or hardware is None:
        raise FieldErrors(errors)
    return Inputs(
        kind=kind,
        model=model,
        hardware=hardware,
        host=host,
        workload=parsed,
        protocol=repeated,
        against=against,
        load=sent,
        artifacts=files,
        replay=replay,
        notes=notes,
    )


def _parse_workload(values: Mapping[str, Any]) -> tuple[Workload, dict[str, str]]:
    """The workload, and a message for each field that is wrong (such a field has its default in the returned value)."""
    values, errors = dict(values), dict[str, str]()
    while True:
        try:
            workload = Workload.from_json(values)
            workload.check()
            _check_options(workload)
            return workload, errors
        except SpecError as error:
            errors[error.field] = said(str(error))
            taken = error.field if values.get(error.field) is not None else ASKED_BY.get(error.field, "")
            if taken not in values:  # nothing left to take out: the message stands alone
                raise FieldErrors(errors) from None
            del values[taken]


def _parse_protocol(kind: str, values: Mapping[str, Any]) -> tuple[Protocol | None, dict[str, str]]:
    """How a measurement is repeated; an estimate is not."""
    given = {name: value for name, value in values.items() if value is not None}
    if kind != Run.Kind.MEASURE:
        return None, dict.fromkeys(given, gettext("An estimate is not repeated: leave this out, or measure."))
    try:
        protocol = Protocol.from_json(given)
        protocol.check()
        if protocol.processes > MAX_PROCESSES:
            raise SpecError(
                "processes",
                gettext("Enter a whole number from 1 to %(max_processes)s.") % {"max_processes": MAX_PROCESSES},
            )
        if protocol.min_seconds > MAX_SECONDS:
            raise SpecError(
                "min_seconds", gettext("Enter at most %(max_seconds)s seconds.") % {"max_seconds": MAX_SECONDS}
            )
    except SpecError as error:
        return None, {error.field: said(str(error))}
    return protocol, {}


def _parse_load(
    kind: str, model: LanguageModel, workload: Workload, values: Mapping[str, Any]
) -> tuple[Load | None, dict[str, str]]:
    """The load of a measurement, None where none was asked for; an estimate has none."""
    given = {name: value for name, value in values.items() if value not in (None, "")}
    if kind != Run.Kind.MEASURE:
        return None, dict.fromkeys(
            given, gettext("Only a measurement can be put under load: leave this out, or measure.")
        )
    if given and "load_mode" not in given:
        return None, {next(iter(given)): gettext("Choose a load first: a closed loop or Poisson arrivals.")}
    if not given:
        return None, {}
    if model.kind in READ_ONLY_KINDS:
        return None, {
            "load_mode": gettext("%(name)s generates no tokens, so it cannot be put under load.") % {"name": model.name}
        }
    if workload.prompt is not None:
        return None, {
            "load_mode": gettext("A load sends arbitrary tokens of chosen lengths: clear the prompt, or choose none.")
        }
    try:
        load = Load.from_json({name.removeprefix("load_"): value for name, value in given.items()})
        load.check()
    except SpecError as error:
        return None, {error.field: said(str(error))}
    if workload.prompts and load.input_lengths:
        text = gettext("The requests are the prompts of the file, in their order: leave the input lengths empty.")
        return None, {"load_input_lengths": text}
    into, out = bounds(load, workload.input_tokens, workload.output_tokens)
    drawn = "load_input_lengths" if load.input_lengths else "load_output_lengths"
    too_long = check_length(model, replace(workload, input_tokens=into, output_tokens=out))
    if too_long and (load.input_lengths or load.output_lengths):
        return None, {drawn: gettext("The longest request: %(problem)s") % {"problem": next(iter(too_long.values()))}}
    return load, {}


def _parse_artifacts(kind: str, kinds: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    try:
        found = check_kinds(kinds)
    except SpecError as error:
        return (), {error.field: said(str(error))}
    if found and kind != Run.Kind.MEASURE:
        return (), {"artifacts": gettext("An estimate runs nothing that could be traced: leave this out, or measure.")}
    return tuple(found), {}


def _check_against(kind: str, host: Host | None, against: Run | None) -> dict[str, str]:
    """Turns are taken by two measurements of one host."""
    if against is None:
        return {}
    if kind != Run.Kind.MEASURE or against.kind != Run.Kind.MEASURE:
        return {"against": gettext("Only measurements take turns: an estimate is the same whenever it is made.")}
    if host is not None and against.host_id != host.pk:
        where = against.host or gettext("a host that is gone")
        text = gettext("%(run)s was measured on %(host)s: both take turns on one host. Choose that one.")
        return {"against": text % {"run": against, "host": where}}
    return {}


def _check_options(workload: Workload) -> None:
    """What ``Workload.check`` leaves open: the optional fields."""
    if workload.prompt is not None and not isinstance(workload.prompt, str):
        raise SpecError("prompt", gettext("The prompt must be text."))
    if workload.prompt is not None and len(workload.prompt) > MAX_PROMPT_CHARACTERS:
        raise SpecError(
            "prompt",
            gettext("The prompt has %(count)s characters; %(max_prompt_characters)s fit.")
            % {"count": len(workload.prompt), "max_prompt_characters": MAX_PROMPT_CHARACTERS},
        )
    if not isinstance(workload.seed, int) or isinstance(workload.seed, bool) or not 0 <= workload.seed < 2**31:
        raise SpecError("seed", gettext("Enter a whole number from 0 to %(most)s.") % {"most": 2**31 - 1})
    threads = workload.threads
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise SpecError("threads", gettext("Enter a whole number from 1 to 1024, or leave it out."))
    if workload.attn_implementation not in ATTENTION:
        raise SpecError("attn_implementation", gettext("Choose %(choices)s.") % {"choices": either(ATTENTION)})
    _check_devices(workload)
    limit = workload.time_limit_s
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 1 <= limit <= 86_400:
        raise SpecError("time_limit_s", gettext("Enter seconds from 1 to 86400."))


def _check_devices(workload: Workload) -> None:
    """Degrees that do not go together, whatever the model."""
    values = workload.to_json()
    devices = devices_of(values)
    if devices > MAX_DEVICES:
        largest = max(("tensor_parallel", "pipeline_parallel", "data_parallel"), key=lambda name: values[name])
        raise SpecError(
            largest,
            gettext("These are %(devices)s devices together: at most %(max_devices)s are estimated.")
            % {"devices": f"{devices:,}", "max_devices": f"{MAX_DEVICES:,}"},
        )
    Plan.of(workload)


def stored_bytes(model: LanguageModel, workload: Workload) -> int | None:
    """Weights and cache in the workload's format, from what the engine said of the model; ``None`` while it has not been asked.

    A lower bound of what a run needs: activations come on top.
    """
    facts = model.facts or {}
    weights = (facts.get("weight_bytes") or {}).get(workload.dtype)
    if weights is None:
        if model.parameters is None:
            return None
        weights = model.parameters * DTYPE_BYTES[workload.dtype]
    per_token = (facts.get("kv_cache_bytes_per_token") or {}).get(workload.dtype) or 0
    return int(weights + per_token * workload.batch_size * (workload.input_tokens + workload.output_tokens))
