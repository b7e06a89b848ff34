"""Schemathesis loads this: which answer's content is the next request's, for its stateful phase."""

from typing import Any

import schemathesis

HISTORY = "/users/{user_id}/history"
WRITTEN = "$request.body#/events/0"
SCORED = {
    "request_id": "$response.body#/request_id",
    "bundle_version": "$response.body#/bundle_version",
    "impressions": [
        {"item_id": "$response.body#/scores/0/item_id", "pctr": "$response.body#/scores/0/pctr", "clicked": True}
    ],
}
SAME_USER = {"parameters": {"user_id": "$request.path.user_id"}}
WRITER = {"parameters": {"user_id": f"{WRITTEN}/user_id"}}
# (method and path, status) -> what may follow, and what of the answer or the request goes into it
LINKS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("post /events", "202", f"get {HISTORY}", WRITER),
    ("post /events", "202", f"delete {HISTORY}", WRITER),
    ("post /events", "202", "post /events", {"requestBody": {"events": "$request.body#/events"}}),
    (
        "post /events",
        "202",
        "post /score",
        {"requestBody": {"user_id": f"{WRITTEN}/user_id", "candidates": [{"item_id": f"{WRITTEN}/item_id"}]}},
    ),
    ("post /score", "200", "post /feedback", {"requestBody": SCORED}),
    ("post /score", "200", f"get {HISTORY}", {"parameters": {"user_id": "$request.body#/user_id"}}),
    (f"get {HISTORY}", "200", f"delete {HISTORY}", SAME_USER),
    (f"delete {HISTORY}", "200", f"get {HISTORY}", SAME_USER),
    (
        "get /console/items",
        "200",
        "post /score",
        {"requestBody": {"user_id": 1, "candidates": "$response.body#/items", "explain": True}},
    ),
    (
        "get /admin/bundles",
        "200",
        "post /admin/promote",
        {"requestBody": {"version": "$response.body#/versions/0", "pointer": "canary"}},
    ),
    (
        "get /admin/bundles",
        "200",
        "post /admin/promote",
        {"requestBody": {"version": "$response.body#/versions/1", "pointer": "stable"}},
    ),
    ("post /admin/promote", "202", "post /admin/rollback", {}),
    ("post /admin/promote", "202", "delete /admin/canary", {}),
    ("post /admin/rollback", "202", "get /admin/bundles", {}),
]


@schemathesis.hook
def before_load_schema(context: object, raw_schema: dict[str, Any]) -> None:
    """Write the links into the service's own document."""
    for number, (source, status, target, taken) in enumerate(LINKS):
        (method, path), (to_method, to_path) = source.split(), target.split()
        answer = raw_schema["paths"][path][method]["responses"][status]
        reference = f"#/paths/{to_path.replace('/', '~1')}/{to_method}"
        answer.setdefault("links", {})[f"link{number}"] = {"operationRef": reference, **taken}
