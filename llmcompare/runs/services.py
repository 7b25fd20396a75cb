"""What users do to runs: launch, cancel, delete, restore. What workers do to them is in ``lifecycle.py``.

Callers pass objects that they fetched through ``visible_to`` / ``editable_by``; ``launch_run`` checks its inputs again, because
an API client names them freely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from hardware.models import Hardware, Host
from llmcompare.accounts.models import Team, User
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors, QuotaExceeded
from llmcompare.endpoints.models import Endpoint
from llmcompare.endpoints.places import place_of
from llmcompare.runs import preview
from llmcompare.runs.endpointinputs import EndpointInputs, check_endpoint_inputs
from llmcompare.runs.models import Run, RunEvent
from llmcompare.runs.queues import ESTIMATE_QUEUE, ring
from llmcompare.runs.series import endpoint_series_key, series_key
from llmcompare.runs.validation import Inputs, check_inputs


def launch_run(
    *,
    owner: User,
    kind: str,
    model: LanguageModel,
    hardware: Hardware | None = None,
    host: Host | None = None,
    workload: Mapping[str, Any],
    protocol: Mapping[str, Any] | None = None,
    against: Run | None = None,
    load: Mapping[str, Any] | None = None,
    artifacts: Sequence[str] = (),
    replay: bool = False,
    visibility: str = Run.Visibility.PRIVATE,
    team: Team | None = None,
    title: str = "",
    notes: str = "",
    idempotency_key: str | None = None,
) -> Run:
    """Store a run and ring for a worker. ``workload`` has the fields of :class:`profiling.spec.Workload`, ``protocol`` (of a measurement)
    those of :class:`profiling.protocol.Protocol`, ``against``: a measurement that this one takes turns with,
    ``load`` (of a measurement): requests after its iterations, as :func:`llmcompare.runs.validation.check_inputs` takes them,
    ``artifacts`` (of a measurement): files of its profiled pass to keep, kinds of :data:`profiling.artifacts.KINDS`,
    ``replay`` (of an estimate): have its operators timed alone on ``host``, which it waits for as a measurement does.

    An estimate needs ``hardware`` (or a ``host``, whose measured ceilings then count too), a measurement needs ``host``.
    The same owner and ``idempotency_key`` return the first run and ring no second bell.
    Raises :class:`FieldErrors` with a message per field, :class:`QuotaExceeded` when too many runs are under way.
    """
    idempotency_key = idempotency_key or None
    if first := _launched_before(owner, idempotency_key):
        return first
    errors = _check_about(owner, model, hardware, visibility, team, title, idempotency_key)
    if against is not None and not Run.objects.visible_to(owner).filter(pk=against.pk).exists():
        errors["against"] = gettext("There is no such run.")
    try:
        inputs = check_inputs(
            kind=kind,
            model=model,
            hardware=hardware,
            host=host,
            workload=workload,
            protocol=protocol,
            against=against,
            load=load,
            artifacts=artifacts,
            replay=replay,
        )
    except FieldErrors as error:
        raise FieldErrors(error.errors | errors) from None
    if errors:
        raise FieldErrors(errors)
    if kind == Run.Kind.MEASURE:
        preview.check_memory(inputs)
    else:
        preview.check_with_engine(inputs)

    return _store(
        owner=owner,
        make=lambda: _new_run(owner, inputs),
        log=inputs.notes,
        visibility=visibility,
        team=team,
        title=title,
        notes=notes,
        idempotency_key=idempotency_key,
    )


def launch_endpoint_run(
    *,
    owner: User,
    endpoint: Endpoint | None,
    workload: Mapping[str, Any],
    load: Mapping[str, Any] | None = None,
    unique: bool = True,
    profile: bool | None = None,
    visibility: str = Run.Visibility.PRIVATE,
    team: Team | None = None,
    title: str = "",
    notes: str = "",
    idempotency_key: str | None = None,
) -> Run:
    """Store a run of an endpoint and ring for a worker; inputs as of :func:`llmcompare.runs.endpointinputs.check_endpoint_inputs`, the
    rest as of :func:`launch_run`. Opens no connection and reads no key."""
    idempotency_key = idempotency_key or None
    if first := _launched_before(owner, idempotency_key):
        return first
    errors = _check_about(owner, None, None, visibility, team, title, idempotency_key)
    if endpoint is not None and not Endpoint.objects.visible_to(owner).filter(pk=endpoint.pk).exists():
        errors["endpoint"] = gettext("Choose an endpoint from the list.")
    try:
        inputs = check_endpoint_inputs(endpoint=endpoint, workload=workload, load=load, unique=unique, profile=profile)
    except FieldErrors as error:
        raise FieldErrors(error.errors | errors) from None
    if errors:
        raise FieldErrors(errors)
    return _store(
        owner=owner,
        make=lambda: _new_endpoint_run(owner, inputs),
        log=[],
        visibility=visibility,
        team=team,
        title=title,
        notes=notes,
        idempotency_key=idempotency_key,
    )


def _store(
    *,
    owner: User,
    make: Callable[[], Run],
    log: Sequence[str],
    visibility: str,
    team: Team | None,
    title: str,
    notes: str,
    idempotency_key: str | None,
) -> Run:
    """Store the run that ``make`` makes, unless its key was used before or the quota is full, and ring for a worker."""
    with transaction.atomic():
        # One launch at a time per user, or two requests together would pass the quota and the key twice.
        User.objects.select_for_update().get(pk=owner.pk)
        if first := _launched_before(owner, idempotency_key):
            return first
        _check_quota(owner)
        run = make()
        run.visibility, run.title, run.notes = visibility, title.strip(), notes
        run.team = team if visibility == Run.Visibility.TEAM else None
        run.idempotency_key = idempotency_key
        run.save(force_insert=True)
        RunEvent.objects.bulk_create(
            RunEvent(run=run, attempt=0, stage="queued", message=note) for note in [gettext_noop("Queued."), *log]
        )
        transaction.on_commit(partial(ring, run))
    return run


def cancel_run(*, run: Run) -> Run:
    """Stop a run: at once while it waits, within about a second while it runs. A run that has ended stays as it is."""
    now = timezone.now()
    with transaction.atomic():
        # Its worker could put it back between the two looks, and the wish would reach neither state.
        Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        waiting = Run.objects.filter(pk=run.pk, state=Run.State.QUEUED)
        if waiting.update(
            state=Run.State.CANCELLED, cancel_requested=True, finished=now, message=gettext_noop("Cancelled.")
        ):
            RunEvent.objects.create(
                run=run, attempt=run.attempt, stage="cancelled", message=gettext_noop("Cancelled while waiting.")
            )
        else:
            Run.objects.filter(pk=run.pk, state=Run.State.RUNNING).update(cancel_requested=True)
    run.refresh_from_db()
    return run


def delete_run(*, run: Run) -> Run:
    """Put a run into the bin, cancelling it first. Its idempotency key is free again: the same form may be sent anew."""
    cancel_run(run=run)
    Run.objects.filter(pk=run.pk, deleted_at=None).update(deleted_at=timezone.now(), idempotency_key=None)
    run.refresh_from_db()
    return run


def restore_run(*, run: Run) -> Run:
    """Take a run out of the bin (reach it by ``Run.objects.binned_by(user)``). A cancelled one stays cancelled."""
    Run.objects.filter(pk=run.pk).update(deleted_at=None)
    run.refresh_from_db()
    return run


def _launched_before(owner: User, idempotency_key: str | None) -> Run | None:
    if idempotency_key is None:
        return None
    return Run.objects.filter(owner=owner, idempotency_key=idempotency_key).first()


def _check_about(owner, model, hardware, visibility, team, title, idempotency_key) -> dict[str, str]:
    """Everything about a run that is not its inputs: who may see it, what it is called, what its parts may be."""
    errors = {}
    if model is not None and not LanguageModel.objects.visible_to(owner).filter(pk=model.pk).exists():
        errors["model"] = gettext("Choose a model from the list.")
    if hardware is not None and not Hardware.objects.visible_to(owner).filter(pk=hardware.pk).exists():
        errors["hardware"] = gettext("Choose hardware from the list.")
    if visibility not in Run.Visibility.values:
        errors["visibility"] = gettext("Choose one of %(choices)s.") % {"choices": ", ".join(Run.Visibility.values)}
    if visibility == Run.Visibility.TEAM and (team is None or not owner.teams.filter(pk=team.pk).exists()):
        errors["team"] = gettext("Choose a team that you are a member of.")
    if len(title.strip()) > 150:
        errors["title"] = gettext("The title has %(count)s characters; 150 fit.") % {"count": len(title.strip())}
    if idempotency_key is not None and len(idempotency_key) > 64:
        errors["idempotency_key"] = gettext("The idempotency key may have at most 64 characters.")
    return errors


def _check_quota(owner: User) -> None:
    active, allowed = Run.objects.filter(owner=owner).active().count(), settings.MAX_ACTIVE_RUNS_PER_USER
    if active >= allowed:
        raise QuotaExceeded(
            gettext(
                "You have %(active)s runs waiting or running, and %(allowed)s are allowed at a time. Wait for one or cancel one."
            )
            % {"active": active, "allowed": allowed}
        )


def _new_run(owner: User, inputs: Inputs) -> Run:
    spec, workload = inputs.freeze(), inputs.workload
    on_host = inputs.kind == Run.Kind.MEASURE or inputs.replay
    return Run(
        owner=owner,
        kind=inputs.kind,
        model=inputs.model,
        hardware=inputs.hardware,
        host=inputs.host,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        model_name=inputs.model.name,
        hardware_name=str(inputs.hardware),
        batch_size=workload.batch_size,
        input_tokens=workload.input_tokens,
        output_tokens=workload.output_tokens,
        dtype=workload.dtype,
        queue=inputs.host.queue if on_host and inputs.host else ESTIMATE_QUEUE,
        series=series_key(spec.to_json(), inputs.host.slug if inputs.host else ""),
    )


def _new_endpoint_run(owner: User, inputs: EndpointInputs) -> Run:
    """Formats, batches and memory are the server's own: their columns stay empty."""
    endpoint = inputs.endpoint
    spec = inputs.freeze(place_of(endpoint))
    input_tokens, output_tokens = inputs.tokens
    return Run(
        owner=owner,
        kind=Run.Kind.ENDPOINT,
        endpoint=endpoint,
        model=inputs.model,
        hardware=inputs.hardware,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        model_name=endpoint.model[:150],
        hardware_name=endpoint.name,
        batch_size=0,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        dtype="",
        queue=ESTIMATE_QUEUE,
        series=endpoint_series_key(spec.to_json()),
    )
