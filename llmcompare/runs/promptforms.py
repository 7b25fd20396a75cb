"""Several prompts on the form of a new run: a file that is sent, one of a registered folder, or their text as JSON lines."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.catalog.folders import prompt_choices, prompts_of
from llmcompare.common.saying import said
from profiling.prompts import MAX_BYTES, MAX_PROMPTS, parse, to_lines
from profiling.spec import SpecError


class PromptsForm(forms.Form):
    """Mix in. A file counts before one that is chosen, and that before the text; what was read is kept as text, so that nothing is lost."""

    prompt_file = forms.FileField(
        label=_("Prompt file"),
        required=False,
        allow_empty_file=True,
        help_text=format_lazy(
            _("Text in UTF-8: one prompt. JSON lines (.jsonl): one prompt each, up to {prompts}. At most {size} kB."),
            prompts=f"{MAX_PROMPTS:,}",
            size=f"{MAX_BYTES // 1000:,}",
        ),
        widget=forms.FileInput(attrs={"accept": ".txt,.jsonl,.ndjson,text/plain"}),
    )
    prompt_from = forms.ChoiceField(
        label=_("or one on the server"),
        required=False,
        help_text=_("from a registered folder"),
        error_messages={"invalid_choice": _("This file is not there any more. Choose another one.")},
    )
    prompts = forms.CharField(
        label=_("Prompts"),
        required=False,
        strip=False,
        help_text=_("JSON lines, one prompt each; empty them to go without. A file above counts first"),
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "font-monospace", "maxlength": False}),
    )

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["prompt_from"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  # as declared above
        field.choices = [("", "–"), *prompt_choices()]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        cleaned["prompt_list"] = None
        if cleaned.get("kind") != "measure":
            return cleaned
        try:
            found = self._read(cleaned)
        except SpecError as error:
            self.add_error(error.field, said(str(error)))
            return cleaned
        if found is None:
            return cleaned
        cleaned["prompt_list"] = found
        # A browser forgets the chosen file when the form comes back.
        self.data = {**self.data, "prompts": to_lines(found)}
        if (cleaned.get("prompt") or "").strip():
            self.add_error("prompt", gettext("Give one prompt or a file of them, not both: clear one of the two."))
        return cleaned

    def _read(self, cleaned: dict[str, Any]) -> list[str] | None:
        file, chosen, text = (cleaned.get(name) for name in ("prompt_file", "prompt_from", "prompts"))
        if file:
            return parse(file.read(MAX_BYTES + 1), file.name)
        if chosen:
            return prompts_of(chosen, "prompt_from")
        if text and text.strip():
            return parse(text.encode("utf-8", "surrogatepass"), "prompts.jsonl", "prompts")
        return None

    def prompts_are_open(self) -> bool:
        """Whether the page shows the fields: there are prompts, or something is wrong with them."""
        names = ("prompt_file", "prompt_from", "prompts")
        return any(self[name].errors for name in names) or bool(self["prompts"].value() or self["prompt_from"].value())
