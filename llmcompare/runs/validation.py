"""What a run may be asked to do: every input is checked for meaning, and every problem is said at its field.

Shared by ``launch_run`` and the preview of the new-run page, so that both refuse the same things with the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hardware.models import Hardware, Host
from hardware.services import host_spec
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.runs.models import Run
from llmcompare.runs.options import ATTENTION, OPTIONS, devices_of
from llmcompare.runs.queues import live_hosts
from profiling.limits import check_context
from profiling.load import Load, bounds
from profiling.parallel import Plan
from profiling.protocol import Protocol
from profiling.spec import DTYPE_BYTES, WORKLOAD_DTYPES, RunSpec, SpecError, Workload

#: Kinds of model that read text and generate none; and those that take text at all, so that this host can measure them.
READ_ONLY_KINDS = ("encoder", "vision")
MEASURED_KINDS = ("decoder", "ssm", "encoder", "encdec")

MAX_PROMPT_CHARACTERS = 200_000

#: Devices of one deployment: far more than anybody divides one model over, few enough for every check to be quick.
MAX_DEVICES = 65_536

#: Fresh processes of one measurement, and seconds that each repeats it at least.
MAX_PROCESSES, MAX_SECONDS = 20, 3600

#: Where one value is missing, the one that asks for it: without that, the rest of the workload can still be checked.
ASKED_BY = {"draft_acceptance": "draft_tokens"}


@dataclass(frozen=True)
class Inputs:
    """Checked inputs of a run. ``notes`` are sentences about what was adjusted, for the run's log and the preview."""

    kind: str
    model: LanguageModel
    hardware: Hardware
    host: Host | None
    workload: Workload
    protocol: Protocol | None = None
    against: Run | None = None
    load: Load | None = None
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
) -> Inputs:
    """The inputs as one checked value; raises :class:`FieldErrors` with everything that is wrong at once.

    ``protocol``: how a measurement is repeated; what it leaves out is as in :class:`profiling.protocol.Protocol`.
    ``against``: a measurement that it takes turns with, on the same host.
    ``load``: requests after the iterations, fields of :class:`profiling.load.Load` with ``load_`` before them; empty: none.
    """
    parsed, errors = _parse_workload(workload)
    repeated, wrong = _parse_protocol(kind, protocol or {})
    errors |= wrong | _check_against(kind, host, against)
    sent, wrong = _parse_load(kind, model, parsed, load or {})
    errors |= wrong
    if kind not in Run.Kind.values:
        raise FieldErrors(errors | {"kind": f"Choose one of {', '.join(Run.Kind.values)}."})
    hardware, place_errors = _place(kind, hardware, host)
    errors |= place_errors

    notes: list[str] = []
    if model.kind in READ_ONLY_KINDS and parsed.output_tokens:
        parsed = replace(parsed, output_tokens=0)
        reads = "images and generates nothing" if model.kind == "vision" else "text and generates none"
        notes.append(f"{model.name} is an encoder: it reads {reads}, so output tokens are 0.")
    too_long = _check_context(model, parsed)
    if kind == Run.Kind.ESTIMATE:
        too_long = too_long or _check_estimable(model, parsed)
        if hardware is not None:
            errors = _check_rate(hardware, host, parsed) | errors
    errors = too_long | errors
    if kind == Run.Kind.MEASURE:
        errors = _check_measurable(model, parsed) | errors
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
            errors[error.field] = str(error)
            taken = error.field if values.get(error.field) is not None else ASKED_BY.get(error.field, "")
            if taken not in values:  # nothing left to take out: the message stands alone
                raise FieldErrors(errors) from None
            del values[taken]


def _parse_protocol(kind: str, values: Mapping[str, Any]) -> tuple[Protocol | None, dict[str, str]]:
    """How a measurement is repeated; an estimate is not."""
    given = {name: value for name, value in values.items() if value is not None}
    if kind != Run.Kind.MEASURE:
        return None, dict.fromkeys(given, "An estimate is not repeated: leave this out, or measure.")
    try:
        protocol = Protocol.from_json(given)
        protocol.check()
        if protocol.processes > MAX_PROCESSES:
            raise SpecError("processes", f"Enter a whole number from 1 to {MAX_PROCESSES}.")
        if protocol.min_seconds > MAX_SECONDS:
            raise SpecError("min_seconds", f"Enter at most {MAX_SECONDS} seconds.")
    except SpecError as error:
        return None, {error.field: str(error)}
    return protocol, {}


