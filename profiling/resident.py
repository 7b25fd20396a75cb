"""A model that stays in memory and is measured request by request, with the document that :mod:`profiling.measure` makes.

The pass that makes the answer is the plain one, and the only one whose latency is published; what looks inside of the model (times of
modules, memory, operators) are passes of their own after it. One thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from profiling import conditions, loading
from profiling.byte_tokens import ByteTokens
from profiling.failures import EngineError, describe
from profiling.generation import Generation, Runner
from profiling.inspection import inspect_model
from profiling.loading import Inputs, check_context, check_fits, choose_device, conversation, has_template, stop_tokens
from profiling.measure import (
    complete,
    load_model,
    profile_operators,
    record_memory,
    say_logits,
    set_threads,
    time_modules,
    write,
)
from profiling.quantities import say
from profiling.sampling import MemoryRecord, release_unused
from profiling.session import Session
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload
from profiling.working_memory import WorkingMemory

#: Models that write text.
KINDS = ("decoder", "ssm", "encdec")
#: A request that needs less than this is not held against the memory that is free: asking takes time that it would wait for.
SMALL_NEED = 64 * 2**20
#: Tokens of the pass at the end of loading.
FIRST_TOKENS = 4

Check = Callable[[], None]


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Prompt:
    """What the model reads. ``text`` is what stands in documents; ``templated``: it went through the model's chat template."""

    text: str
    ids: tuple[int, ...]
    templated: bool


@dataclass
class Served:
    """An answer: its pass, with the tokens that came out, and what a document of it is made from."""

    session: Session
    inputs: Inputs
    runner: Runner
    generation: Generation

    @property
    def tokens(self) -> list[int]:
        """Ids of the answer; the token that ended it is the last."""
        return list(map(int, self.generation.ids[0]))

    @property
    def finish(self) -> str:
        """``stop``: the model ended its answer; ``length``: the limit of tokens did."""
        return "stop" if self.tokens[-1] in self.inputs.stop else "length"

    @property
    def times_ns(self) -> list[int]:
        """Begin of the pass and end of each token, of ``time.perf_counter_ns``."""
        return [stamp.wall_ns for stamp in self.generation.stamps]


