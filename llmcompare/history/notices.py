"""Telling people that a long run of theirs has ended: on the pages and by e-mail, each only for those who asked for it.

Nothing here is part of a run's life. A thread of every worker looks at what ended (after the transaction that ended it: the row is the
truth), makes a notice for it once, and sends what is due. A mail server that is away delays e-mails and nothing else. An e-mail names the
run and says how it ended; prompts, answers and errors, which may quote them, are not in it.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Exists, F, OuterRef, Q
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext, gettext_noop

from llmcompare.accounts.models import User
from llmcompare.common.errors import FieldErrors
from llmcompare.common.saying import said
from llmcompare.history.models import Notice, NoticeSettings
from llmcompare.runs.models import Run
from profiling.quantities import say

logger = logging.getLogger(__name__)

#: Runs that ended longer ago are old news, also where no worker was there to tell.
OLD = timedelta(days=1)
#: Waiting times after an e-mail that could not be sent; then it is given up.
RETRY = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
#: How long a worker may take to send one before another one tries.
CLAIM = timedelta(minutes=5)
AT_ONCE = 100
LONGEST_S = 7 * 86_400


def choose(*, user: User, page: bool, mail: bool, at_least_s: int) -> NoticeSettings:
    """Keep what the user wants to be told. Raises :class:`FieldErrors`."""
    errors = {}
    if not 0 <= at_least_s <= LONGEST_S:
        errors["at_least_s"] = gettext("Enter whole seconds from 0 to %(most)s.") % {"most": f"{LONGEST_S:,}"}
    if mail and not user.email:
        errors["mail"] = gettext("Your profile has no e-mail address. Enter one there first.")
    if errors:
        raise FieldErrors(errors)
    now = timezone.now()
    chosen, _made = NoticeSettings.objects.get_or_create(user=user, defaults={"since": now})
    if not (chosen.page or chosen.mail):
        chosen.since = now  # what ended while nothing was wanted is not told afterwards
    chosen.page, chosen.mail, chosen.at_least_s = page, mail, at_least_s
    chosen.save()
    return chosen


def collect(*, now: datetime | None = None) -> int:
    """Make the notices of runs that have ended; each once, however many workers look. Returns how many were made."""
    now = now or timezone.now()
    # Asked every few seconds: where nobody wants notices, that is one small question.
    listeners = list(NoticeSettings.objects.filter(Q(page=True) | Q(mail=True)).values_list("user", flat=True))
    if not listeners:
        return 0
    told = Notice.objects.filter(run=OuterRef("pk"), user=OuterRef("owner"))
    ended = Run.objects.kept().filter(
        owner__in=listeners,
        state__in=[Run.State.DONE, Run.State.FAILED],
        owner__is_active=True,
        finished__gte=now - OLD,
        finished__gt=F("owner__notice_settings__since"),
    )
    ended = ended.exclude(Exists(told)).select_related("owner__notice_settings").defer("spec", "notes", "error")
    made = []
    for run in ended.order_by("finished", "pk"):
        asked = run.owner.notice_settings
        if run.finished is None or (run.finished - (run.started or run.created)).total_seconds() < asked.at_least_s:
            continue
        mail = Notice.Mail.WAITING if asked.mail else Notice.Mail.NONE
        made.append(
            Notice(run=run, user=run.owner, on_page=asked.page, mail=mail, mail_next=now if asked.mail else None)
        )
        if len(made) >= AT_ONCE:
            break
    Notice.objects.bulk_create(made, ignore_conflicts=True)
    return len(made)


def send_due(*, now: datetime | None = None) -> int:
    """Send the e-mails that are due; returns how many went out. Never raises for what a mail server does."""
    now = now or timezone.now()
    due = Notice.objects.filter(mail=Notice.Mail.WAITING, mail_next__lte=now).values_list("pk", flat=True)
    return sum(_send(pk, now) for pk in list(due.order_by("mail_next", "pk")[:AT_ONCE]))


def _send(pk: int, now: datetime) -> bool:
    """One e-mail, by whoever claims it; true when it went out."""
    mine = Notice.objects.filter(pk=pk, mail=Notice.Mail.WAITING, mail_next__lte=now)
    if not mine.update(mail_next=now + CLAIM, mail_attempts=F("mail_attempts") + 1):
        return False
    notice = Notice.objects.select_related("run", "user").get(pk=pk)
    reason = _cannot(notice)
    if reason:
        Notice.objects.filter(pk=pk).update(mail=Notice.Mail.FAILED, mail_error=reason)
        return False
    try:
        message_of(notice).send()
    except Exception as error:  # smtplib and sockets raise what they please; a run never suffers from it
        _failed(notice, error, now)
        return False
    Notice.objects.filter(pk=pk).update(mail=Notice.Mail.SENT, mail_error="")
    return True


def _cannot(notice: Notice) -> str:
    """Why it makes no sense to try, or ""."""
    if not settings.EMAIL_HOST:
        return gettext_noop("This installation has no mail server (LLMCOMPARE_MAIL_HOST).")
    if not notice.user.email:
        return gettext_noop("The account has no e-mail address.")
    if notice.run.deleted_at is not None:
        return gettext_noop("The run was deleted.")
    return ""


def _failed(notice: Notice, error: Exception, now: datetime) -> None:
    reason = f"{type(error).__name__}: {error}"[:300]
    logger.warning("The notice of run %s could not be sent: %s", notice.run.public_id, reason)
    if notice.mail_attempts > len(RETRY):
        Notice.objects.filter(pk=notice.pk).update(mail=Notice.Mail.FAILED, mail_error=reason)
    else:
        Notice.objects.filter(pk=notice.pk).update(mail_next=now + RETRY[notice.mail_attempts - 1], mail_error=reason)


def message_of(notice: Notice) -> EmailMessage:
    """The e-mail, in the language of the account: which run, how it ended, where to look, how to get no more of them."""
    with translation.override(notice.user.language or settings.LANGUAGE_CODE):
        return _message(notice.run, notice.user.email)


def _message(run: Run, address: str) -> EmailMessage:
    name = " ".join(str(run).split())[:120]
    lines = [
        gettext("%(kind)s: %(model)s on %(hardware)s")
        % {"kind": run.get_kind_display(), "model": run.model_name, "hardware": run.hardware_name},
        gettext("Ended: %(state)s, %(time)s UTC")
        % {"state": run.get_state_display().lower(), "time": f"{run.finished:%Y-%m-%d %H:%M}"},
    ]
    if run.duration_s is not None:
        lines.append(gettext("Took: %(time)s") % {"time": say(run.duration_s, "s")})
    if run.state == Run.State.FAILED and run.error_phase:
        lines.append(
            gettext("It failed in phase “%(phase)s”; its page has the reason.") % {"phase": said(run.error_phase)}
        )
    lines += [
        "",
        settings.PUBLIC_URL + reverse("runs:detail", args=[run.public_id]),
        "",
        gettext("You asked for this at %(address)s, where you can end it.")
        % {"address": settings.PUBLIC_URL + reverse("history:notice-settings")},
    ]
    return EmailMessage(
        subject=f"[llmcompare] {run.get_state_display()}: {name}",
        body="\n".join(lines),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[address],
        headers={"Auto-Submitted": "auto-generated"},
    )


# --- on the pages ----------------------------------------------------------------------------------------------------


def of(user: User):
    """The user's notices of runs that they still see, newest first."""
    return Notice.objects.filter(user=user, on_page=True, run__in=Run.objects.visible_to(user)).select_related("run")


def mark_seen(*, user: User) -> int:
    return Notice.objects.filter(user=user, seen_at=None).update(seen_at=timezone.now())
