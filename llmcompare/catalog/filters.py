"""How lists of models are searched, narrowed and sorted: by the page, its exports and the API alike."""

from __future__ import annotations

import django_filters
from django.db.models import F, Q

from llmcompare.catalog.models import LanguageModel
from profiling.spec import MODEL_KINDS

#: Choice → (label, order). Unknown figures come last, and every order ends in one that is total.
SORTS = {
    "name": ("Name", []),
    "-parameters": ("Parameters, most first", [F("parameters").desc(nulls_last=True)]),
    "parameters": ("Parameters, fewest first", [F("parameters").asc(nulls_last=True)]),
    "-context": ("Context, longest first", [F("max_context").desc(nulls_last=True)]),
    "-created": ("Newest first", [F("created").desc()]),
}


class ModelFilter(django_filters.FilterSet):
    """``q`` (every word in name, Hub id, class or type), ``kind``, ``source``, ``weights``, ``sort``."""

    q = django_filters.CharFilter(method="search", label="Search")
    kind = django_filters.ChoiceFilter(choices=[(k, k) for k in MODEL_KINDS], label="Kind", empty_label="any")
    source = django_filters.ChoiceFilter(choices=LanguageModel.Source.choices, label="Source", empty_label="any")
    weights = django_filters.ChoiceFilter(choices=LanguageModel.Weights.choices, label="Weights", empty_label="any")
    sort = django_filters.ChoiceFilter(
        choices=[(name, label) for name, (label, _) in SORTS.items()], method="order", label="Sort", empty_label=None
    )

    class Meta:
        model = LanguageModel
        fields = ["q", "kind", "source", "weights", "sort"]

    def search(self, queryset, name, value):
        for word in value.split()[:10]:
            queryset = queryset.filter(
                Q(name__icontains=word)
                | Q(hf_id__icontains=word)
                | Q(slug__icontains=word)
                | Q(architecture__icontains=word)
                | Q(model_type__icontains=word)
            )
        return queryset

    def order(self, queryset, name, value):
        return queryset.order_by(*SORTS[value][1], "name", "pk")
