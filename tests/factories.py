"""Plain functions that make rows for tests, with sensible values for everything that a test does not care about."""

from __future__ import annotations

from itertools import count

from django.utils import timezone

from hardware.models import Hardware, Host
from llmcompare.accounts.models import Membership, Team, User
from llmcompare.catalog.models import LanguageModel
from llmcompare.runs.models import Run, RunDocument
from profiling.spec import RunSpec, Workload, digest

_number = count(1)

TINY_LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def make_user(username: str, **fields) -> User:
    user = User(username=username, email=f"{username}@example.org", **fields)
    user.set_password("correct horse battery")
    user.save()
    return user


def make_team(name: str, editors=()) -> Team:
    team = Team.objects.create(name=name, slug=name.lower())
    for user in editors:
        add_member(team, user, role="editor")
    return team


def add_member(team: Team, user: User, role: str = "viewer") -> Membership:
    return Membership.objects.create(team=team, user=user, role=role)


def make_hardware(**fields) -> Hardware:
    number = next(_number)
    values = {
        "slug": f"device-{number}",
        "name": f"Device {number}",
        "vendor": "Maker",
        "kind": "gpu",
        "memory_bytes": 80 * 10**9,
        "memory_bandwidth": 2e12,
        "peak_flops": {"fp32": 5e13, "bf16": 4e14, "fp16": 4e14},
        "source": "admin",
    }
    return Hardware.objects.create(**(values | fields))


def make_host(**fields) -> Host:
    number = next(_number)
    values = {
        "slug": f"host-{number}",
        "name": f"Host {number}",
        "queue": f"hw.host-{number}",
        "has_engine": True,
        "seen": timezone.now(),
    }
    return Host.objects.create(**(values | fields))


def make_model(**fields) -> LanguageModel:
    number = next(_number)
    config = fields.pop("config", TINY_LLAMA)
    values = {
        "slug": f"model-{number}",
        "name": f"Model {number}",
        "kind": "decoder",
        "model_type": config["model_type"],
        "architecture": config["architectures"][0],
        "config": config,
        "config_sha256": digest(config),
        "max_context": 256,
        "source": "admin",
    }
    return LanguageModel.objects.create(**(values | fields))


def make_run(owner: User, *, document: dict | None = None, **fields) -> Run:
    """A run as ``launch_run`` would leave it; with ``document`` it is done."""
    model = fields.pop("model", None) or make_model()
    hardware = fields.pop("hardware", None) or make_hardware()
    workload = Workload(**fields.pop("workload", {}))
    kind = fields.get("kind", "estimate")
    protocol = fields.pop("protocol", None)
    spec = RunSpec(kind, model.to_spec().to_json(), hardware.to_spec().to_json(), workload.to_json(), protocol)
    values = {
        "owner": owner,
        "kind": kind,
        "model": model,
        "hardware": hardware,
        "spec": spec.to_json(),
        "spec_digest": spec.digest(),
        "model_name": model.name,
        "hardware_name": str(hardware),
        "batch_size": workload.batch_size,
        "input_tokens": workload.input_tokens,
        "output_tokens": workload.output_tokens,
        "dtype": workload.dtype,
        "queue": "estimate",
    }
    if document is not None:
        values |= {"state": "done", "progress": 1.0, "finished": timezone.now()}
    run = Run.objects.create(**(values | fields))
    if document is not None:
        RunDocument.objects.create(run=run, data=document)
    return run
