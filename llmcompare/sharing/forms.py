"""What the maker of a link chooses."""

from __future__ import annotations

from django import forms

from llmcompare.sharing.services import DEFAULT_EXPIRY


class ShareForm(forms.Form):
    expires = forms.ChoiceField(
        choices=[("1", "1 day"), ("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("never", "never")],
        initial=DEFAULT_EXPIRY,
        label="The link works for",
    )
    label = forms.CharField(max_length=100, required=False, help_text="For your own list; visitors do not see it.")
    include_text = forms.BooleanField(
        required=False,
        label="Show prompts and generated text",
        help_text="Without this, visitors see figures only.",
    )
