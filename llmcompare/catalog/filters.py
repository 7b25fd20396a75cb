"""How lists of models are searched, narrowed and sorted: by the page, its exports and the API alike."""

from __future__ import annotations

import django_filters
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from llmcompare.catalog.models import LanguageModel
from llmcompare.common.words import MODEL_KINDS
from profiling import spec

#: Choice → (label, order). Unknown figures come last, and every order ends in one that is total.
SORTS = {
    "name": (_("Name"), []),
    "-parameters": (_("Parameters, most first"), [F("parameters").desc(nulls_last=True)]),
    "parameters": (_("Parameters, fewest first"), [F("parameters").asc(nulls_last=True)]),
    "-context": (_("Context, longest first"), [F("max_context").desc(nulls_last=True)]),
    "-created": (_("Newest first"), [F("created").desc()]),
}


class ModelFilter(django_filters.FilterSet):
    """``q`` (every word in name, Hub id, class or type), ``kind``, ``source``, ``weights``, ``sort``."""

    q = django_filters.CharFilter(method="search", label=_("Search"))
    kind = django_filters.ChoiceFilter(
        choices=[(kind, MODEL_KINDS[kind]) for kind in spec.MODEL_KINDS], label=_("Kind"), empty_label=_("any")
    )
    source = django_filters.ChoiceFilter(choices=LanguageModel.Source.choices, label=_("Source"), empty_label=_("any"))
    weights = django_filters.ChoiceFilter(
        choices=LanguageModel.Weights.choices, label=_("Weights"), empty_label=_("any")
    )
    sort = django_filters.ChoiceFilter(
        choices=[(name, label) for name, (label, _order) in SORTS.items()],
        method="order",
        label=_("Sort"),
        empty_label=None,
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
