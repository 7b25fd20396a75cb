"""Units and definitions: what every number in a run document is called, counts in and means. Standard library only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: The closed table of units: symbol → in words. Times are seconds, sizes bytes, rates per second.
UNITS: dict[str, str] = {
    "s": "seconds",
    "ns": "nanoseconds",
    "B": "bytes",
    "B/s": "bytes per second",
    "FLOP": "floating-point operations (a multiply-add is 2)",
    "FLOP/s": "floating-point operations per second",
    "FLOP/B": "floating-point operations per byte moved",
    "token/s": "tokens per second",
    "J/token": "joules per token",
    "token": "tokens",
    "request/s": "requests per second",
    "kWh": "kilowatt-hours",
    "money": "the currency in which a price was entered",
    "1": "a plain ratio",
}


@dataclass(frozen=True)
class Definition:
    """What a metric means. ``better``: which direction is an improvement, ``lower`` or ``higher``."""

    name: str
    unit: str
    formula: str
    better: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


#: Definition id → definition. A changed meaning gets a new number after the slash; an old id never changes.
DEFINITIONS: dict[str, Definition] = {
    "ttft/1": Definition(
        "Time to first token",
        "s",
        "From the start of the forward pass over the prompt to the first output token; without queueing and tokenizing.",
        "lower",
    ),
    "tpot/1": Definition(
        "Time per output token",
        "s",
        "Time of all decode steps divided by their number (output tokens − 1): the first token belongs to the time to first token.",
        "lower",
    ),
    "itl/1": Definition(
        "Inter-token latency", "s", "Time between two consecutive output tokens of one sequence.", "lower"
    ),
    "e2e_latency/1": Definition(
        "End-to-end latency", "s", "Time to first token plus the time of all decode steps.", "lower"
    ),
    "prefill_time/1": Definition(
        "Prefill time",
        "s",
        "Time of one forward pass over the whole prompt (for encoder-decoder models: the encoder and the first decoder step).",
        "lower",
    ),
    "decode_time_per_step/1": Definition(
        "Decode step time",
        "s",
        "Time of the one decode step that has the whole prompt and half of the output in the cache.",
        "lower",
    ),
    "prefill_throughput/1": Definition(
        "Prefill throughput", "token/s", "Batch size × prompt tokens ÷ prefill time.", "higher"
    ),
    "decode_throughput/1": Definition(
        "Decode throughput", "token/s", "Batch size × decode steps ÷ time of all decode steps.", "higher"
    ),
    "output_throughput/1": Definition(
        "Output throughput", "token/s", "Batch size × output tokens ÷ end-to-end latency.", "higher"
    ),
    "interactivity/1": Definition(
        "Interactivity",
        "token/s",
        "Output tokens per second that one sequence sees: 1 ÷ time per output token.",
        "higher",
    ),
    "device_throughput/1": Definition(
        "Output throughput per device", "token/s", "Output throughput ÷ devices of the deployment.", "higher"
    ),
    "cost_per_million_tokens/1": Definition(
        "Cost per million output tokens",
        "money",
        "Price per device-hour that was entered × devices × end-to-end latency ÷ (batch size × output tokens) × 10⁶; the prompt's work "
        "is in it, time in which the devices idle is not.",
        "lower",
    ),
    "energy_per_million_tokens/1": Definition(
        "Energy per million output tokens",
        "kWh",
        "Power per device that was entered × devices × end-to-end latency ÷ (batch size × output tokens) × 10⁶.",
        "lower",
    ),
    "package_energy_per_token/1": Definition(
        "Processor energy per token",
        "J/token",
        "Energy of all processor packages (RAPL) during the timed iterations ÷ their output tokens (of an encoder: tokens read). Idle power "
        "and whatever else ran on them are in it; memory outside the packages is not.",
        "lower",
    ),
    "gpu_energy_per_token/1": Definition(
        "Accelerator energy per token",
        "J/token",
        "Power of the whole board (nvidia-smi) × time during the timed iterations ÷ their output tokens (of an encoder: tokens read). Idle "
        "power is in it.",
        "lower",
    ),
    "encode_time/1": Definition("Encode time", "s", "Time of one forward pass of an encoder over its input.", "lower"),
    "replay_ttft/1": Definition(
        "Time to first token, predicted by replay",
        "s",
        "Times of the operators of the pass over the prompt, each timed alone on this host or interpolated, plus what Python and the dispatcher "
        "take between them; on a GPU the longer of both. Predicted: no pass of the model ran.",
        "lower",
    ),
    "replay_tpot/1": Definition(
        "Time per output token, predicted by replay",
        "s",
        "Times of the operators of the one decode step that has the whole prompt and half of the output in the cache, each timed alone on this "
        "host or interpolated, plus what Python and the dispatcher take between them; on a GPU the longer of both. Predicted: no pass of the "
        "model ran.",
        "lower",
    ),
    "replay_e2e_latency/1": Definition(
        "End-to-end latency, predicted by replay",
        "s",
        "Time to first token + (output tokens − 1) × time per output token, both predicted by replay. Predicted: no pass of the model ran.",
        "lower",
    ),
    "replay_encode_time/1": Definition(
        "Encode time, predicted by replay",
        "s",
        "Times of the operators of one forward pass of an encoder, each timed alone on this host or interpolated, plus what Python and the "
        "dispatcher take between them; on a GPU the longer of both. Predicted: no pass of the model ran.",
        "lower",
    ),
    "encode_throughput/1": Definition(
        "Encode throughput", "token/s", "Batch size × input tokens ÷ encode time.", "higher"
    ),
    "peak_memory/1": Definition(
        "Peak memory",
        "B",
        "Weights + cache at its largest + constant state + peak of the activations alive at one moment. Measured in a pass of its "
        "own, prefill and decode after the warm-up: on an accelerator what its allocator gave out; on a processor the memory of the "
        "process above what it held before loading, without pages of files. Buffers inside libraries are in the latter alone.",
        "lower",
    ),
    "load_time/1": Definition("Load time", "s", "Time to build the model and put its weights in memory.", "lower"),
    "mfu_prefill/1": Definition(
        "Model FLOP utilisation, prefill",
        "1",
        "FLOPs of the prefill ÷ (prefill time × peak rate of the hardware in the data type used).",
        "higher",
    ),
    "mbu_decode/1": Definition(
        "Memory bandwidth utilisation, decode",
        "1",
        "(Bytes of weights and cache that one decode step reads) ÷ (time of that step × memory bandwidth).",
        "higher",
    ),
    "endpoint_ttft/1": Definition(
        "Time to first token of an endpoint",
        "s",
        "From the moment at which a request was due (in a closed loop: free to be sent) until the first event arrived here that holds "
        "text, reasoning or part of a function call. Network, gateway and the server's queue are in it. One value a request.",
        "lower",
    ),
    "endpoint_first_event/1": Definition(
        "Time to first event of an endpoint",
        "s",
        "From the moment at which a request was due until anything of the stream arrived here, also an event that only names the role. "
        "One value a request.",
        "lower",
    ),
    "endpoint_tpot/1": Definition(
        "Time per output token of an endpoint",
        "s",
        "(Arrival of the last event with output − arrival of the first) ÷ (output tokens − 1), tokens as the server reports them, without "
        "reasoning that it does not send. One value a request; requests of one token, or whose tokens the server does not report, have none.",
        "lower",
    ),
    "endpoint_tpot/2": Definition(
        "Time per output token of an endpoint",
        "s",
        "(Arrival of the last output token − arrival of the first event with output) ÷ (output tokens − 1), tokens as the server reports "
        "them, without reasoning that it does not send. The last token arrives with the last event with output; where the model ended its "
        "answer itself and more tokens are counted than events with output came, with the event that says so: the token that ends an answer "
        "is counted and has no text. One value a request; requests of one token, of one event with output, or whose tokens nobody counted, "
        "have none.",
        "lower",
    ),
    "endpoint_e2e_latency/1": Definition(
        "End-to-end latency of an endpoint",
        "s",
        "From the moment at which a request was due until the last event with output arrived here. One value a request.",
        "lower",
    ),
    "inter_chunk_latency/1": Definition(
        "Inter-chunk latency",
        "s",
        "Time between two events with output of one answer. An event can hold several tokens: this is not the time per token.",
        "lower",
    ),
    "request_ttft/1": Definition(
        "Time to first token under load",
        "s",
        "From the moment at which a request was due (its drawn arrival; in a closed loop the end of the user's request before) to its "
        "first token, waiting in the queue included. One value a request.",
        "lower",
    ),
    "request_tpot/1": Definition(
        "Time per output token under load",
        "s",
        "(Last token − first token) ÷ (output tokens − 1) of a request. One value a request, whatever its length; requests of one token "
        "have none.",
        "lower",
    ),
    "request_e2e_latency/1": Definition(
        "End-to-end latency under load",
        "s",
        "From the moment at which a request was due to its last token, waiting in the queue included. One value a request.",
        "lower",
    ),
    "request_queue_time/1": Definition(
        "Time in the queue",
        "s",
        "From the moment at which a request was due until the server began its batch. One value a request.",
        "lower",
    ),
    "request_throughput/1": Definition(
        "Request throughput",
        "request/s",
        "Requests served ÷ time from the first arrival to the last token.",
        "higher",
    ),
    "request_output_throughput/1": Definition(
        "Output throughput under load",
        "token/s",
        "Output tokens of all requests served ÷ time from the first arrival to the last token.",
        "higher",
    ),
    "request_goodput/1": Definition(
        "Goodput",
        "request/s",
        "Requests that met every objective ÷ time from the first arrival to the last token. A request that was due and not served "
        "met none.",
        "higher",
    ),
    "goodput_share/1": Definition(
        "Share of requests within objectives",
        "1",
        "Requests that met every objective ÷ all requests that were due.",
        "higher",
    ),
}


#: Key → the id in force: the one with the highest number.
_CURRENT = {
    identifier.partition("/")[0]: identifier
    for identifier in sorted(DEFINITIONS, key=lambda identifier: int(identifier.partition("/")[2]))
}


def current(key: str) -> str:
    """Id of the definition of ``key`` that is in force. Raises :class:`KeyError`."""
    return _CURRENT[key]


def metric(key: str, value: float | None, origin: str, **extra: Any) -> dict[str, Any]:
    """A metric of a run document: value, unit and definition id of the definition in force of ``key``."""
    definition_id = current(key)
    return {
        "value": value,
        "unit": DEFINITIONS[definition_id].unit,
        "origin": origin,
        "definition": definition_id,
        **extra,
    }