def _parse_load(
    kind: str, model: LanguageModel, workload: Workload, values: Mapping[str, Any]
) -> tuple[Load | None, dict[str, str]]:
    """The load of a measurement, None where none was asked for; an estimate has none."""
    given = {name: value for name, value in values.items() if value not in (None, "")}
    if kind != Run.Kind.MEASURE:
        return None, dict.fromkeys(given, "Only a measurement can be put under load: leave this out, or measure.")
    if given and "load_mode" not in given:
        return None, {next(iter(given)): "Choose a load first: a closed loop or Poisson arrivals."}
    if not given:
        return None, {}
    if model.kind in READ_ONLY_KINDS:
        return None, {"load_mode": f"{model.name} generates no tokens, so it cannot be put under load."}
    if workload.prompt is not None:
        return None, {"load_mode": "A load sends arbitrary tokens of chosen lengths: clear the prompt, or choose none."}
    try:
        load = Load.from_json({name.removeprefix("load_"): value for name, value in given.items()})
        load.check()
    except SpecError as error:
        return None, {error.field: str(error)}
    into, out = bounds(load, workload.input_tokens, workload.output_tokens)
    drawn = "load_input_lengths" if load.input_lengths else "load_output_lengths"
    too_long = _check_context(model, replace(workload, input_tokens=into, output_tokens=out))
    if too_long and (load.input_lengths or load.output_lengths):
        return None, {drawn: f"The longest request: {next(iter(too_long.values()))}"}
    return load, {}


def _check_against(kind: str, host: Host | None, against: Run | None) -> dict[str, str]:
    """Turns are taken by two measurements of one host."""
    if against is None:
        return {}
    if kind != Run.Kind.MEASURE or against.kind != Run.Kind.MEASURE:
        return {"against": "Only measurements take turns: an estimate is the same whenever it is made."}
    if host is not None and against.host_id != host.pk:
        where = against.host or "a host that is gone"
        return {"against": f"{against} was measured on {where}: both take turns on one host. Choose that one."}
    return {}


def _check_options(workload: Workload) -> None:
    """What ``Workload.check`` leaves open: the optional fields."""
    if workload.prompt is not None and not isinstance(workload.prompt, str):
        raise SpecError("prompt", "The prompt must be text.")
    if workload.prompt is not None and len(workload.prompt) > MAX_PROMPT_CHARACTERS:
        raise SpecError("prompt", f"The prompt has {len(workload.prompt)} characters; {MAX_PROMPT_CHARACTERS} fit.")
    if not isinstance(workload.seed, int) or isinstance(workload.seed, bool) or not 0 <= workload.seed < 2**31:
        raise SpecError("seed", f"Enter a whole number from 0 to {2**31 - 1}.")
    threads = workload.threads
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise SpecError("threads", "Enter a whole number from 1 to 1024, or leave it out.")
    if workload.attn_implementation not in ATTENTION:
        raise SpecError("attn_implementation", f"Choose {' or '.join(ATTENTION)}.")
    _check_devices(workload)
    limit = workload.time_limit_s
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 1 <= limit <= 86_400:
        raise SpecError("time_limit_s", "Enter seconds from 1 to 86400.")


def _check_devices(workload: Workload) -> None:
    """Degrees that do not go together, whatever the model."""
    values = workload.to_json()
    devices = devices_of(values)
    if devices > MAX_DEVICES:
        largest = max(("tensor_parallel", "pipeline_parallel", "data_parallel"), key=lambda name: values[name])
        raise SpecError(largest, f"These are {devices:,} devices together: at most {MAX_DEVICES:,} are estimated.")
    Plan.of(workload)


