"""The options of ``options.py`` as fields of a form, in groups that fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text
from llmcompare.runs.options import GROUPS, OPTIONS, Option, tags, weight_formats
from profiling.spec import WORKLOAD_DTYPES


def _choices(option: Option) -> list[Any]:
    nothing = [("", option.empty)] if option.default is None else []
    if option.name == "weights_dtype":
        return [*nothing, *weight_formats().items()]
    # Activations of 16 or 32 bits are those of the data type: the empty choice says that already.
    left_out = WORKLOAD_DTYPES if option.name == "activation_dtype" else ()
    named = [(value, option.says(value) if option.group == "conventions" else value) for value in option.values]
    return [*nothing, *(pair for pair in named if pair[0] not in left_out)]


def _field(option: Option) -> forms.Field:
    about: Text = option.help
    if option.empty and not option.values:
        about = format_lazy(_("{about}; empty: {empty}"), about=option.help, empty=option.empty)
    common: dict[str, Any] = {"required": False, "label": option.title, "help_text": about}
    if option.values:
        message = gettext("%(value)s cannot be chosen here. Choose one of the list.")
        return forms.ChoiceField(
            choices=_choices(option),
            initial=option.default or "",
            error_messages={"invalid_choice": message},
            **common,
        )
    if option.fraction:
        return forms.FloatField(widget=forms.NumberInput(attrs={"step": "any"}), **common)
    return forms.IntegerField(initial=option.default, **common)


class OptionsForm(forms.Form):
    """Mix in: one field for each option. None of them must be sent; what is left empty is as it is by itself."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for option in OPTIONS:
            self.fields[option.name] = _field(option)

    def option_values(self, *, measured: bool) -> dict[str, Any]:
        """What was filled in, for the workload; of a measurement only what it follows. Only after validation."""
        kept = (o.name for o in OPTIONS if o.measured or not measured)
        return {name: self.cleaned_data[name] for name in kept if self.cleaned_data.get(name) not in (None, "")}

    def forget_option_errors(self) -> None:
        """For a measurement: what it does not follow is hidden on the page, so a mistake in it must not be in the way."""
        for option in OPTIONS:
            if not option.measured:
                self.errors.pop(option.name, None)

    def option_groups(self) -> list[dict[str, Any]]:
        """Groups for the page: open where something differs from how it is by itself, or is wrong."""
        values = self._asked()
        groups = []
        for group in GROUPS:
            options = [o for o in OPTIONS if o.group == group.key]
            mine = {o.name: values[o.name] for o in options if o.name in values}
            changed = tags(
                mine | {"dtype": values.get("dtype")} | {o.needs: values.get(o.needs) for o in options if o.needs}
            )
            wrong = any(o.name in self.errors for o in options) if self.is_bound else False
            groups.append(
                {
                    "group": group,
                    "fields": [(o, self[o.name]) for o in options],
                    "changed": changed,
                    "wrong": wrong,
                    "open": wrong or bool(changed),
                    "measured": any(o.measured for o in options),
                }
            )
        return groups

    def _asked(self) -> Mapping[str, Any]:
        """The values on the page as the workload has them; what cannot be read is left out."""
        values: dict[str, Any] = {"dtype": self["dtype"].value()}
        for option in OPTIONS:
            try:
                value = self.fields[option.name].clean(self[option.name].value())
            except forms.ValidationError:
                continue
            if value not in (None, ""):
                values[option.name] = value
        return values
