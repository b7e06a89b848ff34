"""Requests that a web page makes a visitor's browser send: refused unless the page is ours or was named."""

import pytest

from service.config import SettingsError, read_settings

pytestmark = pytest.mark.anyio

PATHS = ["/score", "/events", "/feedback", "/admin/rollback"]
LOCAL = "127.0.0.1:8080"


def from_page(origin: str | None, *, host: str = LOCAL, site: str | None = None) -> dict[str, str]:
    """The headers of a browser."""
    found = {"Host": host, "Content-Type": "text/plain"}
    found |= {} if origin is None else {"Origin": origin}
    return found | ({} if site is None else {"Sec-Fetch-Site": site})


FOREIGN = [
    from_page("https://elsewhere.example", site="cross-site"),
    from_page("http://127.0.0.1:9090", site="same-site"),
    from_page("null"),
    from_page("http://rebound.example", host="rebound.example"),
    from_page("http://localhost.rebound.example", host="localhost.rebound.example"),
    from_page(None, site="cross-site"),
    from_page(None, site="same-site"),
    from_page("http://127.0.0.1:8080.rebound.example", host="127.0.0.1:8080"),
    from_page("", host=""),
]
WELCOME = [
    {},
    from_page("http://127.0.0.1:8080", site="same-origin"),
    from_page("https://127.0.0.1:8080"),
    from_page("http://localhost:8080", host="localhost:8080"),
    from_page("http://localhost", host="localhost"),
    from_page("http://[::1]:8080", host="[::1]:8080"),
    from_page("https://ctr.example.com", host="service:8080"),
    from_page("https://ctr.example.com", host="ctr.example.com", site="cross-site"),
    from_page(None, site="none"),
]


async def test_another_page_sends_nothing(serve):
    """A 403 with a type of its own, whatever the body, also where a name was moved to our address."""
    body = b'{"user_id": 1, "item_id": 2, "time": 3}'
    async with serve(admin_key="k" * 16) as client:
        answers = [await client.post(path, headers=headers, content=body) for headers in FOREIGN for path in PATHS]
        erased = await client.delete("/users/1/history", headers=FOREIGN[0])
        metrics = (await client.get("/metrics")).text

    found = {(answer.status_code, answer.json()["error_type"]) for answer in [*answers, erased]}
    assert found == {(403, "foreign_origin")}
    assert f'ctr_refused_total{{reason="foreign_origin"}} {len(FOREIGN)}.0' in metrics
    assert f'ctr_requests_total{{code="403",route="/events"}} {len(FOREIGN)}.0' in metrics


async def test_programs_and_our_own_pages_do(serve):
    """No browser; a page at an address or localhost that asks whence it came, through TLS too; a page that is named."""
    body = {"user_id": 1, "candidates": [{"item_id": 100}]}
    async with serve(allowed_origins="https://ctr.example.com, http://other.example:81") as client:
        answers = [await client.post("/score", headers=headers, json=body) for headers in WELCOME]

    assert [answer.status_code for answer in answers] == [200] * len(WELCOME)


async def test_reading_is_not_refused(serve):
    """A page from elsewhere may ask, as a link does; what comes back it cannot read."""
    async with serve() as client:
        answer = await client.get("/readyz", headers=from_page("https://elsewhere.example", site="cross-site"))

    assert answer.status_code == 200
    assert [name for name in answer.headers if name.startswith("access-control")] == []


async def test_what_was_sent_is_quoted_in_part(serve):
    """At most 80 characters of it."""
    async with serve() as client:
        answer = await client.post("/score", headers=from_page("http://" + "a" * 500))

    assert "a" * 73 in answer.json()["error"]
    assert "a" * 74 not in answer.json()["error"]


@pytest.mark.parametrize("bad", ["*", "ctr.example.com", "https://ctr.example.com/", "https://CTR.example.com", "null"])
def test_what_is_no_origin_cannot_be_allowed(bad):
    """Least of all everything."""
    with pytest.raises(SettingsError, match=r"^CTR_ALLOWED_ORIGINS: must be origins"):
        read_settings({"CTR_ALLOWED_ORIGINS": bad})


async def test_every_answer_says_how_browsers_are_to_treat_it(serve):
    """Not to guess its type, and not to show it in a frame."""
    async with serve() as client:
        answers = [await client.get(path) for path in ("/readyz", "/docs", "/", "/nowhere")]
        answers.append(await client.post("/score", content=b"{"))

    assert [(a.headers["x-content-type-options"], a.headers["x-frame-options"]) for a in answers] == [
        ("nosniff", "DENY")
    ] * 5
