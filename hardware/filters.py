"""How lists of hardware are searched, narrowed and sorted: by the page, its exports and the API alike."""

from __future__ import annotations

import django_filters
from django.db.models import F, FloatField, Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, NullIf
from django.utils.translation import gettext_lazy as _

from hardware.models import Hardware

#: Choice → (label, order). Unknown figures come last, and every order ends in one that is total.
SORTS = {
    "name": (_("Name"), []),
    "memory": (_("Memory, largest first"), [F("memory_bytes").desc(nulls_last=True)]),
    "bandwidth": (_("Bandwidth, fastest first"), [F("memory_bandwidth").desc(nulls_last=True)]),
    "peak": (_("16-bit peak, fastest first"), [F("peak_16bit").desc(nulls_last=True)]),
    "year": (_("Newest first"), [F("year").desc(nulls_last=True)]),
}


def _peak(dtype: str) -> NullIf:
    # SQLite reads a JSON null as the text "null", which casts to 0; no real peak is 0.
    return NullIf(Cast(KeyTextTransform(dtype, "peak_flops"), FloatField()), 0.0)


class HardwareFilter(django_filters.FilterSet):
    """``q`` (every word in vendor, name or slug), ``vendor``, ``kind``, ``source``, ``sort``."""

    q = django_filters.CharFilter(method="search", label=_("Search"))
    vendor = django_filters.CharFilter(lookup_expr="iexact", label=_("Vendor"))
    kind = django_filters.ChoiceFilter(choices=Hardware.Kind.choices, label=_("Kind"), empty_label=_("any"))
    source = django_filters.ChoiceFilter(choices=Hardware.Source.choices, label=_("Source"), empty_label=_("any"))
    sort = django_filters.ChoiceFilter(
        choices=[(name, label) for name, (label, _order) in SORTS.items()],
        method="order",
        label=_("Sort"),
        empty_label=None,
    )

    class Meta:
        model = Hardware
        fields = ["q", "vendor", "kind", "source", "sort"]

    def search(self, queryset, name, value):
        for word in value.split()[:10]:
            queryset = queryset.filter(Q(name__icontains=word) | Q(vendor__icontains=word) | Q(slug__icontains=word))
        return queryset

    def order(self, queryset, name, value):
        if value == "peak":
            queryset = queryset.annotate(peak_16bit=Coalesce(_peak("bf16"), _peak("fp16")))
        return queryset.order_by(*SORTS[value][1], "vendor", "name", "pk")