@dataclass
class Resident:
    """A loaded model; made by :func:`load_resident`. ``warnings``: what documents say of it besides."""

    model: ModelSpec
    hardware: HardwareSpec
    workload: Workload
    device: torch.device
    threads: int
    built: Any
    module: Any
    tokenizer: Any
    memory: MemoryRecord
    load_s: float
    weight_bytes: int | None
    cache_bytes_per_token: float
    working: WorkingMemory
    warnings: list[dict[str, str]] = field(default_factory=list)

    @property
    def context(self) -> int | None:
        """Most tokens of prompt and answer together; None: no limit is known."""
        limit: int | None = self.built.max_context
        return limit

    def question(self, text: str) -> Prompt:
        """A prompt as measured runs read it: as a user's question where the model has a chat template."""
        if has_template(self.tokenizer, self.model):
            return self.conversation([{"role": "user", "content": text}])
        return self.continuation(text)

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> Prompt:
        """Messages (``role``, ``content``) through the chat template; a model without one takes a single message of a user as it is.

        Raises :class:`SpecError` (field ``messages``) for what the template refuses.
        """
        alone = len(messages) == 1 and messages[0]["role"] == "user"
        shown = messages[0]["content"] if alone else "\n".join(f"{one['role']}: {one['content']}" for one in messages)
        if not has_template(self.tokenizer, self.model):
            if alone:
                return self.continuation(shown, "messages")
            message = (
                f"{self.model.name} has no chat template, so it takes one message of a user and no conversation. "
                "Send one, or a prompt."
            )
            raise SpecError("messages", message)
        try:
            ids = conversation(self.tokenizer, messages)
        except Exception as error:  # a template is a program, and says what it does not take by raising anything
            raise SpecError(
                "messages", f"The model's chat template refuses these messages. {describe(error)}"
            ) from error
        return self._prompt(shown, ids, True, "messages")

    def continuation(self, text: str, at: str = "prompt") -> Prompt:
        """Text that the model goes on with, as it is."""
        return self._prompt(text, list(self.tokenizer(text)["input_ids"]), False, at)

    def _prompt(self, text: str, ids: list[int], templated: bool, at: str) -> Prompt:
        if not ids:
            raise SpecError(at, "The prompt has no tokens. Write some text.")
        return Prompt(text, tuple(ids), templated)

    def room(self, prompt: Prompt) -> int | None:
        """Most tokens of an answer to ``prompt``; None: no limit is known."""
        if self.context is None:
            return None
        return self.context if self.model.kind == "encdec" else self.context - len(prompt.ids)

    def serve(
        self,
        prompt: Prompt,
        output_tokens: int,
        *,
        seed: int = 0,
        ignore_eos: bool = False,
        told: Callable[[torch.Tensor], None] = lambda token: None,
        report: Callable[[str, float, str], None] = lambda stage, fraction, message: None,
    ) -> Served:
        """The plain pass. ``told`` gets each token [1, 1] once its time is taken, ``report`` what is going on; an exception of either
        ends what is going on, now and in :meth:`document`.

        Raises :class:`SpecError` for what does not fit into the context and :class:`EngineError` for what does not fit into memory, or where
        the model computed no numbers.
        """
        workload = replace(
            self.workload,
            prompt=prompt.text,
            input_tokens=len(prompt.ids),
            output_tokens=output_tokens,
            seed=seed,
        )
        check_context(self.model, self.built, workload)
        self._check_room(len(prompt.ids), output_tokens)
        session = Session(self.model, self.hardware, workload, report, warnings=list(self.warnings))
        session.load_s, session.held.weights = self.load_s, self.weight_bytes
        stop = frozenset() if ignore_eos else stop_tokens(self.module, self.tokenizer)
        ids = torch.tensor([prompt.ids]).to(self.device)
        inputs = Inputs(ids, prompt.text, self.tokenizer, stop, prompt.templated)
        runner = Runner(self.module, inputs, kind=self.model.kind, logits=workload.logits, device=self.device)
        say_logits(session, runner)
        begin = conditions.Snapshot.now()
        generation = runner.telling(told).generate(output_tokens)
        end = conditions.Snapshot.now()
        session.timed.append(generation)
        on_cpu = self.device.type == "cpu"
        session.conditions = conditions.between(begin, end, threads=self.threads, on_cpu=on_cpu, steady=None)
        self._check_numbers(runner, generation)
        return Served(session, inputs, runner, generation)

    def try_out(self) -> None:
        """A few tokens of made-up input. Raises whatever comes of it: an error of the device shows here, too, where it is one that stays."""
        _first_pass(self)

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def document(self, served: Served, check: Check = _nothing) -> dict[str, Any]:
        """The run document (kind ``measure``) of an answer: its latency, and what further passes find inside of the model.

        ``check`` is called with every token of those passes and may raise. When most of the workload's time limit is used by then, they
        are left out and a warning says so. Can be called once.
        """
        release_unused()
        session, memory = served.session, self.memory.again()
        session.memory = memory
        session.warn(
            "one_pass",
            "The model was in memory already and this is one pass of it, so times have no spread; load_time is of when it was loaded.",
        )
        if session.conditions["contended"]:
            session.warn(
                "contended", "Other work disturbed this measurement: " + " ".join(session.conditions["reasons"])
            )
        runner = served.runner.telling(lambda token: check())
        if session.time_is_short():
            session.warn(
                "time_limit", "The answer took so long that nothing inside of the model was measured after it."
            )
        else:
            time_modules(session, runner, self.module, self.device)
            if session.time_is_short():
                session.warn("time_limit", "Memory by phase was not recorded: time was short.")
            else:
                record_memory(session, runner, self.module, memory)
            profile_operators(session, runner, self.module, self.device)
            check()  # the profiler's pass takes every exception for a failure of its own
        document = write(
            session,
            built=self.built,
            inputs=[served.inputs],
            memory=memory,
            device=self.device,
            threads=self.threads,
        )
        return complete(document, session, memory)

    def _check_numbers(self, runner: Runner, generation: Generation) -> None:
        """Raises :class:`EngineError` where the answer came of NaN, of which the first token is the likeliest: only an answer that ends
        with it is looked at again, as a whole."""
        if int(generation.ids[0, -1]) != 0:
            return
        ids = runner.inputs.ids
        if self.model.kind != "encdec":
            ids = torch.cat([ids, generation.ids[:, :-1]], dim=1)
        _, finite = runner.on(replace(runner.inputs, ids=ids)).first_logits()
        if not finite:
            raise self._no_numbers()

    def _no_numbers(self) -> EngineError:
        message = (
            f"{self.model.name} computes NaN or infinity in {self.workload.dtype}, so its answers would mean nothing. "
            "Try another dtype (bf16 or fp32)."
        )
        return EngineError(phase="prefill", kind="numeric", field="dtype", message=message)

    def _check_room(self, prompt: int, answer: int) -> None:
        """Raises :class:`EngineError` (kind ``memory``) where the cache and what the passes have in work do not fit into what is free. What
        cannot be traced counts as nothing, as only the allocator knows it then."""
        cache = (prompt + answer) * self.cache_bytes_per_token
        work = self.working.at_most(prompt, answer) or 0
        if cache + work <= SMALL_NEED:
            return
        free = self._free_memory()
        if free is None or cache + work <= free:
            return
        if work:
            work = self.working.exactly(prompt, answer) or work
        if cache + work <= free:
            return
        message = (
            f"A prompt of {prompt:,} tokens with an answer of up to {answer:,} needs {say(cache + work, 'B')} of memory beside the weights "
            f"(cache {say(cache, 'B')}, at work at a time {say(work, 'B')}), and {say(free, 'B')} are free. "
            "Send a shorter prompt, or ask for fewer tokens."
        )
        raise EngineError(phase="prefill", kind="memory", field="max_tokens", message=message)

    def _free_memory(self) -> int | None:
        """Bytes that the next request may take; None: unknown. What torch keeps of earlier requests to use it again is free for this one."""
        free = loading.free_memory(self.device)
        if free is None or self.device.type != "cuda":
            return free
        return free + torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)


