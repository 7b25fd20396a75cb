"""Forms of the account pages."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.utils.translation import gettext_lazy as _

from llmcompare.accounts.models import User
from llmcompare.common.forms import BootstrapForm


class LoginForm(BootstrapForm, AuthenticationForm):
    pass


class ChangePasswordForm(BootstrapForm, PasswordChangeForm):
    pass


class ProfileForm(BootstrapForm, forms.ModelForm):
    language = forms.ChoiceField(
        label=_("Language"),
        choices=[("", _("that of the browser")), *settings.LANGUAGES],
        required=False,
        help_text=_("Of pages and e-mails. Without a choice, e-mails are in English."),
    )

    class Meta:
        model = User
        fields = ["first_name", "last_name", "email", "language"]


class TokenForm(BootstrapForm, forms.Form):
    """How long a new API token works, in days."""

    days = forms.TypedChoiceField(
        label=_("Works for"),
        choices=[
            ("1", _("1 day")),
            ("30", _("30 days")),
            ("90", _("90 days")),
            ("365", _("1 year")),
            ("", _("until I revoke it")),
        ],
        coerce=int,
        empty_value=None,
        required=False,
        initial="90",
    )
