"""Pages of one's own account: log in and out, language, password, profile, API tokens, teams."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_required
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _
from django.views import i18n
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from knox.models import AuthToken

from llmcompare.accounts.forms import ChangePasswordForm, LoginForm, ProfileForm, TokenForm
from llmcompare.accounts.models import Membership
from llmcompare.accounts.requests import UserRequest
from llmcompare.accounts.services import choose_language, create_token, revoke_token
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import add_errors

login = auth.LoginView.as_view(
    template_name="accounts/login.html", authentication_form=LoginForm, redirect_authenticated_user=True
)
logout = auth.LogoutView.as_view()


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Go back to the page in another language. The choice is kept in a cookie, and with an account in the account."""
    answer = i18n.set_language(request)
    chosen = request.POST.get("language", "")
    if request.user.is_authenticated and chosen in dict(settings.LANGUAGES):
        choose_language(user=request.user, language=chosen)
    return answer


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    form = ProfileForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        user = form.save()
        with override(user.language or get_language()):
            messages.success(request, _("Your profile is saved."))
        return redirect("accounts:profile")
    return render(request, "accounts/profile.html", {"form": form})


@sensitive_post_parameters()
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    form = ChangePasswordForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        update_session_auth_hash(request, form.save())
        messages.success(request, _("Your password is changed. Other devices have to log in again."))
        return redirect("accounts:profile")
    return render(request, "accounts/password.html", {"form": form})


@sensitive_variables("token")
@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """The user's API tokens; POST makes one, and its answer is the only page that ever shows it."""
    form, token = TokenForm(request.POST or None), None
    if request.method == "POST" and form.is_valid():
        try:
            _, token = create_token(owner=request.user, days=form.cleaned_data["days"])
        except FieldErrors as error:
            add_errors(form, error.errors)
        else:
            form = TokenForm()
    page = {
        "form": form,
        "token": token,
        "tokens": AuthToken.objects.filter(user=request.user).order_by("-created", "digest"),
        "now": timezone.now(),
    }
    return render(request, "accounts/tokens.html", page)


@login_required
@require_POST
def revoke(request: HttpRequest) -> HttpResponse:
    token = get_object_or_404(AuthToken, user=request.user, digest=request.POST.get("digest", "").replace("\x00", ""))
    revoke_token(token=token)
    messages.success(request, _("The token {key}… no longer works.").format(key=token.token_key[:8]))
    return redirect("accounts:tokens")


@login_required
@require_safe
def teams(request: UserRequest) -> HttpResponse:
    """The teams one is in, and who else is. Administrators make teams and add people in the admin."""
    members = Prefetch("membership_set", Membership.objects.select_related("user").order_by("user__username", "pk"))
    return render(request, "accounts/teams.html", {"teams": request.user.teams.prefetch_related(members)})
