"""How lists of runs are searched, narrowed and sorted: by the history page, its exports and the API alike."""

from __future__ import annotations

import django_filters
from django.db.models import F, Q, Value
from django.db.models.functions import NullIf
from django.utils.translation import gettext_lazy as _

from llmcompare.runs.models import Run, RunTag
from llmcompare.runs.querysets import RunQuerySet
from llmcompare.runs.tagging import tag_names
from profiling.spec import WORKLOAD_DTYPES

#: Name in the address → column. A leading dash reverses; unknown figures come last either way.
SORTS = {
    "created": "created",
    "state": "state",
    "kind": "kind",
    "model": "model_name",
    "hardware": "hardware_name",
    "batch": "batch_size",
    "input": "input_tokens",
    "output": "output_tokens",
    "dtype": "dtype",
    "ttft": "ttft_s",
    "tpot": "tpot_s",
    "e2e": "e2e_s",
    "throughput": "output_tokens_per_s",
    "memory": "memory_bytes",
    "bound": "bound",
}
DEFAULT_SORT = "-created"
#: Columns whose value for what is not known is none: of endpoints batch, prompt and format, of many runs what limits them.
UNKNOWN = {"batch_size": 0, "input_tokens": 0, "dtype": "", "bound": ""}
WHOSE = [("mine", _("Mine")), ("team", _("My teams'")), ("public", _("Everyone's"))]


def sorted_runs(runs: RunQuerySet, sort: str) -> RunQuerySet:
    """In the order of ``sort`` (a key of :data:`SORTS`, with a dash for descending), ties broken by age and number."""
    name = SORTS[sort.removeprefix("-")]
    column: F | NullIf = NullIf(F(name), Value(UNKNOWN[name])) if name in UNKNOWN else F(name)
    order = column.desc(nulls_last=True) if sort.startswith("-") else column.asc(nulls_last=True)
    return runs.order_by(order, "-created", "-pk")


class RunFilter(django_filters.FilterSet):
    """``q`` (every word in title, model, hardware or id), ``state`` (or ``active``), ``kind``, ``model`` and ``hardware`` (slugs),
    ``dtype``, ``tag`` (exactly; several with commas: all of them), ``whose`` (mine, team, public), ``after`` and ``before`` (days, UTC, both included), ``sort``."""

    q = django_filters.CharFilter(method="search", label=_("Search"))
    state = django_filters.ChoiceFilter(
        choices=[*Run.State.choices, ("active", _("Waiting or running"))],
        method="in_state",
        label=_("State"),
        empty_label=_("any"),
    )
    kind = django_filters.ChoiceFilter(choices=Run.Kind.choices, label=_("Kind"), empty_label=_("any"))
    model = django_filters.CharFilter(field_name="model__slug", label=_("Model"))
    hardware = django_filters.CharFilter(field_name="hardware__slug", label=_("Hardware"))
    dtype = django_filters.ChoiceFilter(
        choices=[(name, name) for name in WORKLOAD_DTYPES], label=_("Data type"), empty_label=_("any")
    )
    tag = django_filters.CharFilter(method="tagged", label=_("Tag"))
    whose = django_filters.ChoiceFilter(choices=WHOSE, method="of_whom", label=_("Whose"), empty_label=_("any"))
    after = django_filters.DateFilter(field_name="created", lookup_expr="date__gte", label=_("From"))
    before = django_filters.DateFilter(field_name="created", lookup_expr="date__lte", label=_("To"))
    sort = django_filters.ChoiceFilter(
        choices=[(sign + name, sign + name) for name in SORTS for sign in ("", "-")],
        method="in_order",
        label=_("Sort"),
        empty_label=_("newest first"),
    )

    class Meta:
        model = Run
        fields = ["q", "state", "kind", "model", "hardware", "dtype", "tag", "whose", "after", "before", "sort"]

    def search(self, queryset: RunQuerySet, name: str, value: str) -> RunQuerySet:
        for word in value.split()[:10]:
            queryset = queryset.filter(
                Q(title__icontains=word)
                | Q(model_name__icontains=word)
                | Q(hardware_name__icontains=word)
                | Q(public_id=word)
            )
        return queryset

    def in_state(self, queryset: RunQuerySet, name: str, value: str) -> RunQuerySet:
        return queryset.active() if value == "active" else queryset.filter(state=value)

    def tagged(self, queryset: RunQuerySet, name: str, value: str) -> RunQuerySet:
        for tag in tag_names(value)[:10]:
            queryset = queryset.filter(pk__in=RunTag.objects.filter(name=tag).values("run"))
        return queryset

    def of_whom(self, queryset: RunQuerySet, name: str, value: str) -> RunQuerySet:
        user = self.request.user
        if value == "mine":
            return queryset.filter(owner=user)
        if value == "team":
            return queryset.filter(visibility=Run.Visibility.TEAM, team__in=user.teams.values("pk"))
        return queryset.filter(visibility=Run.Visibility.PUBLIC)

    def in_order(self, queryset: RunQuerySet, name: str, value: str) -> RunQuerySet:
        return sorted_runs(queryset, value)

    @property
    def sort_in_use(self) -> str:
        """The valid order that is in the address, else the default."""
        self.errors  # noqa: B018  (validates)
        return self.form.cleaned_data.get("sort") or DEFAULT_SORT
