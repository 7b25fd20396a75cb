"""What the maker of a link chooses."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from llmcompare.sharing.services import DEFAULT_EXPIRY


class ShareForm(forms.Form):
    expires = forms.ChoiceField(
        choices=[
            ("1", _("1 day")),
            ("7", _("7 days")),
            ("30", _("30 days")),
            ("90", _("90 days")),
            ("never", _("never")),
        ],
        initial=DEFAULT_EXPIRY,
        label=_("The link works for"),
    )
    label = forms.CharField(max_length=100, required=False, help_text=_("For your own list; visitors do not see it."))
    include_text = forms.BooleanField(
        required=False,
        label=_("Show prompts and generated text"),
        help_text=_("Without this, visitors see figures only."),
    )
