"""Checks of a real project: what only Google itself can show. Reading costs nothing; the cycle deploys, asks once, and undeploys in any case.

Everything is written down as it happens: one line of JSON a step, without tokens or keys.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from llmcompare.cloud.google.errors import CloudError
from llmcompare.cloud.google.labels import UNTIL
from llmcompare.cloud.google.resources import Container, Machine

if TYPE_CHECKING:
    from llmcompare.cloud.google.connection import Connection as Cloud

#: Attempts to leave nothing behind, and the longest wait for one long operation.
CLEANING_ATTEMPTS = 10
LONGEST_S = 45 * 60.0
#: How long workers leave the endpoint of a cycle alone: longer than making it, deploying and asking may take together.
HELD_S = 2 * 3600.0
QUESTION = {"instances": [{"prompt": "Hello"}], "parameters": {"max_tokens": 4}}


@dataclass
class Doctor:
    """``say`` prints; ``transcript``: file for the steps, None for none. ``pause_s``: between looks at something long."""

    cloud: Cloud
    say: Callable[[str], None]
    transcript: Path | None = None
    pause_s: float = 5.0
    failed: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """One step: its time, what it found (put into what this gives) or why it failed; a failure of Google's does not leave it."""
        began, found = time.monotonic(), dict[str, Any]()
        error: CloudError | None = None
        try:
            yield found
        except CloudError as caught:
            error = caught
            self.failed.append(name)
        took = time.monotonic() - began
        words = error.sentence if error else ", ".join(f"{key}: {value}" for key, value in found.items())
        self.say(f"{'FAILED' if error else 'ok':>6}  {name} ({took:.1f} s)  {words}")
        self._write(
            {
                "step": name,
                "ok": error is None,
                "seconds": round(took, 3),
                "found": found,
                "error": error and error.to_json(),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        if self.transcript is not None:
            with self.transcript.open("a") as file:
                file.write(json.dumps({"at": datetime.now(UTC).isoformat()} | line) + "\n")

    # --- read only ---

    def look(self) -> bool:
        """Log in, list, and one query of Cloud Monitoring. Changes nothing; true when all went well."""
        endpoint_id = "0"
        with self.step("log in") as found:
            self.cloud.bearer()
            found["project"], found["region"] = self.cloud.project, self.cloud.region
        if self.failed:
            return False
        with self.step("list models") as found:
            models = self.cloud.list_models()
            found["models"], found["ours"] = len(models), sum(model.ours for model in models)
        with self.step("list endpoints") as found:
            endpoints = self.cloud.list_endpoints()
            found |= {
                "endpoints": len(endpoints),
                "ours": sum(endpoint.ours for endpoint in endpoints),
                "deployed_models": sum(len(endpoint.deployed) for endpoint in endpoints),
            }
            endpoint_id = endpoints[0].id if endpoints else "0"
        with self.step("one query of Cloud Monitoring") as found:
            until = datetime.now(UTC)
            series = self.cloud.series("replicas", endpoint_id, until - timedelta(hours=1), until)
            found["series"] = len(series)  # none is an answer: nothing may be deployed
        return not self.failed

    # --- deploy, ask, undeploy ---

    def cycle(self, *, machine: Machine, name: str, model: str = "", image: str = "", artifact_uri: str = "") -> bool:
        """Deploy ``model`` (or upload one of ``image`` first), ask it once, and take everything away again, whatever happens."""
        made: dict[str, str] = {}
        try:
            self._deploy_and_ask(made, machine, name, model, image, artifact_uri)
        except _Stop:
            pass
        finally:
            self._clean(made)
        return not self.failed

    def _deploy_and_ask(
        self, made: dict[str, str], machine: Machine, name: str, model: str, image: str, artifact_uri: str
    ) -> None:
        with self._needed("upload a model" if image else "find the model") as found:
            if image:
                operation = self.cloud.upload_model(name, Container(image=image), artifact_uri)
                model = made["model"] = str(self._wait(operation)["model"])
            else:
                model = self.cloud.model(model).name
            found["model"] = model
        with self._needed("make an endpoint") as found:
            # From here on an endpoint may be there: it is sought by its name if the answer is lost.
            made["endpoint_name"] = name
            # Workers of the portal leave it alone for so long; if this command is lost, they undeploy it then.
            until = {UNTIL: str(int(time.time() + HELD_S))}
            made["endpoint"] = str(self._wait(self.cloud.create_endpoint(name, extra=until))["name"])
            found["endpoint"] = made["endpoint"]
        with self._needed("deploy") as found:
            made["deploying"] = self.cloud.deploy(made["endpoint"], model, machine, display_name=name)
            self._wait(made["deploying"])
            found["machine"] = machine.machine_type
        with self._needed("ask once") as found:
            endpoint = self.cloud.endpoint(made["endpoint"])
            answer = self.cloud.raw(endpoint, QUESTION, timeout_s=300)
            found["answer"] = json.dumps(answer)[:300]

    @contextmanager
    def _needed(self, name: str) -> Iterator[dict[str, Any]]:
        with self.step(name) as found:
            yield found
        if name in self.failed:
            raise _Stop

    def _wait(self, operation: str) -> dict[str, Any]:
        """The answer of something long. Raises :class:`CloudError`."""
        self._write({"operation": operation})
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            state = self.cloud.operation(operation)
            if state.done:
                if state.error:
                    raise CloudError(str(state.error.get("code")), str(state.error.get("sentence")))
                return dict(state.response or {})
            time.sleep(self.pause_s)
        raise CloudError("deadline", _("It did not end within 45 minutes."))

    def _clean(self, made: dict[str, str]) -> None:
        """Undeploy and delete what was made. What cannot be taken away is named, for it costs money."""
        if "endpoint_name" in made:
            with self.step("undeploy and delete the endpoint") as found:
                self._await_deployed(made.get("deploying", ""))
                found["left"] = self._again(
                    lambda: self._clean_endpoint(made["endpoint_name"], made.get("endpoint", ""))
                )
            if self.failed and self.failed[-1] == "undeploy and delete the endpoint":
                self.say(
                    _("UNDEPLOY IT BY HAND in Google's console: %s") % (made.get("endpoint") or made["endpoint_name"])
                )
        if "model" in made:
            with self.step("delete the model") as found:
                found["left"] = self._again(lambda: self._delete_model(made["model"]))

    def _await_deployed(self, operation: str) -> None:
        """Whoever interrupts this command while Google deploys: it cannot be undeployed before that has ended."""
        if operation:
            try:
                self._wait(operation)
            except CloudError as error:
                self._write(
                    {"deploying": error.to_json()}
                )  # it failed, or nobody knows: what is there goes in any case

    def _delete_model(self, name: str) -> None:
        self._wait(self.cloud.delete_model(name))

    def _clean_endpoint(self, name: str, resource: str) -> None:
        for endpoint in self.cloud.list_endpoints(ours_only=True):
            if endpoint.name != resource and endpoint.display_name != name:
                continue
            for model in endpoint.deployed:
                self._wait(self.cloud.undeploy(endpoint.name, model.id))
            self._wait(self.cloud.delete_endpoint(endpoint.name))

    def _again(self, work: Callable[[], None]) -> str:
        for attempt in range(CLEANING_ATTEMPTS):
            try:
                work()
                return "nothing"
            except CloudError as error:
                if error.code == "not_found":
                    return "nothing"
                if attempt == CLEANING_ATTEMPTS - 1:
                    raise
                self._write({"again": error.to_json()})
                time.sleep(error.retry_after_s or self.pause_s * (attempt + 1))
        return "nothing"


class _Stop(Exception):
    """A step failed that the next ones need."""


def fresh_name() -> str:
    """A name for the endpoint that nobody has."""
    return f"llmcompare-doctor-{secrets.token_hex(4)}"
