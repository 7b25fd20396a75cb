"""What people say about the history of a series."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class MarkQuerySet(models.QuerySet):
    def kept(self) -> MarkQuerySet:
        return self.filter(deleted_at=None)


class Mark(models.Model):
    """A word at a run of a series. ``expected``: a change that is known begins with this run, and what is usual is found anew from here;
    ``note``: only a note. Whoever sees the run sees its marks."""

    class Kind(models.TextChoices):
        EXPECTED = "expected", _("Expected change")
        NOTE = "note", _("Note")

    run = models.ForeignKey("runs.Run", on_delete=models.CASCADE, related_name="marks")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    text = models.CharField(max_length=500, help_text="why, in plain text")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="taken back; can be put again")

    objects = MarkQuerySet.as_manager()

    class Meta:
        ordering = ["created", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["run"], condition=models.Q(kind="expected", deleted_at=None), name="mark_one_expected_change"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} at {self.run_id}"


class CommentQuerySet(models.QuerySet):
    def kept(self) -> CommentQuerySet:
        return self.filter(deleted_at=None)


class Comment(models.Model):
    """Somebody's words on a run, in plain text; whoever sees the run sees them. ``before``: the text that the last edit replaced."""

    run = models.ForeignKey("runs.Run", on_delete=models.CASCADE, related_name="comments")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="comments")
    text = models.TextField()
    before = models.TextField(null=True, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    edited_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="taken back by its author, who can put it back")

    objects = CommentQuerySet.as_manager()

    class Meta:
        ordering = ["created", "pk"]

    def __str__(self) -> str:
        return f"comment of {self.by} on {self.run_id}"


class NotesEdit(models.Model):
    """That the notes of a run were changed, by whom, and what they were before."""

    run = models.ForeignKey("runs.Run", on_delete=models.CASCADE, related_name="notes_edits")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    before = models.TextField(blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at", "-pk"]

    def __str__(self) -> str:
        return f"edit of the notes of {self.run_id}"


def new_view_id() -> str:
    return secrets.token_hex(8)


class SavedViewQuerySet(models.QuerySet):
    def kept(self) -> SavedViewQuerySet:
        return self.filter(deleted_at=None)

    def visible_to(self, user) -> SavedViewQuerySet:
        """The user's own views, and those of their teams."""
        if not user.is_authenticated:
            return self.none()
        return self.kept().filter(models.Q(owner=user) | models.Q(team__in=user.teams.values("pk")))

    def editable_by(self, user) -> SavedViewQuerySet:
        """The user's own views, deleted ones included, and those of teams where they are an editor."""
        if not user.is_authenticated:
            return self.none()
        teams = user.membership_set.filter(role="editor").values("team")
        return self.filter(models.Q(owner=user) | models.Q(team__in=teams))


class SavedView(models.Model):
    """A named way to look at the list of runs: filters, order, columns and page size, as the query of its address. With a ``team`` its
    members see it; what they see in it is still only what each of them may see."""

    public_id = models.CharField(max_length=16, unique=True, default=new_view_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    team = models.ForeignKey(
        "accounts.Team", null=True, blank=True, on_delete=models.SET_NULL, related_name="saved_views"
    )
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = SavedViewQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=models.Q(deleted_at=None), name="saved_view_name_once"
            )
        ]

    def __str__(self) -> str:
        return self.name


class NoticeSettings(models.Model):
    """What somebody wants to be told when a long run of theirs ends. No row, or both off: nothing."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notice_settings", primary_key=True
    )
    page = models.BooleanField(default=False, help_text="a notice on the pages")
    mail = models.BooleanField(default=False, help_text="an e-mail")
    at_least_s = models.PositiveIntegerField(default=60, help_text="shorter runs are not worth a notice")
    since = models.DateTimeField(help_text="runs that ended before are old news")

    def __str__(self) -> str:
        return f"notices of {self.user}"


class Notice(models.Model):
    """That a run of ``user`` has ended. ``mail``: what became of the e-mail, "" where none was wanted."""

    class Mail(models.TextChoices):
        NONE = "", _("none")
        WAITING = "waiting", _("to be sent")
        SENT = "sent", _("sent")
        FAILED = "failed", _("could not be sent")

    run = models.ForeignKey("runs.Run", on_delete=models.CASCADE, related_name="notices")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notices")
    created = models.DateTimeField(auto_now_add=True)
    on_page = models.BooleanField(default=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    mail = models.CharField(max_length=10, choices=Mail.choices, blank=True, default=Mail.NONE)
    mail_attempts = models.PositiveSmallIntegerField(default=0)
    mail_next = models.DateTimeField(null=True, blank=True, help_text="not before this")
    mail_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-created", "-pk"]
        constraints = [models.UniqueConstraint(fields=["run", "user"], name="notice_once")]
        indexes = [models.Index(fields=["mail", "mail_next"])]

    def __str__(self) -> str:
        return f"notice of {self.run_id} for {self.user_id}"