def _place(kind: str, hardware: Hardware | None, host: Host | None) -> tuple[Hardware | None, dict[str, str]]:
    """The hardware to calculate with: the chosen one, or that of the chosen host."""
    if kind == Run.Kind.MEASURE and host is None:
        return hardware, {"host": "Choose the host to measure on: a machine with a worker."}
    if host is None:
        return hardware, {} if hardware else {"hardware": "Choose the hardware to estimate for."}
    if host.hardware is None:
        return None, {"host": f"{host} has not said yet what hardware it is. Try again in a moment."}
    if hardware is not None and hardware.pk != host.hardware_id:
        return None, {"hardware": f"{host} is a {host.hardware}, not a {hardware}. Choose one of the two."}
    if kind == Run.Kind.MEASURE:
        return host.hardware, _check_host(host)
    return host.hardware, {}


def _check_host(host: Host) -> dict[str, str]:
    if not host.has_engine:
        note = host.engine_note or "its worker cannot import torch and transformers."
        return {"host": f"{host} cannot measure: {note} Estimates still work."}
    if host not in live_hosts(host.queue):
        return {"host": f"{host} is offline: start its worker, or choose another host. Estimates still work."}
    return {}


def _check_context(model: LanguageModel, workload: Workload) -> dict[str, str]:
    """Prompt and output must fit into what the model was made for; with a prompt the engine counts its tokens."""
    given, wanted, limit = workload.input_tokens, workload.output_tokens, model.max_context
    if workload.prompt:
        given = 0
    # An encoder-decoder keeps what it reads and what it writes apart, each as long as the context.
    needed = max(given, wanted) if model.kind == "encdec" else given + wanted
    if limit is None or needed <= limit:
        return {}
    at = "input_tokens" if given >= wanted else "output_tokens"
    if needed in (given, wanted):
        return {
            at: f"{model.name} can handle {limit} tokens, fewer than the {needed} asked for. Enter at most {limit}."
        }
    return {
        at: f"{given} input and {wanted} output tokens make {needed}, more than the {limit} of context that {model.name} has. "
        f"Shorten the input or the output by {needed - limit}."
    }


def _check_estimable(model: LanguageModel, workload: Workload) -> dict[str, str]:
    """Options that say nothing to this kind of model: the engine would refuse them, too, but only once it has built the model."""
    try:
        check_context(model.kind, model.max_context, workload)
    except SpecError as error:
        return {error.field: str(error)}
    return {}


def _check_rate(hardware: Hardware, host: Host | None, workload: Workload) -> dict[str, str]:
    """An estimate of time needs a rate for the format. A device of which no rate is known at all still gets its memory estimate."""
    known = {name for name, rate in hardware.peak_flops.items() if rate}
    if host is not None:
        known |= set(host.ceilings.filter(op_class="gemm").values_list("dtype", flat=True))
    usable = [name for name in WORKLOAD_DTYPES if name in known]
    if workload.dtype in known or not usable:
        return {}
    return {"dtype": f"No {workload.dtype} rate is known for {hardware}. Choose {' or '.join(usable)}."}


def _check_measurable(model: LanguageModel, workload: Workload) -> dict[str, str]:
    if model.kind not in MEASURED_KINDS:
        text = f"{model.name} ({model.get_kind_display()}) takes no text, so it cannot be measured here."
        return {"model": f"{text} An estimate works."}
    if model.weights == LanguageModel.Weights.PREPARING:
        text = f"The real weights of {model.name} are still being prepared (about half a minute). Try again shortly."
        return {"model": f"{text} An estimate works at once."}
    errors = {}
    if workload.prompt and model.weights != LanguageModel.Weights.LOCAL:
        errors["prompt"] = (
            f"{model.name} runs with random weights and has no tokenizer, so it cannot read a prompt. "
            "Clear it and give a number of input tokens, or choose a model with real weights."
        )
    if model.kind not in READ_ONLY_KINDS and not workload.output_tokens:
        errors["output_tokens"] = "Ask for at least 1 output token: this model generates text."
    return errors | _check_only_estimated(workload)


def _check_only_estimated(workload: Workload) -> dict[str, str]:
    """A measurement runs the whole model as it is, on one device: what it would not follow is refused, not ignored."""
    values, errors = workload.to_json(), {}
    for option in OPTIONS:
        if not (option.measured or option.beside or option.is_plain(values)):
            leave = "leave it out" if option.default is None else f"leave it at {option.default}"
            errors[option.name] = f"A measurement does not have this option: {leave}, or run an estimate."
    return errors


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
