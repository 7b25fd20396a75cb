"""Who gets which answer at every address of the portal. An address without a row fails the test: decide, then write it down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

LOGIN = "login"  # a redirect to the login page


@dataclass(frozen=True)
class Case:
    """One request and its answers, in the order anonymous, stranger, teammate (viewer), staff, owner.

    ``args`` and ``query`` name rows of the small world in ``cast.py`` in braces. An answer may be several statuses.
    """

    answers: tuple
    args: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    method: str = "get"
    data: dict[str, Any] = field(default_factory=dict)


def everyone(status=200, **more) -> list[Case]:
    return [Case((status,) * 5, **more)]


def signed_in(status=200, **more) -> list[Case]:
    return [Case((LOGIN, *(status,) * 4), **more)]


def read_run(ok: int = 200) -> list[Case]:
    """A page of a run: private ones are the owner's alone, staff included; those of a team are its members'."""
    return [
        Case((LOGIN, 404, 404, 404, ok), {"public_id": "{private}"}),
        Case((LOGIN, 404, ok, 404, ok), {"public_id": "{team}"}),
        Case((LOGIN, ok, ok, ok, ok), {"public_id": "{public}"}),
        Case((LOGIN, 404, 404, 404, 404), {"public_id": "{binned}"}),
        Case((LOGIN, 404, 404, 404, 404), {"public_id": "AAAAAAAAAAAAAAAA"}),
    ]


def with_suffix(cases: list[Case], suffix: str) -> list[Case]:
    return [replace(case, args=case.args | {"suffix": suffix}) for case in cases]


def change_run(ok=302, run: str = "private") -> list[Case]:
    """A change of a run: for its owner; a viewer of the team and anybody else who can see it may not."""
    return [
        Case((LOGIN, 404, 404, 404, ok), {"public_id": f"{{{run}}}"}, method="post"),
        Case((LOGIN, 404, 404, 404, ok), {"public_id": "{team}"}, method="post"),
        Case((LOGIN, 404, 404, 404, ok), {"public_id": "{public}"}, method="post"),
    ]


def own_thing(key: str, name: str, ok=200, **more) -> list[Case]:
    return [Case((LOGIN, 404, 404, 404, ok), {key: f"{{{name}}}"}, **more)]


def api(status=200, **more) -> list[Case]:
    return [Case((401, *(status,) * 4), **more)]


def api_read_run() -> list[Case]:
    return [
        Case((401, 404, 404, 404, 200), {"public_id": "{private}"}),
        Case((401, 404, 200, 404, 200), {"public_id": "{team}"}),
        Case((401, 404, 404, 404, 404), {"public_id": "{binned}"}),
    ]


def api_change_run(method: str, ok: int) -> list[Case]:
    return [
        Case((401, 404, 404, 404, ok), {"public_id": "{private}"}, method=method),
        Case((401, 404, 403, 404, ok), {"public_id": "{team}"}, method=method),
        Case((401, 403, 403, 403, ok), {"public_id": "{public}"}, method=method),
    ]


COMPARE_PRIVATE = {"runs": "{private},{public}"}
PAGES: dict[str, list[Case]] = {
    "dashboard": signed_in(),
    "robots": everyone(),
    "accounts:login": [Case((200, (200, 302), (200, 302), (200, 302), (200, 302)))],
    "accounts:logout": [Case((302,) * 5, method="post")],
    "accounts:profile": signed_in(),
    "accounts:password": signed_in(),
    "accounts:tokens": signed_in(),
    "accounts:revoke": signed_in(404, method="post", data={"token": "of nobody"}),
    "accounts:teams": signed_in(),
    "catalog:list": signed_in(),
    "catalog:csv": signed_in(),
    "catalog:json": signed_in(),
    "catalog:upload": signed_in(),
    "catalog:detail": signed_in(args={"slug": "{model}"}) + own_thing("slug", "upload"),
    "catalog:detail-json": signed_in(args={"slug": "{model}"}) + own_thing("slug", "upload"),
    "catalog:inspect": own_thing("slug", "upload", 302, method="post"),
    "catalog:rename": own_thing("slug", "upload") + signed_in(404, args={"slug": "{model}"}),
    "catalog:delete": own_thing("slug", "upload") + signed_in(404, args={"slug": "{model}"}),
    "hardware:list": signed_in(),
    "hardware:csv": signed_in(),
    "hardware:json": signed_in(),
    "hardware:new": signed_in(),
    "hardware:host": signed_in(args={"slug": "{host}"}),
    "hardware:host-ceilings": [
        *signed_in((200, 302), args={"slug": "{host}"}),
        Case((LOGIN, 404, 404, 302, 404), {"slug": "{host}"}, method="post"),
    ],
    "hardware:host-ceilings-cancel": [Case((LOGIN, 404, 404, 302, 404), {"slug": "{host}"}, method="post")],
    "hardware:detail": signed_in(args={"slug": "{hardware}"}) + own_thing("slug", "own_hardware"),
    "hardware:detail-json": signed_in(args={"slug": "{hardware}"}) + own_thing("slug", "own_hardware"),
    "hardware:delete": own_thing("slug", "own_hardware") + signed_in(404, args={"slug": "{hardware}"}),
    "runs:list": signed_in(),
    "runs:csv": signed_in(),
    "runs:json": signed_in(),
    "runs:new": signed_in(),
    "runs:detail": read_run(),
    "runs:run-csv": read_run(),
    "runs:run-json": read_run(),
    "runs:run-graph": with_suffix(read_run(), "dot") + signed_in(404, args={"public_id": "{public}", "suffix": "exe"}),
    "runs:row": read_run(),
    "runs:rerun": read_run(ok=302),
    "runs:preview": signed_in((200, 422), method="post"),
    "runs:status": read_run(),
    "runs:cancel": change_run(run="waiting"),
    "runs:delete": change_run((200, 302)),
    "runs:restore": own_thing("public_id", "binned", 302, method="post"),
    "runs:compare": signed_in(),
    "runs:compare-csv": signed_in(query=COMPARE_PRIVATE),
    "runs:compare-json": signed_in(query=COMPARE_PRIVATE),
    "sharing:run": [
        *read_run()[:2],
        Case((LOGIN, 404, 404, 404, 201), {"public_id": "{private}"}, method="post"),
        Case((LOGIN, 404, 201, 404, 201), {"public_id": "{team}"}, method="post"),
    ],
    "sharing:comparison": [
        Case((LOGIN, 404, 404, 404, 200), query=COMPARE_PRIVATE),
        Case((LOGIN, 404, 404, 404, 201), data=COMPARE_PRIVATE, method="post"),
    ],
    "sharing:list": signed_in(),
    "sharing:revoke": own_thing("digest", "digest", 302, method="post"),
    "sharing:open": everyone(args={"token": "{token}"}) + everyone(404, args={"token": "{digest}"}),
    "sharing:json": everyone(args={"token": "{token}"}) + everyone(404, args={"token": "{private}"}),
    "sharing:graph": everyone(args={"token": "{token}", "suffix": "dot"})
    + everyone(404, args={"token": "unknown", "suffix": "dot"}),
    "sharing:csv": everyone(args={"token": "{token}"}) + everyone(404, args={"token": "unknown"}),
    "api:schema": everyone(),
    "api:docs": everyone(),
}
API: dict[str, list[Case]] = {
    "api:login": everyone(400, method="post"),
    "api:logout": api(204, method="post"),
    "api:models": api() + api(400, method="post"),
    "api:model": [*api(args={"slug": "{model}"}), Case((401, 404, 404, 404, 200), {"slug": "{upload}"})],
    "api:hardware-list": api(),
    "api:hardware": [*api(args={"slug": "{hardware}"}), Case((401, 404, 404, 404, 200), {"slug": "{own_hardware}"})],
    "api:hosts": api(),
    "api:host-ceilings": [
        *api(args={"slug": "{host}"}),
        Case((401, 403, 403, (200, 202), 403), {"slug": "{host}"}, method="post"),
    ],
    "api:runs": api() + api(400, method="post"),
    "api:run": api_read_run() + api_change_run("delete", 204),
    "api:run-document": api_read_run(),
    "api:run-cancel": api_change_run("post", 200),
    "api:run-csv": api_read_run(),
    "api:run-json": api_read_run(),
    "api:inference": api(400, method="post"),
    "api:compare": [Case((401, 404, 404, 404, 200), query=COMPARE_PRIVATE)],
}
TABLE = PAGES | API
