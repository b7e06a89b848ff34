"""The console over HTTP: files with their headers, the three routes of its own, and nothing of it when it is off."""

import re

import orjson
import pytest

from model.bundle.pointers import write_pointer
from service.loader import load
from tests.online.bundle_versions import BODY, expected, until_metric

pytestmark = pytest.mark.anyio
REFERENCES = re.compile(r'(?:src|href)="(/console/files/[^"]+)"')


async def test_the_page_and_all_its_files_are_served(serve):
    """Whatever the page names is there, with the type that browsers insist on; scripts import only what is there."""
    async with serve() as client:
        page = await client.get("/")
        paths = REFERENCES.findall(page.text)
        files = {path: await client.get(path) for path in paths}
        scripts = {path: answer for path, answer in files.items() if path.endswith("main.js")}
        while (
            new := {
                f"/console/files/{name}"
                for answer in scripts.values()
                for name in re.findall(r'from "\./([^"]+)"', answer.text)
            }
            - scripts.keys()
        ):
            scripts |= {path: await client.get(path) for path in new}

    assert len(paths) > 8
    assert {answer.status_code for answer in (*files.values(), *scripts.values())} == {200}
    types = {
        path.rpartition(".")[2]: answer.headers["content-type"].partition(";")[0] for path, answer in files.items()
    }
    assert types == {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert len(scripts) > 10
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_nothing_may_be_loaded_from_elsewhere(serve):
    """The policy allows our own files alone, and the page has neither inline scripts, styles nor handlers."""
    async with serve() as client:
        page = await client.get("/")

    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<style" not in page.text
    assert re.findall(r"<script(?![^>]*src=)", page.text) == []
    assert re.findall(r"\son\w+=|\sstyle=|https?://", page.text) == []


async def test_files_are_asked_for_again_and_sent_once(serve):
    """An ETag of the content answers the second look with an empty 304; what compresses is sent compressed."""
    async with serve() as client:
        path = "/console/files/main.js"
        first = await client.get(path)
        second = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})

    assert (first.headers["cache-control"], first.headers["content-encoding"]) == ("no-cache", "gzip")
    assert (second.status_code, second.content) == (304, b"")
    assert "content-encoding" not in plain.headers
    assert plain.text == first.text


@pytest.mark.parametrize(
    "path", ["nothing.js", "../config.py", "%2e%2e/config.py", "vendor/uPlot-LICENSE", "vendor", ""]
)
async def test_only_files_of_the_page_are_served(serve, path):
    """No other file can be reached, whatever the path."""
    async with serve() as client:
        answer = await client.get(f"/console/files/{path}")

    assert answer.status_code == 404


async def test_off_means_gone(serve):
    """With CTR_CONSOLE=false neither the page nor what it asks is there."""
    paths = ("/", "/console/state", "/console/items", "/console/report", "/console/files/main.js")
    async with serve(console=False) as client:
        statuses = {path: (await client.get(path)).status_code for path in paths}

    assert statuses == dict.fromkeys(paths, 404)


async def test_items_are_drawn_from_the_catalogue(serve, encoder):
    """Different items of the catalogue with their features; the same seed draws the same; no more than there are."""
    async with serve() as client:
        drawn = (await client.get("/console/items?limit=5&seed=3")).json()
        again = (await client.get("/console/items?limit=5&seed=3")).json()
        all_of_them = (await client.get("/console/items?limit=200")).json()

    known = encoder.catalogue.ids.tolist()
    assert drawn == again
    assert len({item["item_id"] for item in drawn["items"]}) == 5
    assert {item["item_id"] for item in drawn["items"]} <= set(known)
    assert all(item["cate_id"] == item["item_id"] // 10 for item in drawn["items"])
    assert [item["item_id"] for item in all_of_them["items"]] == known
    assert (drawn["catalogue"], drawn["bundle_version"]) == (len(known), "v1")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=-1", "seed=-1", "role=shadow"])
async def test_items_refuse_what_they_do_not_know(serve, query):
    """A limit, a seed or a role that is not allowed is a 422 that names it."""
    async with serve() as client:
        answer = await client.get(f"/console/items?{query}")

    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (422, query.split("=")[0])


async def test_the_state_says_what_serves_or_why_nothing_does(serve, tmp_path):
    """Always a 200: ready with the bundle and the limits, or the reason."""
    async with serve(admin_key="k" * 16, slo_s=0.05, max_candidates=77) as client:
        good = (await client.get("/console/state")).json()
    async with serve(bundle=str(tmp_path)) as client:
        bad = await client.get("/console/state")

    assert (good["ready"], good["reason"], good["admin_key"], good["slo_s"]) == (True, None, True, 0.05)
    assert good["limits"]["candidates"] == 77
    assert good["bundles"]["stable"]["version"] == "v1"
    assert good["bundles"].keys() == {"stable"}
    assert (bad.status_code, bad.json()["ready"], bad.json()["bundles"]) == (200, False, {})
    assert "not found" in bad.json()["reason"]


async def test_the_report_is_that_of_the_bundle(serve, bundles):
    """`report.json` as it is in the folder; null where the bundle has none."""
    async with serve(bundle=str(bundles["din"])) as client:
        there = (await client.get("/console/report")).content
    async with serve() as client:
        absent = (await client.get("/console/report")).json()

    assert there == (bundles["din"] / "report.json").read_bytes()
    assert absent is None
    assert load(bundles["din"], max_candidates=1).report == there


async def test_a_request_may_name_the_bundle(live, versions):
    """`bundle` scores with that role's bundle whoever the user is; /bundle and /console/items show either."""
    write_pointer(versions, "canary", "v2")
    async with live() as client:
        await until_metric(client, 'ctr_bundle_info{name="tiny",role="canary",version="v2"}', 1)
        answers = {
            role: (await client.post("/score", json={**BODY, "bundle": role})).json() for role in ("stable", "canary")
        }
        manifests = {role: (await client.get(f"/bundle?role={role}")).json()["version"] for role in answers}
        items = (await client.get("/console/items?role=canary")).json()["bundle_version"]
        wrong = await client.post("/score", json={**BODY, "bundle": "v2"})

    assert {role: answer["bundle_version"] for role, answer in answers.items()} == {"stable": "v1", "canary": "v2"}
    for answer in answers.values():
        scores = [row["pctr"] for row in answer["scores"]]
        assert scores == pytest.approx(expected(answer["bundle_version"]), abs=1e-6)
    assert (manifests, items) == ({"stable": "v1", "canary": "v2"}, "v2")
    assert (wrong.status_code, wrong.json()["error"]) == (422, "bundle: found 'v2', allowed: stable or canary")


async def test_a_canary_that_is_not_there_cannot_be_named(serve):
    """A 409 in each place, and nothing is scored with another bundle instead."""
    async with serve() as client:
        scored = await client.post("/score", content=orjson.dumps({**BODY, "bundle": "canary"}))
        looks = [await client.get(f"{path}?role=canary") for path in ("/bundle", "/console/items", "/console/report")]

    assert {(answer.status_code, answer.json()["error"]) for answer in (scored, *looks)} == {
        (409, "there is no canary")
    }
