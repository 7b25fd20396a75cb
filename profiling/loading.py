"""Real models in memory: random weights built in their dtype, or local safetensors; tokenizer; the check that it fits.

No code of a repository is ever run, nothing is fetched, and no pickle is opened.
"""

from __future__ import annotations

import contextlib
import copy
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from profiling import folders, host
from profiling.build import TORCH_DTYPES, Built, cached_build, resolve
from profiling.failures import EngineError, describe
from profiling.gguf_files import gguf_tokenizer, is_gguf, load_gguf
from profiling.quantities import say
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload

MEASURED_KINDS = ("decoder", "ssm", "encoder", "encdec")
TOKENIZER_LIMIT_S = 60.0
#: Above this magnitude a random parameter is memory that no initialiser touched.
INSANE_WEIGHT = 1e4


@dataclass(frozen=True)
class Need:
    """Bytes that a run will need at least, and what is free."""

    weights: int
    cache: int
    logits: int
    available: int | None

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.logits


def choose_device(hardware: HardwareSpec) -> torch.device:
    """Where to run: the processor for CPU hardware, else the accelerator that torch sees. Raises when there is none."""
    if hardware.kind == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if hardware.kind == "soc":
        return torch.device("cpu")
    message = f"torch sees no accelerator on this host, so nothing can be measured on {hardware.name} here."
    raise EngineError(phase="start", kind="missing", field="hardware", message=message)


