"""One machine with its models: its device as hardware, what was measured on it, and the measurements that must fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from profiling import host
from profiling.ceiling_processes import measure_ceilings_in_processes
from profiling.client import EngineError
from profiling.load import Load
from profiling.processes import measure_in_processes
from profiling.protocol import Protocol
from profiling.quantities import say
from profiling.spec import HardwareSpec, ModelSpec, RunSpec, SpecError, Workload

#: Kinds of failure that say, before or during a pass, that memory is short.
TOO_LARGE = ("memory", "spec")


def llama(layers: int, width: int, heads: int, inner: int, vocabulary: int = 32_000) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
    }


def mixtral(layers: int, width: int, heads: int, inner: int, vocabulary: int = 32_000) -> dict[str, Any]:
    return llama(layers, width, heads, inner, vocabulary) | {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "sliding_window": None,
    }


def bert(layers: int, width: int, heads: int, inner: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }


GPU_MODELS = {
    "1B": ModelSpec("Llama-shaped 1B", llama(16, 2048, 32, 8192)),
    "8B": ModelSpec("Llama-shaped 8B", llama(32, 4096, 32, 14_336, 128_256)),
    "MoE": ModelSpec("Mixtral-shaped, 8 experts", mixtral(8, 2048, 16, 4096)),
    "encoder": ModelSpec("BERT-base-shaped", bert(12, 768, 12, 3072), kind="encoder"),
}
CPU_MODELS = {
    "1B": ModelSpec("Llama-shaped, tiny", llama(2, 64, 4, 128, 500)),
    "8B": ModelSpec("Llama-shaped, small", llama(4, 128, 8, 256, 500)),
    "MoE": ModelSpec("Mixtral-shaped, tiny", mixtral(2, 64, 4, 128, 500)),
    "encoder": ModelSpec("BERT-shaped, tiny", bert(2, 64, 4, 128), kind="encoder"),
}


class Bench:
    """``documents``: what was measured, by the key of its check; ``files``: kind → artifact of the last measurement that made some."""

    def __init__(self, *, cpu: bool, processes: int = 2) -> None:
        self.kind = "cpu" if cpu else "gpu"
        self.models = CPU_MODELS if cpu else GPU_MODELS
        self.dtype = "fp32" if cpu else "bf16"
        self.processes = processes
        self.documents: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.hardware = self._device()

    @property
    def devices(self) -> int:
        """How many ranks a measurement can have here."""
        return host.cores()[0] if self.kind == "cpu" else len(host.detect()["accelerators"])

    def _device(self) -> HardwareSpec:
        found = host.detect()
        if self.kind == "cpu":
            return HardwareSpec(name=found["cpu"]["model"], kind="cpu", memory_bytes=found["ram_bytes"])
        if not found["accelerators"]:
            raise SystemExit("torch sees no accelerator here; --cpu runs the same checks on the processor.")
        device = found["accelerators"][0]
        return HardwareSpec(name=device["name"], vendor=device["vendor"], memory_bytes=device["memory_bytes"])

    def ceilings(self) -> tuple[bool, str]:
        """In three processes that must agree, as the portal measures them."""
        document = measure_ceilings_in_processes(quick=True, kind=self.kind, timeout_s=240)
        self.hardware = replace(self.hardware, ceilings=document["rows"])
        self.documents["ceilings"] = document
        best = {(row["op_class"], row["dtype"]): row for row in document["rows"]}
        shown = [("gemm", self.dtype), ("gemm-sustained", self.dtype), ("gemm", "fp8"), ("gemm", "int8")]
        shown += [("gemv", self.dtype), ("attention", self.dtype), ("copy", ""), ("read", ""), ("overhead", "")]
        words = [
            f"{name} {dtype} {say(best[name, dtype]['value'], best[name, dtype]['unit'])}".replace("  ", " ")
            for name, dtype in shown
            if (name, dtype) in best
        ]
        accepted = sum(row["quality"] == "ok" for row in document["rows"])
        words.append(f"{accepted} of {len(document['rows'])} accepted, {document['processes']} processes")
        words += [f"without {one['op_class']} {one['dtype']}: {one['reason'][:80]}" for one in document["skipped"]]
        needed = {("gemm", self.dtype), ("gemv", self.dtype), ("copy", ""), ("overhead", "")}
        return needed <= set(best) and 2 * accepted > len(document["rows"]), ", ".join(words)

    def measured(
        self, key: str, name: str, *, load: Load | None = None, files: bool = False, **options: Any
    ) -> tuple[bool, str]:
        """Figures of a measurement of the model called ``name``, and whether the estimate and the errors are there too."""
        workload = Workload(batch_size=1, input_tokens=512, output_tokens=32, dtype=self.dtype, iterations=5)
        workload = replace(workload, **options)
        if self.kind == "cpu":
            workload = replace(
                workload, input_tokens=min(workload.input_tokens, 64), output_tokens=min(workload.output_tokens, 8)
            )
        if self.models[name].kind == "encoder":
            workload = replace(workload, output_tokens=0)
        document = measure_in_processes(
            self._spec(name, workload, load=load, files=files),
            Protocol(processes=self.processes),
            timeout_s=200,
            on_artifact=self._take if files else None,
        )
        self.documents[key] = document
        metrics = document["metrics"]
        words = [
            f"{k} {say(metrics[k]['value'], metrics[k]['unit'])}"
            for k in ("ttft", "encode_time", "tpot", "peak_memory", "mfu_prefill", "mbu_decode")
            if k in metrics and metrics[k]["value"] is not None
        ]
        errors = [
            f"{k} {e['level']} {e['error_pct']:+.0f} %"
            for k in ("ttft", "encode_time", "decode_time_per_step")
            for e in document["errors"].get(k, ())
        ]
        return bool(errors), ", ".join(words + errors)

    def _spec(self, name: str, workload: Workload, *, load: Load | None, files: bool) -> dict[str, Any]:
        kinds = ["trace", "memory"] if files else None
        spec = RunSpec("measure", self.models[name].to_json(), self.hardware.to_json(), workload.to_json())
        return spec.to_json() | {"load": None if load is None else load.to_json(), "artifacts": kinds}

    def _take(self, kind: str, data: bytes, _facts: dict[str, Any]) -> None:
        self.files[kind] = data

    def refused(self) -> tuple[bool, str]:
        """A batch that cannot fit is refused before anything is loaded, with the numbers."""
        return self._fails("too large", ("load", "start"), batch_size=65_536, input_tokens=4096, output_tokens=2)

    def runs_out(self) -> tuple[bool, str]:
        """Weights, cache and logits fit, the scores of plain attention do not: the pass itself runs out."""
        options = {"batch_size": 128, "input_tokens": 4096, "output_tokens": 2, "attn_implementation": "eager"}
        return self._fails("runs out", ("warmup", "prefill", "measure"), **options)

    def _fails(self, key: str, phases: tuple[str, ...], **options: Any) -> tuple[bool, str]:
        workload = replace(Workload(dtype=self.dtype, iterations=1), **options)
        try:
            spec = self._spec("1B", workload, load=None, files=False)
            measure_in_processes(spec, Protocol(processes=1), timeout_s=120)
        except SpecError as error:
            return key == "too large", f"{error.field}: {error}"
        except EngineError as error:
            return error.kind in TOO_LARGE and error.phase in phases, f"{error.phase}, {error.kind}: {error}"
        return False, "it was measured"
