"""The controls of the page: lists to choose from, sliders, groups of options."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from hardware.models import Hardware, Host
from llmcompare.accounts.models import User
from llmcompare.catalog.models import LanguageModel
from llmcompare.explore.asked import FACTORS, Question
from llmcompare.runs.forms import HOST_PREFIX, MODEL_GROUPS, hardware_label, model_label

#: Number boxes with a slider beside: lowest and highest value of the slider (the box takes more), steps for each doubling.
SLIDERS = {
    "batch_size": (1, 1024, 2),
    "input_tokens": (1, 131072, 2),
    "output_tokens": (1, 16384, 2),
    "tensor_parallel": (1, 16, 1),
    "pipeline_parallel": (1, 16, 1),
    "expert_parallel": (1, 64, 1),
    "data_parallel": (1, 64, 1),
    "x_bandwidth": (0.125, 8, 4),
    "x_flops": (0.125, 8, 4),
    "x_memory": (0.125, 8, 4),
}
#: Pairs that show at once what the page is for, where the catalogue has them.
EXAMPLES = (
    (
        _("Llama 3 8B on three devices"),
        ("llama-3-8b",),
        ("nvidia-h100-sxm5-80gb", "nvidia-a100-sxm4-80gb", "nvidia-l40s-48gb"),
    ),
    (_("Two models on an H100"), ("llama-3-8b", "qwen3-8b"), ("nvidia-h100-sxm5-80gb",)),
)


def controls(user: User, question: Question) -> dict[str, Any]:
    """What ``explore/_controls.html`` shows."""
    form = question.form
    return {
        "form": form,
        "model_groups": _models(user, question),
        "place_groups": _places(user, question),
        "examples": _examples(user) if not (question.models and question.places) else [],
        "load": [slider(question, name) for name in ("batch_size", "input_tokens", "output_tokens")],
        "factors": [slider(question, name) for name in FACTORS],
        "option_groups": [
            group
            | {
                "rows": [
                    (slider(question, option.name) if option.name in SLIDERS else None, form[option.name])
                    for option, _ in group["fields"]
                ]
            }
            for group in form.option_groups()
        ],
        "charts": [form[name] for name in ("curve", "along", "heat", "heat_along", "batches", "lengths")],
        "lines": [
            (n, gettext("%(model)s on %(place)s") % {"model": model.name, "place": place.name})
            for n, (model, place) in enumerate((m, p) for m in question.models for p in question.places)
        ],
        "heat_of": question.form["heat_of"].value(),
        "amounts": _amounts(question),
        "charts_open": bool(
            {"batches", "lengths", "heat", "heat_along", "curve", "along", "heat_of"} & set(question.errors)
        ),
        "teams": list(user.teams.all()),
    }


def slider(question: Question, name: str) -> dict[str, Any]:
    low, high, steps = SLIDERS[name]
    return {"field": question.form[name], "low": low, "high": high, "steps": steps}


def _amounts(question: Question) -> list[dict[str, Any]]:
    """A box for price and one for power of every place."""
    found: list[dict[str, Any]] = []
    for place in question.places:
        for name, words in (
            ("price", gettext("Price per device-hour")),
            ("power", gettext("Power of a device in watts")),
        ):
            key = f"{name}.{place.key}"
            wrong = question.errors.get(key, "")
            found.append(
                {
                    "name": key,
                    "id": f"id_{name}_{len(found)}",
                    "label": gettext("%(what)s: %(place)s") % {"what": words, "place": place.name},
                    "value": question.given.get(key, ""),
                    "error": wrong,
                }
            )
    return found


def _models(user: User, question: Question) -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    chosen = {model.pk for model in question.models}
    for row in LanguageModel.objects.visible_to(user).defer("config", "facts"):
        if row.pk not in chosen:
            group = gettext("Only yours") if row.owner_id else str(MODEL_GROUPS.get(row.kind, row.kind))
            groups.setdefault(group, []).append((row.slug, model_label(row)))
    return list(groups.items())


def _places(user: User, question: Question) -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    chosen = {place.key for place in question.places}
    for host in (
        Host.objects.select_related("hardware").filter(ceilings__isnull=False, hardware__isnull=False).distinct()
    ):
        if HOST_PREFIX + host.slug not in chosen:
            here = groups.setdefault(gettext("Hosts here, with measured ceilings"), [])
            here.append((HOST_PREFIX + host.slug, f"{host.name} ({host.hardware})"))
    for row in Hardware.objects.visible_to(user):
        if row.slug not in chosen:
            group = gettext("Only yours") if row.owner_id else row.vendor or gettext("Other")
            groups.setdefault(group, []).append((row.slug, hardware_label(row)))
    return list(groups.items())


def _examples(user: User) -> list[tuple[str, str]]:
    models = set(LanguageModel.objects.visible_to(user).values_list("slug", flat=True))
    devices = set(Hardware.objects.visible_to(user).values_list("slug", flat=True))
    found = []
    for title, names, places in EXAMPLES:
        if models.issuperset(names) and devices.issuperset(places):
            query = "&".join([*(f"model={name}" for name in names), *(f"hardware={place}" for place in places)])
            found.append((str(title), query))
    return found
