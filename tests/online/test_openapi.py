"""The OpenAPI document, as client generators and Schemathesis (tests/fuzz) read it."""

from collections.abc import Iterator

import pytest

from service.app import create_app
from service.config import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, object]:
    """With every route: there is an admin key."""
    return create_app(Settings(store="memory://", admin_key="a-key-of-20-characters", admin_port=0)).openapi()


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(found := value.get("$ref"), str):
            yield found
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_leads_somewhere(document):
    """Those of bodies too, which FastAPI does not see."""
    found = set(references(document))
    assert found
    for reference in found:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


@pytest.mark.parametrize(
    ("path", "media_types"),
    [
        ("/", {"text/html"}),
        ("/metrics", {"text/plain"}),
        ("/console/files/{path}", {"text/html", "text/css", "text/javascript", "image/svg+xml"}),
        ("/livez", {"application/json"}),
    ],
)
def test_answers_that_are_no_json_say_so(document, path, media_types):
    """Generated clients parse what the document promises."""
    assert set(document["paths"][path]["get"]["responses"]["200"]["content"]) == media_types


@pytest.mark.anyio
async def test_a_wrong_method_is_told_all_right_ones(serve):
    """Those of every route of the path: GET and DELETE of a history are two."""
    async with serve(admin_key="a-key-of-20-characters", admin_port=0) as client:
        answer = await client.post("/users/1/history")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
