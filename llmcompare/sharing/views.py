"""Pages of sharing: for the maker of a link (make, list, revoke) and, without an account, for its visitor."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from llmcompare.accounts.requests import UserRequest
from llmcompare.common.csv import CsvFormat, csv_response
from llmcompare.common.errors import FieldErrors
from llmcompare.runs import exports, extract
from llmcompare.runs.compare import comparison, notes
from llmcompare.runs.compare_figures import figures, figures_json
from llmcompare.runs.compare_graphs import graphs
from llmcompare.runs.compare_layers import chosen, layers
from llmcompare.runs.endpointpage import served_part
from llmcompare.runs.graphfiles import graph_file
from llmcompare.runs.models import Run
from llmcompare.runs.options import tags
from llmcompare.runs.presentation import run_context
from llmcompare.runs.rolediff import diff_json
from llmcompare.sharing import public, services
from llmcompare.sharing.forms import ShareForm
from llmcompare.sharing.models import ShareLink
from llmcompare.sharing.presentation import comparison_rows

MAX_LINKS_SHOWN = 200

# --- for the maker ---------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def share_run(request: UserRequest, public_id: str) -> HttpResponse:
    """Choose how long and what, then get the link (POST)."""
    run = get_object_or_404(Run.objects.visible_to(request.user), public_id=public_id)
    return _share(request, [run], back=reverse("runs:detail", args=[run.public_id]))


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def share_comparison(request: UserRequest) -> HttpResponse:
    """The same for ``?runs=a,b,c``, in that order."""
    asked = request.POST.get("runs") or request.GET.get("runs", "")
    ids = list(dict.fromkeys(part for part in asked.replace("\x00", "").split(",") if part))
    found = {
        r.public_id: r for r in Run.objects.visible_to(request.user).filter(public_id__in=ids[: services.MAX_RUNS + 1])
    }
    if not ids or any(public_id not in found for public_id in ids):
        raise Http404("No such comparison.")
    return _share(
        request, [found[public_id] for public_id in ids], back=f"{reverse('runs:compare')}?runs={','.join(ids)}"
    )


def _share(request: UserRequest, runs: list[Run], *, back: str) -> HttpResponse:
    page = {
        "runs": runs,
        "run_ids": ",".join(run.public_id for run in runs),
        "back": back,
        "may_show_texts": services.may_show_texts(request.user, runs),
    }
    if request.method != "POST":
        return render(request, "sharing/new.html", page | {"form": ShareForm()})
    # A button on the run page may send nothing but the token against forgery: it means the defaults.
    form = ShareForm({"expires": services.DEFAULT_EXPIRY} | request.POST.dict())
    if form.is_valid():
        try:
            link, token = services.create_link(owner=request.user, runs=runs, **form.cleaned_data)
        except FieldErrors as error:
            for field, message in error.errors.items():
                form.add_error(field if field in form.fields else None, message)
        else:
            url = request.build_absolute_uri(reverse("sharing:open", args=[token]))
            made = render(request, "sharing/made.html", page | {"link": link, "url": url}, status=201)
            made["Cache-Control"] = "private, no-store"
            return made
    return render(request, "sharing/new.html", page | {"form": form}, status=422)


@login_required
@require_GET
def links(request: UserRequest) -> HttpResponse:
    """The user's links, newest first, with what became of each."""
    own = list(ShareLink.objects.filter(owner=request.user)[:MAX_LINKS_SHOWN])
    ids = {public_id for link in own for public_id in link.run_ids}
    shown = Run.objects.visible_to(request.user).filter(public_id__in=ids).defer("spec", "notes", "error")
    runs = {run.public_id: run for run in shown}
    lines = [
        {"link": link, "state": services.state_of(link, runs), "runs": [runs[i] for i in link.run_ids if i in runs]}
        for link in own
    ]
    return render(request, "sharing/links.html", {"lines": lines})


