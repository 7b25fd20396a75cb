"""Adding models of the Hub, and having their weights fetched."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST

from llmcompare.catalog import hub
from llmcompare.catalog.models import LanguageModel
from llmcompare.common.engine_texts import engine_text
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import BootstrapForm, add_errors
from profiling.hub import is_on


class HubForm(BootstrapForm, forms.Form):
    hub = forms.CharField(
        label=_("Hub id"),
        max_length=400,
        help_text=_(
            "organisation/name, or organisation/name@revision: a commit, a branch or a tag. The commit is kept."
        ),
        widget=forms.TextInput(attrs={"placeholder": _("organisation/name@revision"), "spellcheck": "false"}),
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """A model by its Hub id. Its configuration is fetched while one waits; its weights are not."""
    form = HubForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            model = hub.add_model(text=form.cleaned_data["hub"])
        except FieldErrors as error:
            add_errors(form, error.errors)
        else:
            messages.success(request, gettext("%(model)s can be used by everybody here.") % {"model": model})
            return redirect("catalog:detail", slug=model.slug)
    return render(request, "catalog/hub.html", {"form": form, "hub_is_on": is_on()})


@login_required
@require_POST
def weights(request: HttpRequest, slug: str) -> HttpResponse:
    """Fetch the weights of a model of the Hub, or stop fetching them (``cancel``). For administrators: it fills the disk of the server."""
    shown = LanguageModel.objects.visible_to(request.user).editable_by(request.user)
    model = get_object_or_404(shown.filter(source=LanguageModel.Source.HUB), slug=slug)
    if "cancel" in request.POST:
        hub.cancel(model=model)
    else:
        try:
            hub.ask_for_weights(model=model)
        except FieldErrors as error:
            messages.error(request, engine_text(" ".join(error.errors.values())))
    return redirect("catalog:detail", slug=slug)