def load_resident(
    model: ModelSpec,
    hardware: HardwareSpec,
    workload: Workload,
    *,
    tokenizer_folder: str | None = None,
    progress: Callable[[str, float, str], None] | None = None,
) -> Resident:
    """``model`` in memory, ready for requests: it has made its first tokens, which are slower than all others.

    ``workload``: dtype, attention, threads, time limit of a request with everything measured. ``tokenizer_folder``: of a model with random
    weights; without one a byte is a token. Raises :class:`SpecError` and :class:`EngineError`.
    """
    if model.kind not in KINDS:
        raise SpecError("model", f"{model.name} is of kind {model.kind} and writes no text, so it cannot be served.")
    workload = replace(workload, batch_size=1, iterations=1, warmup=0, prompt=None, prompts=None)
    workload.check()
    device = choose_device(hardware)
    threads = set_threads(workload, device)
    session = Session(model, hardware, replace(workload, threads=threads), progress or (lambda *told: None))
    session.report("prepare", 0.01, "Checking that the model fits")
    built, _ = check_fits(model, replace(session.workload, input_tokens=1, output_tokens=FIRST_TOKENS), device)
    working = WorkingMemory(built, threads=threads if device.type == "cpu" else None, logits=workload.logits)
    session.report("prepare", 0.02, "Finding out what long requests need")
    working.prepare()
    module, memory = load_model(session, built, device)
    tokenizer, byte_tokens = _tokenizer(model, module, tokenizer_folder)
    if byte_tokens:
        session.warn("byte_tokens", "The model has no tokenizer here: each byte of the prompt was a token.")
    per_token = (inspect_model(model).get("kv_cache_bytes_per_token") or {}).get(workload.dtype) or 0
    found = Resident(
        model=model,
        hardware=hardware,
        workload=session.workload,
        device=device,
        threads=threads,
        built=built,
        module=module,
        tokenizer=tokenizer,
        memory=memory,
        load_s=session.load_s,
        weight_bytes=session.held.weights,
        cache_bytes_per_token=per_token,
        working=working,
        warnings=session.warnings,
    )
    session.report("warmup", 0.9, "First tokens")
    _first_pass(found)
    return found


def _tokenizer(model: ModelSpec, module: Any, folder: str | None) -> tuple[Any, bool]:
    """The tokenizer, and whether it is the stand-in for one."""
    if model.weights == "local":
        return loading.tokenizer_of(model), False
    if folder is not None:
        return loading.tokenizer_of(replace(model, weights="local", weights_path=folder)), False
    return ByteTokens(int(module.config.get_text_config().vocab_size)), True


def _first_pass(resident: Resident) -> None:
    """Raises :class:`EngineError` where the model computes no numbers."""
    inputs = Inputs(torch.ones((1, 8), dtype=torch.long).to(resident.device), None, None, frozenset(), False)
    runner = Runner(
        resident.module,
        inputs,
        kind=resident.model.kind,
        logits=resident.workload.logits,
        device=resident.device,
    )
    _, finite = runner.first_logits()
    if not finite:
        raise resident._no_numbers()
    room = resident.context
    runner.generate(FIRST_TOKENS if room is None else max(1, min(FIRST_TOKENS, room - 8)))
