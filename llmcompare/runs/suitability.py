"""Whether a model, a place and a workload go together: what the device, the host or the model itself would refuse, said at the field beforehand."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext

from hardware.models import Hardware, Host
from llmcompare.catalog.folders import problem_of
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.saying import said
from llmcompare.runs.models import Run
from llmcompare.runs.options import OPTIONS, Option
from llmcompare.runs.queues import live_hosts
from profiling.limits import check_context
from profiling.spec import WORKLOAD_DTYPES, SpecError, Workload

#: Kinds of model that read text and generate none; and those that take text at all, so that this host can measure them.
READ_ONLY_KINDS = ("encoder", "vision")
MEASURED_KINDS = ("decoder", "ssm", "encoder", "encdec")
#: Kinds of hardware → the device of torch on which its operators can be timed alone.
REPLAY_DEVICES = {Hardware.Kind.CPU.value: "cpu", Hardware.Kind.GPU.value: "cuda"}


def either(names: Iterable[str]) -> str:
    """Names between which one may choose."""
    return gettext(" or ").join(names)


def place(kind: str, hardware: Hardware | None, host: Host | None) -> tuple[Hardware | None, dict[str, str]]:
    """The hardware to calculate with: the chosen one, or that of the chosen host."""
    if kind == Run.Kind.MEASURE and host is None:
        return hardware, {"host": gettext("Choose the host to measure on: a machine with a worker.")}
    if host is None:
        return hardware, {} if hardware else {"hardware": gettext("Choose the hardware to estimate for.")}
    if host.hardware is None:
        return None, {
            "host": gettext("%(host)s has not said yet what hardware it is. Try again in a moment.") % {"host": host}
        }
    if hardware is not None and hardware.pk != host.hardware_id:
        return None, {
            "hardware": gettext("%(host)s is a %(hardware)s, not a %(hardware2)s. Choose one of the two.")
            % {"host": host, "hardware": host.hardware, "hardware2": hardware}
        }
    if kind == Run.Kind.MEASURE:
        return host.hardware, _check_host(host)
    return host.hardware, {}


def _check_host(host: Host) -> dict[str, str]:
    if not host.has_engine:
        note = said(host.engine_note) or gettext("its worker cannot import torch and transformers.")
        text = gettext("%(host)s cannot measure: %(note)s Estimates still work.")
        return {"host": text % {"host": host, "note": note}}
    if host not in live_hosts(host.queue):
        return {
            "host": gettext("%(host)s is offline: start its worker, or choose another host. Estimates still work.")
            % {"host": host}
        }
    return {}


def check_length(model: LanguageModel, workload: Workload) -> dict[str, str]:
    """Prompt and output must fit into what the model was made for; with a prompt the engine counts its tokens."""
    given, wanted, limit = workload.input_tokens, workload.output_tokens, model.max_context
    if workload.prompt or workload.prompts:
        given = 0
    # An encoder-decoder keeps what it reads and what it writes apart, each as long as the context.
    needed = max(given, wanted) if model.kind == "encdec" else given + wanted
    if limit is None or needed <= limit:
        return {}
    at = "input_tokens" if given >= wanted else "output_tokens"
    if needed in (given, wanted):
        return {
            at: gettext(
                "%(name)s can handle %(limit)s tokens, fewer than the %(needed)s asked for. Enter at most %(limit)s."
            )
            % {"name": model.name, "limit": limit, "needed": needed}
        }
    return {
        at: gettext(
            "%(given)s input and %(wanted)s output tokens make %(needed)s, more than the %(limit)s of context that %(model)s has. "
            "Shorten the input or the output by %(excess)s."
        )
        % {
            "given": given,
            "wanted": wanted,
            "needed": needed,
            "limit": limit,
            "model": model.name,
            "excess": needed - limit,
        }
    }


def check_estimable(model: LanguageModel, workload: Workload) -> dict[str, str]:
    """Options that say nothing to this kind of model: the engine would refuse them, too, but only once it has built the model."""
    try:
        check_context(model.kind, model.max_context, workload)
    except SpecError as error:
        return {error.field: said(str(error))}
    return {}


def check_rate(hardware: Hardware, host: Host | None, workload: Workload) -> dict[str, str]:
    """An estimate of time needs a rate for the format. A device of which no rate is known at all still gets its memory estimate."""
    known = {name for name, rate in hardware.peak_flops.items() if rate}
    if host is not None:
        known |= set(host.ceilings.filter(op_class="gemm").values_list("dtype", flat=True))
    usable = [name for name in WORKLOAD_DTYPES if name in known]
    if workload.dtype in known or not usable:
        return {}
    return {
        "dtype": gettext("No %(dtype)s rate is known for %(hardware)s. Choose %(choices)s.")
        % {"dtype": workload.dtype, "hardware": hardware, "choices": either(usable)}
    }


def check_measurable(model: LanguageModel, workload: Workload) -> dict[str, str]:
    if model.kind not in MEASURED_KINDS:
        text = gettext("%(model)s (%(kind)s) takes no text, so it cannot be measured here. An estimate works.")
        return {"model": text % {"model": model.name, "kind": model.get_kind_display()}}
    if model.weights == LanguageModel.Weights.PREPARING:
        text = (
            gettext(
                "The real weights of %(model)s are still being fetched from the Hub. Try again shortly. "
                "An estimate works at once."
            )
            if model.hub
            else gettext(
                "The real weights of %(model)s are still being prepared (about half a minute). Try again shortly. "
                "An estimate works at once."
            )
        )
        return {"model": text % {"model": model.name}}
    if problem := problem_of(model):
        return {"model": problem}
    errors = {}
    if (workload.prompt or workload.prompts) and model.weights != LanguageModel.Weights.LOCAL:
        errors["prompts" if workload.prompts else "prompt"] = gettext(
            "%(name)s runs with random weights and has no tokenizer, so it cannot read a prompt. Clear it and give a number of input tokens, or choose a model with real weights."
        ) % {"name": model.name}
    if model.kind not in READ_ONLY_KINDS and not workload.output_tokens:
        errors["output_tokens"] = gettext("Ask for at least 1 output token: this model generates text.")
    return errors | _check_only_estimated(workload)


def shares_machine(host: Host, workload: Workload) -> bool:
    """Whether a measurement there would run as several processes on the same processors, in place of several devices."""
    return workload.tensor_parallel > 1 and not host.details.get("accelerators")


def check_divisible(model: LanguageModel, host: Host, workload: Workload) -> dict[str, str]:
    """What keeps a measurement on ``host`` from being divided over so many devices; the engine looks at the model's plan besides."""
    size, accelerators = workload.tensor_parallel, host.details.get("accelerators") or []
    if size == 1:
        return {}
    cores = host.details.get("cores_physical")
    if accelerators and len(accelerators) < size:
        text = gettext("GPUs of %(host)s: %(count)s. Enter at most as many.")
        return {"tensor_parallel": text % {"host": host, "count": len(accelerators)}}
    if len({device.get("name") for device in accelerators[:size]}) > 1:
        text = gettext(
            "The GPUs of %(host)s are of different kinds, and a share of the model on each would wait for the slowest. Enter 1."
        )
        return {"tensor_parallel": text % {"host": host}}
    if not accelerators and isinstance(cores, int) and cores < size:
        text = gettext("Cores of %(host)s: %(count)s, and each process needs one at least. Enter at most as many.")
        return {"tensor_parallel": text % {"host": host, "count": cores}}
    of_text = model.config.get("text_config")
    heads = (of_text if isinstance(of_text, dict) else model.config).get("num_key_value_heads")
    if isinstance(heads, int) and heads % size:
        text = gettext("The %(heads)s key/value heads of %(model)s cannot be divided among %(size)s devices.")
        return {"tensor_parallel": text % {"heads": heads, "model": model.name, "size": size}}
    return {}


