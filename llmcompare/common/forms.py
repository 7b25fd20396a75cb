"""Forms that look like the rest of the pages: Bootstrap's classes on Django's own widgets."""

from __future__ import annotations

from django import forms

from llmcompare.common.engine_texts import engine_text


class BootstrapForm(forms.BaseForm):
    """Mix in before a form class. Fields with errors are marked for the eye (``is-invalid``); Django marks them for screen readers."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            widget = field.widget
            if isinstance(widget, forms.CheckboxInput):
                name = "form-check-input"
            elif isinstance(widget, forms.Select):
                name = "form-select"
            else:
                name = "form-control"
            widget.attrs["class"] = f"{widget.attrs.get('class', '')} {name}".strip()

    def full_clean(self) -> None:
        super().full_clean()
        for name in self.errors:
            if name in self.fields:
                attrs = self.fields[name].widget.attrs
                if "is-invalid" not in attrs.get("class", ""):
                    attrs["class"] = f"{attrs.get('class', '')} is-invalid".strip()


def add_errors(form: forms.BaseForm, errors: dict[str, str], *, names: dict[str, str] | None = None) -> None:
    """Show a service's messages (``FieldErrors.errors``) at the form's fields; ``names`` says which field stands for which input.

    Those that the engine wrote are translated here.
    """
    for name, message in errors.items():
        field = (names or {}).get(name, name)
        form.add_error(field if field in form.fields else None, engine_text(message))
