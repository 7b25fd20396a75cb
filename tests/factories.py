"""Plain functions that make rows for tests, with sensible values for everything that a test does not care about."""

from __future__ import annotations

import gzip
import hashlib
from datetime import timedelta
from itertools import count

from django.utils import timezone

from hardware.models import Hardware, Host
from llmcompare.accounts.models import Membership, Team, User
from llmcompare.catalog.models import LanguageModel
from llmcompare.cloud.models import Connection, Deployment
from llmcompare.endpoints import crypto
from llmcompare.endpoints.models import Endpoint
from llmcompare.endpoints.targets import origin_of
from llmcompare.runs.models import Artifact, Run, RunDocument
from llmcompare.runs.series import series_key
from profiling.remote.addresses import server
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
        "series": series_key(spec.to_json(), fields["host"].slug if fields.get("host") else ""),
    }
    if document is not None:
        values |= {"state": "done", "progress": 1.0, "finished": timezone.now()}
    run = Run.objects.create(**(values | fields))
    if document is not None:
        RunDocument.objects.create(run=run, data=document)
    return run


def make_artifact(run: Run, kind: str = "trace", text: bytes = b'{"traceEvents": []}') -> Artifact:
    """A file of a run, compressed as the engine does."""
    data = gzip.compress(text, mtime=0)
    sha256 = hashlib.sha256(data).hexdigest()
    return Artifact.objects.create(
        run=run, kind=kind, data=data, text_bytes=len(text), stored_bytes=len(data), sha256=sha256
    )


def make_endpoint(owner: User, *, key: str = "", **fields) -> Endpoint:
    """``key`` in clear; it is stored as the portal does."""
    values = {"name": f"Ours {next(_number)}", "url": "https://api.example.com/v1", "model": "m"} | fields
    sealed = crypto.seal(key, origin_of(server(values["url"]))) if key else ""
    return Endpoint.objects.create(owner=owner, sealed_key=sealed, **values)


def make_connection(owner: User, **fields) -> Connection:
    """A row alone: nobody reads the project."""
    model = {"id": "7", "name": "projects/p/locations/us-central1/models/7", "title": "seven", "image": "ours/image"}
    model |= {"artifact_uri": "", "ours": True}
    values = {"name": f"Cloud {next(_number)}", "project": "p", "region": "us-central1", "credential_kind": "adc"}
    return Connection.objects.create(owner=owner, **values | {"models_found": [model]} | fields)


def make_deployment(connection: Connection, **fields) -> Deployment:
    """Something that is ready at an endpoint since now, as the portal knows it."""
    now = timezone.now()
    values = {
        "owner": connection.owner,
        "name": f"deployment-{next(_number)}",
        "model_name": "projects/p/locations/us-central1/models/7",
        "model_title": "seven",
        "machine_type": "g2-standard-4",
        "accelerator_type": "NVIDIA_L4",
        "accelerator_count": 1,
        "state": "ready",
        "expires_at": now + timedelta(hours=1),
        "billed_from": now,
        "ready_at": now,
        "endpoint_name": "projects/p/locations/us-central1/endpoints/8",
        "deployed_model_id": "9",
    }
    return Deployment.objects.create(connection=connection, **values | fields)
