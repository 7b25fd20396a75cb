"""How much somebody may have deployed at a time. Asked in the transaction that stores a deployment, so that two requests cannot pass together."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.utils.translation import gettext as _

from llmcompare.accounts.models import Team, User
from llmcompare.cloud.models import Deployment, Guard, SpendingCap
from llmcompare.common.errors import WHOLE_FORM, FieldErrors, QuotaExceeded


def cap_of(*, user: User | None = None, team: Team | None = None) -> SpendingCap | None:
    """The cap of a user (their own, else the one for everybody else), or of a team; None: a team has none of its own."""
    if team is not None:
        return SpendingCap.objects.filter(team=team).first()
    own = SpendingCap.objects.filter(user=user).first() if user is not None else None
    return own or SpendingCap.objects.filter(user=None, team=None).first() or default_cap()


def default_cap() -> SpendingCap:
    """The rule while no administrator has entered one: from the settings, not stored."""
    return SpendingCap(
        deployments=settings.CLOUD_MAX_DEPLOYMENTS,
        usd_per_hour=Decimal(settings.CLOUD_MAX_USD_PER_HOUR),
        unknown_prices=False,
    )


def check(*, user: User, team: Team | None, price: Decimal | None) -> None:
    """Whether ``user`` may deploy for ``price`` USD per hour more (None: unknown), through a connection of ``team``. Raises :class:`FieldErrors`.

    Locks the rows that the answer depends on until the transaction ends.
    """
    User.objects.select_for_update().get(pk=user.pk)
    check_not_stopped()
    own = cap_of(user=user)
    if own is not None:
        mine = Deployment.objects.filter(owner=user)
        _hold(own, mine, price, user.is_staff, _("You have"))
    if team is not None and (cap := cap_of(team=team)) is not None:
        Team.objects.select_for_update().get(pk=team.pk)
        _hold(cap, Deployment.objects.filter(connection__team=team), price, user.is_staff, _("Your team has"))


def check_not_stopped() -> None:
    guard = Guard.get()
    if guard.stopped_at is not None:
        reason = f" {guard.reason}" if guard.reason else ""
        raise FieldErrors({WHOLE_FORM: _("An administrator stopped all deployments here.") + reason})


def _hold(cap: SpendingCap, deployments, price: Decimal | None, is_staff: bool, who: str) -> None:
    active = list(deployments.active().values_list("price", "replicas"))
    if len(active) >= cap.deployments:
        text = _("%(who)s %(count)d deployments at a time, as many as allowed. Undeploy one first.")
        raise QuotaExceeded(text % {"who": who, "count": len(active)})
    if price is None:
        if not cap.unknown_prices and not is_staff:
            raise FieldErrors(
                {
                    WHOLE_FORM: _(
                        "The price of this machine is not known here, and deploying for an unknown price needs an administrator's "
                        "allowance. Ask one to enter the price, or take a machine with a known one."
                    )
                }
            )
        return
    spent = sum((p * n for p, n in active if p is not None), Decimal(0))
    if spent + price > cap.usd_per_hour:
        text = _(
            "This would cost %(price).2f USD per hour. %(who)s %(spent).2f USD per hour deployed, and at most %(cap).2f are allowed."
        )
        values = {"price": price, "who": who, "spent": spent, "cap": cap.usd_per_hour}
        raise QuotaExceeded(text % values)