def _check_only_estimated(workload: Workload) -> dict[str, str]:
    """A measurement runs the whole model as it is: what it would not follow is refused, not ignored."""
    errors = {}
    for option in _only_estimated(workload):
        text = gettext("A measurement does not have this option: leave it at %(default)s, or run an estimate.")
        if option.default is None:
            text = gettext("A measurement does not have this option: leave it out, or run an estimate.")
        errors[option.name] = text % {"default": option.default}
    return errors


def _only_estimated(workload: Workload) -> list[Option]:
    values = workload.to_json()
    return [option for option in OPTIONS if not (option.measured or option.beside or option.is_plain(values))]


def _not_replayed(workload: Workload) -> list[Option]:
    """A replay has no more options than a measurement on one device."""
    divided = [option for option in OPTIONS if option.name == "tensor_parallel" and workload.tensor_parallel > 1]
    return _only_estimated(workload) + divided


def check_replay(kind: str, model: LanguageModel, host: Host | None, workload: Workload) -> dict[str, str]:
    """Whether the operators of an estimate can be timed alone on its host: they are called as transformers calls them, on one device."""
    if kind != Run.Kind.ESTIMATE:
        return {
            "replay": gettext(
                "Only an estimate can have a prediction by replay beside it: leave this out, or estimate."
            )
        }
    if host is None:
        return {
            "replay": gettext(
                "Operators are timed on a real machine: choose one of the hosts here as hardware, or leave this out."
            )
        }
    if model.kind not in MEASURED_KINDS:
        text = gettext(
            "%(model)s (%(kind)s) takes no text, so its operators cannot be timed alone here. Leave this out."
        )
        return {"replay": text % {"model": model.name, "kind": model.get_kind_display()}}
    if host.hardware is not None and host.hardware.kind not in REPLAY_DEVICES:
        text = gettext("Operators are timed on processors and GPUs, and %(host)s is neither. Leave this out.")
        return {"replay": text % {"host": host}}
    if unable := _check_host(host):
        return {"replay": unable["host"]}
    errors = {
        option.name: gettext(
            "Operators are replayed as transformers calls them, which does not have this option: leave it out, or do without replay."
        )
        for option in _not_replayed(workload)
    }
    if model.kind not in READ_ONLY_KINDS and not workload.output_tokens:
        errors["output_tokens"] = gettext("Ask for at least 1 output token: this model generates text.")
    return errors
