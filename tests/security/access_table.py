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


def with_name(cases: list[Case], name: str) -> list[Case]:
    return [replace(case, args=case.args | {"name": name}) for case in cases]


def change_run(ok=302, run: str = "private") -> list[Case]:
    """A change of a run: for its owner; a viewer of the team and anybody else who can see it may not."""
    return [
        Case((LOGIN, 404, 404, 404, ok), {"public_id": f"{{{run}}}"}, method="post"),
        Case((LOGIN, 404, 404, 404, ok), {"public_id": "{team}"}, method="post"),
        Case((LOGIN, 404, 404, 404, ok), {"public_id": "{public}"}, method="post"),
    ]


def read_endpoint(ok: int = 200) -> list[Case]:
    return [
        Case((LOGIN, 404, 404, 404, ok), {"public_id": "{endpoint}"}),
        Case((LOGIN, 404, ok, 404, ok), {"public_id": "{team_endpoint}"}),
        Case((LOGIN, 404, 404, 404, 404), {"public_id": "{binned_endpoint}"}),
    ]


def change_endpoint(ok=302) -> list[Case]:
    """A viewer of the team uses it and does not change it."""
    return [
        Case((LOGIN, 404, 404, 404, ok), {"public_id": f"{{{name}}}"}, method="post")
        for name in ("endpoint", "team_endpoint")
    ]


def use_connection(status=200, nobody=LOGIN, **more) -> list[Case]:
    """What costs money or reads a project: for its owner and for editors of its team. A viewer sees it and does not use it; to staff it is as
    to anybody else."""
    return [
        Case((nobody, 404, 404, 404, status), {"public_id": f"{{{name}}}"}, **more)
        for name in ("connection", "team_connection")
    ]


def read_deployment(status=200, nobody=LOGIN, **more) -> list[Case]:
    """Staff see all that is deployed: they answer for what is spent."""
    return [
        Case((nobody, 404, 404, status, status), {"public_id": "{deployment}"}, **more),
        Case((nobody, 404, status, status, status), {"public_id": "{team_deployment}"}, **more),
    ]


def change_deployment(status=302, nobody=LOGIN, **more) -> list[Case]:
    return [
        Case((nobody, 404, 404, status, status), {"public_id": f"{{{name}}}"}, method="post", **more)
        for name in ("deployment", "team_deployment")
    ]


