"""Results are a function of the inputs: not of what ran before or beside, of torch's global state, or of the environment.

That two runs and eight threads give the same document is tested in test_estimate.py for four models of one dtype; here the
models share classes, modules and dtypes with each other, and builds, failures and global state come in between.
"""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from profiling import build, passes
from profiling.estimate import estimate
from profiling.inspection import inspect_model
from profiling.safety import check_config, decoded
from profiling.spec import HardwareSpec, ModelSpec, SpecError, Workload
from tests.profiling.documents import ROOT, catalogue_model
from tests.profiling.hostile_cases import BASES

HARDWARE = HardwareSpec(
    name="Any",
    memory_bytes=80 * 10**9,
    memory_bandwidth=3e12,
    peak_flops={"bf16": 1e15, "fp16": 1e15, "fp32": 6e13},
)


def small(name: str, **changes: Any) -> ModelSpec:
    cls, kind, config = BASES[name]
    return ModelSpec(name, {"model_type": name, "architectures": [cls], **config, **changes}, kind=kind)


#: Different classes, kinds and dtypes; ``xlm`` and ``bert`` because they take their activation from one place.
JOBS = [
    (small("llama"), "bf16"),
    (small("llama"), "fp32"),
    (small("llama", num_hidden_layers=3), "fp16"),
    (small("xlm"), "fp32"),
    (small("bert"), "fp16"),
    (small("mixtral"), "bf16"),
    (small("t5"), "bf16"),
    (small("mamba"), "fp32"),
]


@pytest.fixture(autouse=True)
def _nothing_remembered():
    forget()


def forget() -> None:
    """As in a new process: everything is built and traced again."""
    build._BUILT.clear()
    passes._TRACES.clear()
    passes._SHAPES.clear()


def document(model: ModelSpec, dtype: str) -> str:
    """An estimate without what may differ from run to run, as text."""
    output = 0 if model.kind in ("encoder", "vision") else 4
    found = estimate(model, HARDWARE, Workload(input_tokens=7, output_tokens=output, dtype=dtype, batch_size=2))
    for name in ("created", "duration_s"):
        found.pop(name)
    return json.dumps(found, sort_keys=True, allow_nan=False)


def afresh(model: ModelSpec, dtype: str) -> str:
    forget()
    return document(model, dtype)


@pytest.fixture(scope="module")
def expected() -> list[str]:
    return [afresh(*job) for job in JOBS]


def test_the_order_of_calls_does_not_matter(expected):
    order = list(range(len(JOBS)))
    for seed in (1, 2):
        random.Random(seed).shuffle(order)
        forget()
        assert {i: document(*JOBS[i]) for i in order} == dict(enumerate(expected))


def test_threads_that_build_and_trace_at_once_agree_with_one_after_the_other(expected):
    jobs = list(range(len(JOBS))) * 3
    random.Random(3).shuffle(jobs)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: document(*JOBS[i]), jobs))
    assert found == [expected[i] for i in jobs]


def test_a_shared_activation_carries_nothing_from_one_model_to_the_next():
    """transformers has one GELU module for all: XLM makes it a part of itself, RoBERTa's head calls it by itself."""
    from transformers import activations

    roberta = catalogue_model("roberta-base")
    lm = replace(roberta, architecture="RobertaForMaskedLM", config={**roberta.config, "num_hidden_layers": 2})
    before = afresh(lm, "bf16")
    afresh(small("xlm"), "bf16")
    assert not hasattr(activations.gelu, "_traced_path")
    assert afresh(lm, "bf16") == before


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModel": "x.Y"}},
        {"hidden_size": "64"},
        {"num_key_value_heads": 0},
        {"head_dim": 0},
        {"hidden_act": "no_such_function"},
        {"num_hidden_layers": 6_000},
        {"rms_norm_eps": float("nan")},
    ],
)
def test_a_failure_before_changes_nothing(expected, changes):
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    hooks = torch.nn.modules.module
    for _ in range(2):
        with pytest.raises(SpecError):
            inspect_model(small("llama", **changes))
    assert (torch.get_default_dtype(), torch.get_default_device()) == (dtype, device)
    assert not hooks._global_module_registration_hooks
    assert not hooks._global_parameter_registration_hooks
    assert not hooks._global_buffer_registration_hooks
    assert document(*JOBS[0]) == expected[0]


