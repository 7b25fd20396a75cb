"""The form of an endpoint, and that of its administrator."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from hardware.models import Hardware
from llmcompare.accounts.models import User
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import BootstrapForm, add_errors
from llmcompare.endpoints.checking import MAX_KEY, checked_network
from llmcompare.endpoints.models import MAX_MODEL, Endpoint, PrivateNetwork
from llmcompare.endpoints.services import Draft
from profiling.remote.addresses import MAX_URL

PLAIN = {"spellcheck": "false", "autocapitalize": "off"}


class EndpointForm(BootstrapForm, forms.Form):
    """What a user enters. What is wrong with it, the service says; a key is never put back into the page."""

    name = forms.CharField(label=_("Name"), max_length=150, help_text=_("For you to find it again."))
    url = forms.CharField(
        label=_("Address"),
        max_length=MAX_URL,
        help_text=_("Up to /v1, as the server's documentation has it for clients of the OpenAI protocol."),
        widget=forms.TextInput(
            attrs={**PLAIN, "placeholder": "https://example.com/v1", "inputmode": "url", "autocomplete": "off"}
        ),
    )
    key = forms.CharField(
        label=_("API key"),
        required=False,
        max_length=2 * MAX_KEY,
        strip=True,
        widget=forms.PasswordInput(attrs={**PLAIN, "autocomplete": "new-password"}, render_value=False),
    )
    remove_key = forms.BooleanField(label=_("Remove the stored key"), required=False)
    model = forms.CharField(
        label=_("Model"),
        required=False,
        max_length=MAX_MODEL,
        help_text=_("Its name at the server. Leave it empty to choose from the server's list after saving."),
        widget=forms.TextInput(attrs={**PLAIN, "autocomplete": "off"}),
    )
    api = forms.ChoiceField(
        label=_("Route"),
        required=False,
        choices=[("", _("find out")), *Endpoint.Api.choices],
        help_text=_("Chat models answer the first one; base models only the second."),
    )
    private = forms.BooleanField(
        label=_("It is in a private network"),
        required=False,
        help_text=_("Only in one that is open for endpoints (Administration, Private networks)."),
    )
    visibility = forms.ChoiceField(
        label=_("Who may use it"),
        choices=Endpoint.Visibility.choices,
        help_text=_("They send requests with the stored key, and cannot read it."),
    )
    team = forms.ChoiceField(label=_("Team"), required=False)
    hardware = forms.ModelChoiceField(
        label=_("Hardware"),
        queryset=Hardware.objects.none(),
        required=False,
        to_field_name="slug",
        empty_label=_("unknown"),
        help_text=_("What the server runs on, if you know."),
    )
    language_model = forms.ModelChoiceField(
        label=_("Model of the catalogue"),
        queryset=LanguageModel.objects.none(),
        required=False,
        to_field_name="slug",
        empty_label=_("unknown"),
        help_text=_("What the server's model is. With hardware and model, runs have an estimate beside them."),
    )

    def __init__(self, *args, user: User, endpoint: Endpoint | None = None, **kwargs) -> None:
        self.user, self.endpoint = user, endpoint
        if endpoint is not None:
            kwargs["initial"] = initial_of(endpoint)
        super().__init__(*args, **kwargs)
        self.teams = {team.slug: team for team in user.teams.all()}
        if endpoint is not None and endpoint.team is not None:
            self.teams.setdefault(endpoint.team.slug, endpoint.team)
        self._field("team").choices = [("", "–"), *((slug, team.name) for slug, team in self.teams.items())]
        self._field("hardware").queryset = Hardware.objects.visible_to(user)
        self._field("language_model").queryset = LanguageModel.objects.visible_to(user).defer("config", "facts")
        self._fit(endpoint)

    def _fit(self, endpoint: Endpoint | None) -> None:
        """Only what this user may enter for this endpoint."""
        if not self.user.is_staff:
            del self.fields["private"]
        if endpoint is None or not endpoint.key_set:
            del self.fields["remove_key"]
            self.fields["key"].help_text = _("Stored encrypted, sent to this address alone, and never shown again.")
        else:
            self.fields["key"].help_text = _("A key is stored. Leave this empty to keep it.")
        if endpoint is not None and not endpoint.is_openai:
            for name in ("url", "key", "remove_key", "model", "api", "private"):
                self.fields.pop(name, None)
        if endpoint is not None and (endpoint.owner_id != self.user.pk or endpoint.is_the_teams):
            del self.fields["visibility"], self.fields["team"]

    def _field(self, name: str) -> Any:
        return self.fields[name]

    @sensitive_variables()
    def draft(self) -> Draft:
        """What was entered; what this user may not enter stays as it is."""
        data, stored = self.cleaned_data, self.endpoint
        key: str | None = data.get("key") or None
        if data.get("remove_key") and key is None:
            key = ""
        return Draft(
            name=data["name"],
            url=data.get("url", stored.url if stored else ""),
            model=data.get("model", ""),
            api=data.get("api", ""),
            key=key,
            private=data.get("private", stored.private if stored else False),
            visibility=data.get("visibility", stored.visibility if stored else ""),
            team=self.teams.get(data["team"]) if "team" in data else stored.team if stored else None,
            hardware=data["hardware"],
            language_model=data["language_model"],
        )

    def complain(self, error: FieldErrors) -> None:
        """Put the service's messages at their fields; one about a field that this user does not have goes above all."""
        add_errors(self, error.errors)
        self.say_that_the_key_is_gone()

    def say_that_the_key_is_gone(self) -> None:
        if "key" in self.fields and self.data.get("key") and "key" not in self.errors:
            self.add_error("key", _("Enter the key again: the page does not hand it back."))


def initial_of(endpoint: Endpoint) -> dict[str, Any]:
    """The form's values for an endpoint. Its key is not among them."""
    names = ("name", "url", "model", "api", "private", "visibility")
    return {name: getattr(endpoint, name) for name in names} | {
        "team": endpoint.team.slug if endpoint.team else "",
        "hardware": endpoint.hardware.slug if endpoint.hardware else None,
        "language_model": endpoint.language_model.slug if endpoint.language_model else None,
    }


class NetworkForm(forms.ModelForm):
    class Meta:
        model = PrivateNetwork
        fields = ["name", "network", "active"]

    def clean_network(self) -> str:
        try:
            return checked_network(self.cleaned_data["network"])
        except FieldErrors as error:
            raise forms.ValidationError(error.errors["network"]) from None