def read_series() -> list[Case]:
    """A series is there for whoever sees one of its runs."""
    return [
        Case((LOGIN, 404, 404, 404, 200), {"key": "{private_series}"}),
        Case((LOGIN, 404, 200, 404, 200), {"key": "{team_series}"}),
        Case((LOGIN, 200, 200, 200, 200), {"key": "{public_series}"}),
        *signed_in(404, args={"key": "nonsense"}),
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


def api_read_connection() -> list[Case]:
    return [
        Case((401, 404, 404, 404, 200), {"public_id": "{connection}"}),
        Case((401, 404, 200, 404, 200), {"public_id": "{team_connection}"}),
    ]


#: A machine that does not exist: who may deploy is told so.
DEPLOY = {"model": "7", "name": "a", "confirm": "a", "machine_type": "no-such-machine"}
COMPARE_PRIVATE = {"runs": "{private},{public}"}
PAGES: dict[str, list[Case]] = {
    "dashboard": signed_in(),
    "robots": everyone(),
    "accounts:login": [Case((200, (200, 302), (200, 302), (200, 302), (200, 302)))],
    "accounts:logout": [Case((302,) * 5, method="post")],
    "accounts:language": everyone(302, method="post", data={"language": "zh-hans"}),
    "accounts:profile": signed_in(),
    "accounts:password": signed_in(),
    "accounts:tokens": signed_in(),
    "accounts:revoke": signed_in(404, method="post", data={"token": "of nobody"}),
    "accounts:teams": signed_in(),
    "catalog:list": signed_in(),
    "catalog:csv": signed_in(),
    "catalog:json": signed_in(),
    "catalog:upload": signed_in(),
    "catalog:folders": signed_in(),
    "catalog:hub": signed_in(),
    "catalog:hub-weights": [Case((LOGIN, 404, 404, 302, 404), {"slug": "{hub_model}"}, method="post")],
    "catalog:folders-csv": signed_in(),
    "catalog:folders-json": signed_in(),
    "catalog:folder-use": [
        *signed_in(302, args={"slug": "{folder}"}, method="post"),
        *signed_in(404, args={"slug": "{folder_off}"}, method="post"),
    ],
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
    "hardware:host-json": signed_in(args={"slug": "{host}"}),
    "hardware:host-ceilings": [
        *signed_in((200, 302), args={"slug": "{host}"}),
        Case((LOGIN, 404, 404, 302, 404), {"slug": "{host}"}, method="post"),
    ],
    "hardware:host-ceilings-cancel": [Case((LOGIN, 404, 404, 302, 404), {"slug": "{host}"}, method="post")],
    "hardware:detail": signed_in(args={"slug": "{hardware}"}) + own_thing("slug", "own_hardware"),
    "hardware:detail-json": signed_in(args={"slug": "{hardware}"}) + own_thing("slug", "own_hardware"),
    "hardware:delete": own_thing("slug", "own_hardware") + signed_in(404, args={"slug": "{hardware}"}),
    "endpoints:list": signed_in(),
    "endpoints:csv": signed_in(),
    "endpoints:json": signed_in(),
    "endpoints:new": signed_in(),
    "endpoints:detail": read_endpoint(),
    "endpoints:detail-json": read_endpoint(),
    "endpoints:status": read_endpoint(ok=302),
    "endpoints:edit": [
        Case((LOGIN, 404, 404, 404, 200), {"public_id": "{endpoint}"}),
        Case((LOGIN, 404, 404, 404, 200), {"public_id": "{team_endpoint}"}),
        Case((LOGIN, 404, 404, 404, 200), {"public_id": "{team_endpoint}"}, method="post"),
    ],
    "endpoints:model": change_endpoint(400),
    "endpoints:look": change_endpoint(),
    "endpoints:delete": change_endpoint((200, 404)),
    "endpoints:restore": own_thing("public_id", "binned_endpoint", 302, method="post"),
    "cloud:list": signed_in(),
    "cloud:new": signed_in(),
    "cloud:connection": [
        Case((LOGIN, 404, 404, 404, 200), {"public_id": "{connection}"}),
        Case((LOGIN, 404, 200, 404, 200), {"public_id": "{team_connection}"}),
        Case((LOGIN, 404, 404, 200, 200), {"public_id": "{new_connection}"}),  # staff see what they are to allow
        Case((LOGIN, 404, 404, 404, 404), {"public_id": "{binned_connection}"}),
    ],
    "cloud:allow": [Case((LOGIN, 403, 403, 302, 403), {"public_id": "{new_connection}"}, method="post")],
    "cloud:read": use_connection(302, method="post"),
    "cloud:upload": use_connection() + use_connection(method="post"),
    "cloud:deploy": use_connection() + use_connection(method="post"),
    "cloud:garden": use_connection() + use_connection(302, method="post"),
    "cloud:model-delete": [
        replace(case, args=case.args | {"model_id": "7"})
        for case in use_connection(method="post") + use_connection(302, method="post", data={"sure": "1"})
    ],
    "cloud:delete": [
        *own_thing("public_id", "new_connection", method="post"),
        Case((LOGIN, 404, 404, 404, 302), {"public_id": "{team_connection}"}, method="post"),  # something runs there
    ],
    "cloud:restore": own_thing("public_id", "binned_connection", 302, method="post"),
    "cloud:stop-everything": [
        Case((LOGIN, 403, 403, 200, 403)),
        Case((LOGIN, 403, 403, 302, 403), method="post", data={"typed": "STOP"}),
    ],
    "cloud:open-again": [Case((LOGIN, 403, 403, 302, 403), method="post")],
    "cloud:deployment": read_deployment(),
    "cloud:deployment-status": read_deployment(),
    "cloud:extend": change_deployment(data={"hours": "2"}),
    "cloud:stop": change_deployment() + [replace(case, method="get") for case in change_deployment(200)],
    "cloud:traffic": change_deployment(data={"share-1": "100"}),
    "runs:list": signed_in(),
    "runs:csv": signed_in(),
    "runs:json": signed_in(),
    "runs:bulk": signed_in(302, method="post"),
    "runs:new": signed_in(),
    "runs:detail": read_run(),
    "runs:run-csv": read_run(),
    "runs:run-json": read_run(),
    "runs:run-graph": with_suffix(read_run(), "dot") + signed_in(404, args={"public_id": "{public}", "suffix": "exe"}),
    "runs:artifact": with_name(read_run(), "trace.json.gz")
    + signed_in(404, args={"public_id": "{public}", "name": "x"}),
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
    "history:list": signed_in(),
    "history:csv": signed_in(),
    "history:json": signed_in(),
    "history:series": read_series(),
    "history:series-csv": read_series(),
    "history:series-json": read_series(),
    "history:mark": change_run(),
    "history:mark-remove": own_thing("pk", "mark", 302, method="post"),
    "history:mark-restore": own_thing("pk", "mark", 302, method="post"),
    "history:notices": signed_in(),
    "history:notices-csv": signed_in(),
    "history:notices-json": signed_in(),
    "history:notices-seen": signed_in(302, method="post"),
    "history:notices-badge": everyone(204),
    "history:notice-settings": signed_in(),
    "history:views-json": signed_in(),
    "history:view-save": signed_in(302, method="post"),
    "history:view": [Case((LOGIN, 404, 302, 404, 302), {"public_id": "{view}"})],
    "history:view-change": own_thing("public_id", "view", 302, method="post"),
    "history:view-delete": own_thing("public_id", "view", 302, method="post"),
    "history:view-restore": own_thing("public_id", "view", 302, method="post"),
    "history:tags": change_run(),
    "history:tag-remove": change_run(),
    "history:notes": change_run(),
    "history:notes-undo": change_run(),
    "history:comment": [replace(case, method="post") for case in read_run(ok=302)],  # whoever sees it
    "history:comments-json": read_run(),
    "history:comment-edit": own_thing("pk", "comment", 302, method="post"),
    "history:comment-undo": own_thing("pk", "comment", 302, method="post"),
    "history:comment-delete": own_thing("pk", "comment", 302, method="post"),
    "history:comment-restore": own_thing("pk", "comment", 302, method="post"),
    "explore:page": signed_in(),
    "explore:json": signed_in(),
    "explore:csv": signed_in(),
    "explore:answer": signed_in(302),
    "explore:make": signed_in(302, method="post"),
    "explore:cancel": signed_in(302, method="post"),
    "explore:run": signed_in(404, method="post"),
    "explore:device": signed_in(404, method="post"),
    "explore:sweeps": [*signed_in(), *signed_in(302, method="post")],
    "explore:sweep": own_thing("public_id", "sweep"),
    "explore:sweep-json": own_thing("public_id", "sweep"),
    "explore:sweep-csv": own_thing("public_id", "sweep"),
    "explore:sweep-delete": own_thing("public_id", "sweep", method="post"),
    "explore:sweep-restore": own_thing("public_id", "binned_sweep", 302, method="post"),
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
    "api:folders": api(),
    "api:hub-models": api(400, method="post"),
    "api:folder-models": [
        *api(400, args={"slug": "{folder}"}, method="post"),
        *api(404, args={"slug": "{folder_off}"}, method="post"),
    ],
    "api:hardware-list": api(),
    "api:hardware": [*api(args={"slug": "{hardware}"}), Case((401, 404, 404, 404, 200), {"slug": "{own_hardware}"})],
    "api:hosts": api(),
    "api:host-ceilings": [
        *api(args={"slug": "{host}"}),
        Case((401, 403, 403, (200, 202), 403), {"slug": "{host}"}, method="post"),
    ],
    "api:endpoints": api() + api(400, method="post"),
    "api:endpoint": [
        Case((401, 404, 404, 404, 200), {"public_id": "{endpoint}"}),
        Case((401, 404, 200, 404, 200), {"public_id": "{team_endpoint}"}),
        Case((401, 404, 404, 404, 404), {"public_id": "{binned_endpoint}"}),
        Case((401, 404, 404, 404, 200), {"public_id": "{endpoint}"}, method="patch"),
        Case((401, 404, 403, 404, 200), {"public_id": "{team_endpoint}"}, method="patch"),
        Case((401, 404, 403, 404, 204), {"public_id": "{team_endpoint}"}, method="delete"),
    ],
    "api:endpoint-probe": [
        Case((401, 404, 404, 404, 202), {"public_id": "{endpoint}"}, method="post"),
        Case((401, 404, 403, 404, 202), {"public_id": "{team_endpoint}"}, method="post"),
    ],
    "api:cloud-connections": api() + api(400, method="post"),
    "api:cloud-connection-read": use_connection(202, nobody=401, method="post"),
    "api:cloud-machines": api_read_connection(),
    "api:cloud-operations": api_read_connection(),
    "api:cloud-deployments": [
        *api(),
        *api(400, method="post"),
        *(
            Case((401, 404, 404, 404, 400), method="post", data=DEPLOY | {"connection": f"{{{name}}}"})
            for name in ("connection", "team_connection")
        ),
    ],
    "api:cloud-deployment": read_deployment(nobody=401),
    "api:cloud-deployment-extend": change_deployment(200, nobody=401, data={"hours": "2"}),
    "api:cloud-deployment-stop": change_deployment(202, nobody=401),
    "api:runs": api() + api(400, method="post"),
    "api:run": api_read_run() + api_change_run("delete", 204),
    "api:run-document": api_read_run(),
    "api:run-cancel": api_change_run("post", 200),
    "api:history": api(),
    "api:series": [
        Case((401, 404, 404, 404, 200), {"key": "{private_series}"}),
        Case((401, 200, 200, 200, 200), {"key": "{public_series}"}),
    ],
    "api:run-tags": api_change_run("delete", 200),
    "api:run-artifacts": api_read_run(),
    "api:run-artifact": with_name(api_read_run(), "trace.json.gz"),
    "api:run-csv": api_read_run(),
    "api:run-json": api_read_run(),
    "api:inference": api(400, method="post"),
    "api:explore": [
        *api(400),
        *api(query={"model": "{model}", "hardware": "{hardware}"}),
        Case((401, 404, 404, 404, 200), query={"model": "{upload}", "hardware": "{own_hardware}"}),
        *api(400, method="post"),
    ],
    "api:compare": [Case((401, 404, 404, 404, 200), query=COMPARE_PRIVATE)],
}
TABLE = PAGES | API