def test_a_failure_in_the_middle_of_a_pass_changes_nothing(expected):
    with pytest.raises(SpecError, match="more is chosen from a list"):
        inspect_model(small("mixtral", num_experts_per_tok=9))
    assert document(*JOBS[5]) == expected[5]


def _default_dtype(run: Callable[[], str]) -> str:
    old = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return run()
    finally:
        torch.set_default_dtype(old)


def _grad(run: Callable[[], str]) -> str:
    with torch.enable_grad():
        return run()


def _inference(run: Callable[[], str]) -> str:
    with torch.inference_mode():
        return run()


def _one_thread(run: Callable[[], str]) -> str:
    old = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run()
    finally:
        torch.set_num_threads(old)


@pytest.mark.parametrize("state", [_default_dtype, _grad, _inference, _one_thread])
@pytest.mark.parametrize("job", [0, 4, 7])
def test_global_state_of_torch_does_not_matter(expected, state, job):
    assert state(lambda: afresh(*JOBS[job])) == expected[job]


def test_configurations_are_left_as_they_were():
    config = {
        **small("deepseek_v2").config,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "id2label": {"0": "a", "1": "b"},
        "no_such_key": [1, {"_x": 2}],
    }
    before = copy.deepcopy(config)
    model = ModelSpec("x", config)
    decoded(check_config(config))
    inspect_model(model)
    document(model, "bf16")
    assert config == before
    assert list(config) == list(before)


_CODE = """
import json, sys
from tests.profiling import test_pure as t
print("RESULT", json.dumps([t.document(*t.JOBS[i]) for i in (0, 3, 7)]))
"""


@pytest.mark.slow
def test_environment_does_not_matter(expected, tmp_path):
    """Another hash seed, language, time zone, number of threads and folder: the same document."""
    odd = {
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "TZ": "Asia/Kathmandu",
        "OMP_NUM_THREADS": "1",
        "PYTORCH_ENABLE_MPS_FALLBACK": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=tmp_path, env=os.environ | odd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    assert json.loads(line.removeprefix("RESULT ")) == [expected[i] for i in (0, 3, 7)]


# --- what imports what ------------------------------------------------------------------------------------------------

#: Modules that run where neither torch nor numpy is; besides them, every one whose docstring says so.
PLAIN = {"safety", "spec", "roofline", "memory", "conventions", "quantities", "units", "client", "failures", "host"}


def _says_so(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    said = text.split('"""')[1] if '"""' in text else ""
    return "tandard library only" in said and "numpy and the standard" not in said


def plain_modules() -> list[str]:
    folder = ROOT / "profiling"
    says = {
        str(path.relative_to(folder).with_suffix("")).replace("/", ".")
        for path in folder.rglob("*.py")
        if _says_so(path)
    }
    return sorted(f"profiling.{name}" for name in says | PLAIN)


@pytest.mark.parametrize("together", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_plain_modules_import_neither_torch_nor_transformers_nor_numpy(together):
    """All in one process; slow: each in its own, so that none leans on what another has imported."""
    names = plain_modules()
    assert len(names) > 12
    for group in [names] if together else [[name] for name in names]:
        code = (
            f"import sys, importlib\nfor name in {group!r}: importlib.import_module(name)\n"
            "heavy = {'torch', 'transformers', 'numpy', 'django', 'huggingface_hub'} & set(sys.modules)\n"
            "sys.exit(', '.join(sorted(heavy)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{group}: {done.stderr}"
