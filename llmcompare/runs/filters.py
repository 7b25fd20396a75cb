"""How lists of runs are searched, narrowed and sorted: by the page, its exports and the API alike."""

from __future__ import annotations

import django_filters
from django.db.models import F, Q

from llmcompare.runs.models import Run
from profiling.spec import WORKLOAD_DTYPES

#: Sort name → column. A leading "-" in the parameter turns the order round; unknown values come last either way.
SORTS = {
    "created": "created",
    "model": "model_name",
    "hardware": "hardware_name",
    "state": "state",
    "kind": "kind",
    "batch": "batch_size",
    "input": "input_tokens",
    "output": "output_tokens",
    "dtype": "dtype",
    "ttft": "ttft_s",
    "tpot": "tpot_s",
    "e2e": "e2e_s",
    "throughput": "output_tokens_per_s",
    "memory": "memory_bytes",
}
DEFAULT_SORT = "-created"

SCOPES = (("mine", "my runs"), ("team", "my teams"), ("public", "public"))


def order_runs(queryset, sort: str):
    """Sorted by one of :data:`SORTS`; the primary key breaks ties, so that pages never overlap."""
    down = sort.startswith("-")
    column = F(SORTS[sort.lstrip("-")])
    return queryset.order_by(column.desc(nulls_last=True) if down else column.asc(nulls_last=True), "-pk")


class RunFilter(django_filters.FilterSet):
    """``q`` (every word in title, model or hardware), ``state``, ``kind``, ``dtype``, ``model`` and ``hardware`` (slugs), ``scope``,
    ``since`` and ``until`` (days, UTC), ``sort``."""

    q = django_filters.CharFilter(method="search", label="Search")
    state = django_filters.ChoiceFilter(choices=Run.State.choices, label="State", empty_label="any state")
    kind = django_filters.ChoiceFilter(choices=Run.Kind.choices, label="Kind", empty_label="any kind")
    dtype = django_filters.ChoiceFilter(
        choices=[(name, name) for name in WORKLOAD_DTYPES], label="Data type", empty_label="any data type"
    )
    model = django_filters.CharFilter(field_name="model__slug", label="Model")
    hardware = django_filters.CharFilter(field_name="hardware__slug", label="Hardware")
    scope = django_filters.ChoiceFilter(choices=SCOPES, method="in_scope", label="Whose", empty_label="all I can see")
    since = django_filters.DateFilter(field_name="created", lookup_expr="date__gte", label="From")
    until = django_filters.DateFilter(field_name="created", lookup_expr="date__lte", label="To")
    sort = django_filters.ChoiceFilter(
        choices=[(sign + name, sign + name) for name in SORTS for sign in ("", "-")],
        method="order",
        label="Sort",
        empty_label=None,
    )

    class Meta:
        model = Run
        fields = ["q", "state", "kind", "dtype", "model", "hardware", "scope", "since", "until", "sort"]

    def search(self, queryset, name, value):
        for word in value.split()[:10]:
            queryset = queryset.filter(
                Q(title__icontains=word)
                | Q(model_name__icontains=word)
                | Q(hardware_name__icontains=word)
                | Q(public_id=word)
            )
        return queryset

    def in_scope(self, queryset, name, value):
        user = self.request.user
        if value == "mine":
            return queryset.filter(owner=user)
        if value == "team":
            return queryset.filter(visibility=Run.Visibility.TEAM)
        return queryset.filter(visibility=Run.Visibility.PUBLIC)

    def order(self, queryset, name, value):
        return order_runs(queryset, value)
