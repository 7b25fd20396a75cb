"""Words for what the engine names by a key, where several parts of the portal show it."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

#: Kind of a model (``profiling.spec.MODEL_KINDS``).
MODEL_KINDS = {
    "decoder": _("decoder"),
    "encoder": _("encoder"),
    "encdec": _("encoder–decoder"),
    "ssm": _("state space"),
    "audio": _("audio"),
    "vision": _("vision"),
}
#: Where a figure comes from.
ORIGINS = {"estimated": _("estimated"), "measured": _("measured"), "reported": _("reported by the server")}
#: What limits a run.
BOUNDS = {
    "compute": _("compute"),
    "memory": _("memory"),
    "overhead": _("overhead"),
    "network": _("network"),
    "unknown": _("unknown"),
}
#: Where the ceilings under an estimate come from.
LEVELS = {"datasheet": _("datasheet"), "measured": _("measured")}
