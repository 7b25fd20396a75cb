"""Forms for hardware: a user's own device in the units of datasheets, and the admin's entry."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from hardware.catalogue import GIGA, MEGA, TERA, exact
from hardware.models import Hardware
from hardware.presentation import DTYPES
from llmcompare.common.forms import BootstrapForm
from profiling.spec import DTYPE_BYTES

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

#: Form field → (model field, units in one of its units).
SCALES = {
    "memory_gb": ("memory_bytes", GIGA),
    "bandwidth_gb_s": ("memory_bandwidth", GIGA),
    "cache_mb": ("cache_bytes", MEGA),
    "interconnect_gb_s": ("interconnect_bandwidth", GIGA),
    "tdp": ("tdp_w", 1),
}


def _figure(label: StrOrPromise, help_text: StrOrPromise = "") -> forms.DecimalField:
    return forms.DecimalField(
        label=label,
        required=False,
        min_value=Decimal("0.000001"),
        max_value=Decimal("1e9"),
        max_digits=18,
        decimal_places=6,
        help_text=help_text,
        error_messages={"min_value": _("Enter a number above 0, or leave it empty for unknown.")},
    )


class PrivateHardwareForm(BootstrapForm, forms.Form):
    """A device of one's own. An empty figure is unknown."""

    name = forms.CharField(label=_("Name"), max_length=120)
    vendor = forms.CharField(label=_("Vendor"), max_length=60, required=False)
    kind = forms.ChoiceField(label=_("Kind"), choices=Hardware.Kind.choices)
    memory_gb = _figure(_("Memory (GB)"), _("1 GB is 10⁹ bytes"))
    bandwidth_gb_s = _figure(_("Memory bandwidth (GB/s)"))
    cache_mb = _figure(_("Cache (MB)"), _("last level on the chip"))
    interconnect_gb_s = _figure(_("Interconnect (GB/s)"), _("sum of both directions"))
    tdp = _figure(_("Power (W)"))
    note = forms.CharField(label=_("Note"), widget=forms.Textarea(attrs={"rows": 2}), max_length=2000, required=False)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for dtype in DTYPES:
            unit = "TOP/s" if dtype.startswith("int") else "TFLOP/s"
            field = _figure(gettext("Peak %(dtype)s (%(unit)s)") % {"dtype": dtype, "unit": unit}, gettext("dense"))
            field.widget.attrs["class"] = "form-control"
            self.fields[f"peak_{dtype}"] = field

    def figure_fields(self):
        return [self[name] for name in SCALES]

    def peak_fields(self):
        return [self[f"peak_{dtype}"] for dtype in DTYPES]

    def to_hardware(self, *, copied: Hardware | None = None) -> Hardware:
        """An unsaved entry with what was entered; confidence and disagreements of ``copied`` go with it."""
        values = self.cleaned_data
        hardware = Hardware(name=values["name"], vendor=values["vendor"], kind=values["kind"], note=values["note"])
        for name, (field, scale) in SCALES.items():
            setattr(hardware, field, exact(values[name], scale))
        for field in ("memory_bytes", "cache_bytes"):
            if (value := getattr(hardware, field)) is not None:
                setattr(hardware, field, max(1, round(value)))
        peaks = {dtype: exact(values[f"peak_{dtype}"], TERA) for dtype in DTYPES}
        asked = set(copied.peak_flops) if copied else set()
        hardware.peak_flops = {dtype: peak for dtype, peak in peaks.items() if peak is not None or dtype in asked}
        if copied is not None:
            hardware.year = copied.year
            hardware.compiled_on = copied.compiled_on
            hardware.confidence = dict(copied.confidence)
            hardware.disagreements = list(copied.disagreements)
        return hardware


def initial_of(hardware: Hardware) -> dict[str, Any]:
    """The form's values for a copy of ``hardware``."""
    initial: dict[str, Any] = {
        name: _scaled(getattr(hardware, field), scale) for name, (field, scale) in SCALES.items()
    }
    initial |= {f"peak_{dtype}": _scaled(hardware.peak_flops.get(dtype), TERA) for dtype in DTYPES}
    name = (gettext("%(name)s (my copy)") % {"name": hardware.name})[:120]
    return initial | {"name": name, "vendor": hardware.vendor, "kind": hardware.kind, "note": hardware.note}


def _scaled(value: float | int | None, scale: int) -> str | None:
    if value is None:
        return None
    text = f"{Decimal(str(value)) / scale:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class AdminHardwareForm(forms.ModelForm):
    class Meta:
        model = Hardware
        fields = [
            "slug",
            "name",
            "vendor",
            "kind",
            "year",
            "memory_bytes",
            "memory_bandwidth",
            "peak_flops",
            "cache_bytes",
            "interconnect_bandwidth",
            "tdp_w",
            "note",
            "confidence",
            "disagreements",
            "compiled_on",
            "source",
        ]

    def clean_peak_flops(self) -> dict[str, float | int | None]:
        """A rate or null for each format that the portal knows."""
        peaks = self.cleaned_data["peak_flops"]
        if not isinstance(peaks, dict):
            raise forms.ValidationError(gettext('Enter an object, for example {"fp16": 125e12, "bf16": null}.'))
        for dtype, value in peaks.items():
            if dtype not in DTYPE_BYTES:
                raise forms.ValidationError(
                    gettext("%(dtype)s is no format; use %(known)s.")
                    % {"dtype": repr(dtype), "known": ", ".join(DTYPE_BYTES)}
                )
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < 1e24):
                raise forms.ValidationError(
                    gettext("%(dtype)s: enter FLOP/s as a number above 0, or null when it is unknown.")
                    % {"dtype": dtype}
                )
        return peaks

    def clean_confidence(self) -> dict[str, Any]:
        confidence = self.cleaned_data["confidence"]
        shape = isinstance(confidence, dict) and all(
            isinstance(entry, dict)
            and entry.get("status") in ("confirmed", "unconfirmed", "measured")
            and isinstance(entry.get("sources", []), list)
            for entry in confidence.values()
        )
        if not shape:
            message = gettext(
                'Enter an object like {"memory_bytes": {"status": "confirmed", "sources": ["datasheet"]}}.'
            )
            raise forms.ValidationError(message)
        return confidence

    def clean_disagreements(self) -> list[dict[str, Any]]:
        rows = self.cleaned_data["disagreements"] or []
        if not isinstance(rows, list) or not all(
            isinstance(r, dict) and {"field", "source", "value"} <= set(r) for r in rows
        ):
            raise forms.ValidationError(
                gettext('Enter a list like [{"field": "tdp_w", "source": "…", "value": 300, "ours": 350}].')
            )
        return rows

    def clean_source(self) -> str:
        source = self.cleaned_data["source"]
        if source == Hardware.Source.PRIVATE and self.instance.owner_id is None:
            raise forms.ValidationError(gettext("Private entries belong to a user and are made on the hardware page."))
        return source