@login_required
@require_POST
def revoke(request: UserRequest, digest: str) -> HttpResponse:
    """End a link at once."""
    link = get_object_or_404(ShareLink, owner=request.user, token_digest=digest)
    services.revoke_link(link=link)
    messages.success(request, gettext("The link %(token_start)s… no longer works.") % {"token_start": link.token_start})
    return redirect("sharing:list")


# --- for the visitor -------------------------------------------------------------------------------------------------


def shared(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A read-only page behind a token: everything that does not work is the same 404, and nobody keeps or passes on the address."""

    @sensitive_variables("token")
    @require_safe
    @wraps(view)
    def opened_view(request: HttpRequest, token: str, **rest: str) -> HttpResponseBase:
        opened = services.open_link(token)
        response = view(request, opened, **rest) if opened else render(request, "sharing/gone.html", status=404)
        response["X-Robots-Tag"] = "noindex, nofollow"
        response["Referrer-Policy"] = "no-referrer"
        response["Cache-Control"] = "private, no-store"
        return response

    return opened_view


@shared
def open_page(request: HttpRequest, opened: services.Opened) -> HttpResponse:
    if len(opened.runs) == 1:
        run, text = opened.runs[0], opened.texts
        shown = public.shared_document(run, include_text=text)
        page = run_context(shown, request.GET, shared=True, include_text=text)
        facts = public.shared_facts(run)
        return render(request, "sharing/run.html", page | {"facts": facts, "tags": tags(facts["options"])})
    compared = exports.comparison_object(public.shared_lines(opened.runs))
    columns = public.shared_columns(opened.runs, within=extract.PAGE_S)
    page = {
        "rows": comparison_rows(compared),
        "facts": [public.shared_facts(run) for run in opened.runs],
        "shared": True,
        "notes": notes(columns, ranked=False),
        "layers": layers(request.GET, columns, 0),
        "graphs": graphs(request.GET, columns, 0, document_of=public.graph_document),
        **figures(request.GET, columns, comparison(columns)),
    }
    return render(request, "sharing/comparison.html", page)


@shared
def export_json(request: HttpRequest, opened: services.Opened) -> HttpResponse:
    if len(opened.runs) == 1:
        run = opened.runs[0]
        shown = public.shared_object(run, include_text=opened.texts)
        return exports.json_response(exports.run_filename(run, "json"), shown)
    with translation.override("en"):  # programs read it, whatever the language of the pages
        return exports.json_response("comparison.json", _comparison(request, opened.runs))


def _comparison(request: HttpRequest, runs: list[Run]) -> dict[str, Any]:
    """What both exports of a comparison hold: the figures, and what the page shows of layers and charts at the same address."""
    columns = public.shared_columns(runs)
    found = diff_json(chosen(request.GET, columns, 0), columns)
    drawn = graphs(request.GET, columns, 0, document_of=public.graph_document)
    compared = exports.comparison_object(public.shared_lines(runs), layers=found)
    return compared | {"charts": figures_json(request.GET, columns, comparison(columns), drawn)}


@shared
def export_csv(request: HttpRequest, opened: services.Opened) -> HttpResponseBase:
    try:
        layout = CsvFormat.from_query(request.GET)
    except BadRequest as error:
        return HttpResponse(str(error), status=400, content_type="text/plain; charset=utf-8")
    if len(opened.runs) == 1:
        run = opened.runs[0]
        figures = exports.run_rows(public.shared_object(run, include_text=opened.texts))
        return csv_response(exports.run_filename(run, "csv"), exports.RUN_HEADER, figures, layout)
    header, rows = exports.comparison_table(_comparison(request, opened.runs))
    return csv_response("comparison.csv", header, rows, layout)


@shared
def export_graph(request: HttpRequest, opened: services.Opened, suffix: str) -> HttpResponseBase:
    run = opened.runs[0]
    document = public.shared_document(run, include_text=False) if len(opened.runs) == 1 else {}
    try:
        return graph_file(request, run, served_part(document), suffix)
    except Http404:
        return render(request, "sharing/gone.html", status=404)
