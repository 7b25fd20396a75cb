"""Forms of the account pages."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm

from llmcompare.accounts.models import User
from llmcompare.common.forms import BootstrapForm


class LoginForm(BootstrapForm, AuthenticationForm):
    pass


class ChangePasswordForm(BootstrapForm, PasswordChangeForm):
    pass


class ProfileForm(BootstrapForm, forms.ModelForm):
    class Meta:
        model = User
        fields = ["first_name", "last_name", "email"]


class TokenForm(BootstrapForm, forms.Form):
    """How long a new API token works, in days."""

    days = forms.TypedChoiceField(
        label="Works for",
        choices=[("1", "1 day"), ("30", "30 days"), ("90", "90 days"), ("365", "1 year"), ("", "until I revoke it")],
        coerce=int,
        empty_value=None,
        required=False,
        initial="90",
    )