def check_fits(model: ModelSpec, workload: Workload, device: torch.device) -> tuple[Built, Need]:
    """Build the structure without weights and compare what the run will need with what is free, before anything is loaded.

    Counts weights, key/value cache and the logits of one step; activations come on top, so a run that passes can still run out
    (the memory watch ends it then). Raises :class:`EngineError` of kind ``memory`` with the numbers.
    """
    from profiling.inspection import inspect_model

    built = cached_build(model, workload.dtype, workload.attn_implementation)
    per_token = (inspect_model(model).get("kv_cache_bytes_per_token") or {}).get(workload.dtype) or 0
    tokens = workload.input_tokens + max(0, workload.output_tokens - 1)
    size, ranks = TORCH_DTYPES[workload.dtype].itemsize, workload.tensor_parallel
    positions = workload.input_tokens if workload.logits == "all" else 1
    vocabulary = getattr(built.config.get_text_config(), "vocab_size", 0) if model.kind != "encoder" else 0
    need = Need(
        weights=built.weight_bytes,
        cache=workload.batch_size * tokens * per_token,
        logits=workload.batch_size * positions * (vocabulary or 0) * size,
        available=free_memory(device),
    )
    if ranks > 1 and device.type == "cuda":  # of each device at least; what cannot be divided is more
        need = replace(need, weights=need.weights // ranks, cache=need.cache // ranks)
    elif ranks > 1:  # processes of one machine: each has all logits
        need = replace(need, logits=need.logits * ranks)
    if need.available is not None and need.total > need.available:
        raise EngineError(
            phase="load",
            kind="memory",
            field="model",
            message=(
                f"{model.name} needs at least {say(need.total, 'B')} in {workload.dtype} (weights {say(need.weights, 'B')}, cache "
                f"{say(need.cache, 'B')}, logits {say(need.logits, 'B')}), but {say(need.available, 'B')} are free here. "
                "Choose a smaller model, dtype, batch or context; an estimate needs no memory."
            ),
        )
    return built, need


def check_context(model: ModelSpec, built: Built, workload: Workload) -> None:
    """Refuse what does not fit into the model's context, at the field that says so."""
    limit = built.max_context
    if limit is None:
        return
    if model.kind == "encoder":
        longest = workload.input_tokens
    elif model.kind == "encdec":
        longest = max(workload.input_tokens, workload.output_tokens)
    else:
        longest = workload.input_tokens + workload.output_tokens
    if longest > limit:
        raise SpecError(
            "prompt" if workload.prompt is not None else "prompts" if workload.prompts is not None else "input_tokens",
            f"{workload.input_tokens} input and {workload.output_tokens} output tokens are more than the context of "
            f"{limit} tokens that {model.name} has. Use fewer.",
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free where ``device`` keeps its tensors; None: unknown. Of several GPUs the first stands for all: to ask another one
    takes memory of it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return host.available_memory()


def load(model: ModelSpec, workload: Workload, device: torch.device) -> Any:
    """The model in evaluation mode on ``device``; raises :class:`EngineError` (phase ``load``) or :class:`SpecError`."""
    if model.weights == "local":
        check_files(model)
        loaded = _load_local(model, workload)
        if not is_gguf(model.weights_path):
            own_memory(loaded)
        check_files(model)  # what was loaded is what was checked
    else:
        loaded = _build_random(model, workload, device)
    return loaded.to(device).eval().requires_grad_(False)


def check_files(model: ModelSpec) -> folders.Found | None:
    """What lies in a registered folder, which must be what the run was asked for with; None for weights that are in none."""
    if model.weights_root is None:
        return None
    try:
        found = folders.used(Path(model.weights_root), Path(model.weights_path or ""))
    except SpecError as error:
        raise EngineError(phase="load", kind="missing", field="model", message=str(error)) from error
    if model.weights_digest and found.digest != model.weights_digest:
        message = f"The files of {model.name} are not those that the run was asked for with: they were changed since. Start it anew."
        raise EngineError(phase="load", kind="config", field="model", message=message)
    return found


def own_memory(loaded: Any) -> None:
    """Copy each parameter out of the mapped file. Mapped pages would be read from disk during the first calls, and count nowhere."""
    for parameter in loaded.parameters():
        if hasattr(
            parameter, "_local_tensor"
        ):  # of one divided over devices, the part that is here, which is a view of the whole
            parameter._local_tensor = parameter._local_tensor.clone(memory_format=torch.contiguous_format)
        else:
            parameter.data = parameter.data.clone()


def _load_local(model: ModelSpec, workload: Workload) -> Any:
    folder = Path(model.weights_path or "")
    if is_gguf(model.weights_path) and folder.is_file():
        config, model_class = resolved(model)
        dtype = TORCH_DTYPES[workload.dtype]
        return load_gguf(str(folder), config, model_class, dtype, workload.attn_implementation)
    config, model_class = resolved(model)
    options = {
        "config": config,
        "dtype": TORCH_DTYPES[workload.dtype],
        "attn_implementation": workload.attn_implementation,
    }
    return load_folder(model, model_class, options)


def load_folder(model: ModelSpec, model_class: Any, options: Mapping[str, Any]) -> Any:
    """The model of a folder of safetensors; ``options`` of ``from_pretrained`` besides those that keep it to what lies there."""
    folder = Path(model.weights_path or "")
    if not model.weights_path or not folder.is_dir():
        message = f"The folder with the weights of {model.name} is not on this host. Prepare the weights again."
        raise EngineError(phase="load", kind="missing", field="model", message=message)
    if not any(folder.glob("*.safetensors")):
        message = f"The weights of {model.name} are not safetensors; no other format is loaded."
        raise EngineError(phase="load", kind="unsupported", field="model", message=message)
    kept = {
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    try:
        loaded, info = model_class.from_pretrained(folder, **options, **kept)
    except (OSError, RuntimeError, KeyError) as error:
        message = f"The weights of {model.name} could not be loaded. {describe(error)}"
        raise EngineError(phase="load", kind="missing", field="model", message=message) from error
    absent = sorted(info.get("missing_keys") or []) + sorted(str(key) for key in info.get("mismatched_keys") or [])
    if absent:
        message = f"The weights of {model.name} do not fit its configuration: {', '.join(absent[:5])}."
        raise EngineError(phase="load", kind="config", field="model", message=message)
    return loaded


def _build_random(model: ModelSpec, workload: Workload, device: torch.device) -> Any:
    """Built directly in the target dtype and on the accelerator, so no second copy exists anywhere (drawing the numbers of 8 billion
    parameters on a processor takes minutes); initialised by the model's own rule, once and seeded."""
    from transformers.initialization import no_init_weights

    config, model_class = resolved(model)
    torch.manual_seed(workload.seed)
    options = {"dtype": TORCH_DTYPES[workload.dtype], "attn_implementation": workload.attn_implementation}
    place: Any = contextlib.nullcontext() if device.type == "cpu" else torch.device(device)
    with place:
        with no_init_weights():
            loaded = model_class._from_config(config, **options)
        loaded.init_weights()
    tame(loaded.parameters())
    return loaded


def tame(parameters: Iterable[torch.Tensor]) -> None:
    """Draw anew what no initialiser touched: such memory holds anything."""
    with torch.no_grad():
        for parameter in parameters:
            if not float(parameter.abs().max()) < INSANE_WEIGHT:  # also true for NaN
                parameter.normal_(0.0, 0.02)


def resolved(model: ModelSpec) -> tuple[Any, Any]:
    """(a configuration of its own, class) of the model."""
    config, model_class = resolve(model)
    return copy.deepcopy(config), model_class


@dataclass(frozen=True)
class Inputs:
    """Token ids [batch, tokens], where they come from, and the tokens that end a sequence (empty: none ends it).

    ``mask`` [batch, tokens]: 1 for a token, 0 for padding; None where there is no padding. ``lengths``: tokens of each sequence without it.
    """

    ids: torch.Tensor
    prompt: str | None
    tokenizer: Any
    stop: frozenset[int]
    chat_template: bool
    mask: torch.Tensor | None = None
    lengths: tuple[int, ...] | None = None

    @property
    def read(self) -> int:
        """Tokens of the whole batch, padding left out."""
        return sum(self.lengths) if self.lengths is not None else self.ids.numel()


def prepare_inputs(model: ModelSpec, loaded: Any, workload: Workload, device: torch.device) -> Inputs:
    """The prompt as tokens (through the chat template of an instruct model), or seeded random ids when there is no prompt.

    With random ids every sequence is generated to its full length; with a prompt it ends at the end-of-sequence token.
    """
    if workload.prompt is None:
        vocabulary = loaded.config.get_text_config().vocab_size
        generator = torch.Generator().manual_seed(workload.seed)
        shape = (workload.batch_size, workload.input_tokens)
        ids = torch.randint(0, vocabulary, shape, generator=generator)
        return Inputs(ids.to(device), None, None, frozenset(), False)
    tokenizer, (tokens,), templated = tokenized(model, [workload.prompt])
    if not tokens:
        raise SpecError("prompt", "The prompt has no tokens. Write some text.")
    ids = torch.tensor([tokens] * workload.batch_size)
    return Inputs(ids.to(device), workload.prompt, tokenizer, stop_tokens(loaded, tokenizer), templated)


def tokenized(model: ModelSpec, prompts: Sequence[str]) -> tuple[Any, list[list[int]], bool]:
    """The tokenizer of ``model``, the tokens of each prompt, and whether they went through its chat template (as questions of a user)."""
    tokenizer = tokenizer_of(model)
    found = []
    with _at_most(TOKENIZER_LIMIT_S, "tokenize"):
        templated = has_template(tokenizer, model)
        for prompt in prompts:
            if templated:
                found.append(conversation(tokenizer, [{"role": "user", "content": prompt}]))
            else:
                found.append(list(tokenizer(prompt)["input_ids"]))
    return tokenizer, found, templated


def has_template(tokenizer: Any, model: ModelSpec) -> bool:
    """Whether prompts of ``model`` are questions of a user, put into its chat template."""
    return bool(getattr(tokenizer, "chat_template", None)) and model.kind == "decoder"


def conversation(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """The tokens of a conversation through the chat template, up to where the model answers."""
    encoded = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def check_prompt(model: ModelSpec, workload: Workload) -> None:
    """Refuse a prompt where there is no tokenizer to read it, before anything is loaded."""
    given = workload.prompt is not None or workload.prompts is not None
    if given and (model.weights != "local" or not model.weights_path):
        raise SpecError(
            "prompt" if workload.prompts is None else "prompts",
            f"{model.name} runs with random weights and has no tokenizer, so it cannot read a prompt. "
            "Clear the prompt and give a number of input tokens, or choose a model with real weights.",
        )


def tokenizer_of(model: ModelSpec) -> Any:
    """The tokenizer that lies beside the weights. Raises :class:`EngineError` (phase ``tokenize``) where there is none."""
    import transformers

    try:
        with _at_most(TOKENIZER_LIMIT_S, "tokenize"):
            if is_gguf(model.weights_path):
                return gguf_tokenizer(model.weights_path or "")
            return transformers.AutoTokenizer.from_pretrained(
                model.weights_path, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError) as error:
        message = f"The tokenizer of {model.name} could not be loaded. {describe(error)}"
        raise EngineError(phase="tokenize", kind="missing", field="model", message=message) from error


def stop_tokens(loaded: Any, tokenizer: Any) -> frozenset[int]:
    generation = getattr(loaded, "generation_config", None)
    for source in (generation, loaded.config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        if value is not None:
            return frozenset(value if isinstance(value, (list, tuple)) else [value])
    return frozenset()


@contextlib.contextmanager
def _at_most(seconds: float, phase: str) -> Iterator[None]:
    """End Python code (a chat template is a program) after ``seconds``. Only the main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def expired(number: int, frame: Any) -> None:
        message = f"The tokenizer or chat template took more than {seconds:g} s and was stopped. Try a shorter prompt."
        raise EngineError(phase=phase, kind="timeout", field="prompt", message=message)

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
