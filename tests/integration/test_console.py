"""The console in a real Chromium against the real service and a real Redis: every state, with a picture of each."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from model.bundle.pointers import write_pointer
from model.publish import publish
from model.run_folder import load_run
from service.embedded import EmbeddedRedis
from tests.integration.console_page import PHONE, Console, chromium, console
from tests.integration.service_process import ask, metric, serving, start, wait_until
from tests.online.bundle_versions import spoil

KEY = "console-key-0123456789"
USER, BEHAVIORS = 17, 12
HOSTILE = "<img src=x onerror=document.title='hacked'>"
SCRIPTS = Path(__file__).parent
CONTRAST, QUANTILES = (SCRIPTS.joinpath(name).read_text(encoding="utf-8") for name in ("contrast.js", "quantiles.js"))


@pytest.fixture(scope="module")
def folder(trained_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DIN as the stable bundle and DIEN as the canary, trained on the synthetic log."""
    root = tmp_path_factory.mktemp("console-bundles")
    for role, kind in (("stable", "din"), ("canary", "dien")):
        publish(load_run(trained_runs[kind]), root, version=f"{kind}1", code_version="test")
        write_pointer(root, role, f"{kind}1")
    return root


@pytest.fixture(scope="module")
def service(folder: Path, redis_server: EmbeddedRedis) -> Iterator[str]:
    """The service with both bundles and a history of user 17."""
    slow = {"deadline_ms": 10_000, "store_timeout_ms": 3000, "queue_ms": 10_000}
    with serving(folder, redis_server.url, admin_key=KEY, admin_port=0, canary_percent=20, threads=1, **slow) as (
        _,
        url,
    ):
        wait_until(lambda: metric(url, "ctr_bundle_info", role="canary") == 1)
        remember(url, USER)
        yield url


@pytest.fixture(scope="module")
def browser(service: str) -> Iterator[Browser]:
    """One browser for the module. After the service, which is started by the same thread."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go; the last line of a run with -s says where that is."""
    folder = tmp_path_factory.mktemp("console-pictures")
    print(f"\npictures: {folder}")
    return folder


@pytest.fixture
def shown(browser: Browser, service: str, shots: Path) -> Iterator[Console]:
    """The console of that service."""
    with console(browser, service, shots) as shown:
        yield shown


def remember(url: str, user: int) -> None:
    """Give a user a history."""
    now = int(time.time() * 1000)
    events = [
        {
            "user_id": user,
            "item_id": 7 * n + 1,
            "category": n % 5,
            "time": now - (BEHAVIORS - n) * 3_600_000,
            "event_id": n,
        }
        for n in range(BEHAVIORS)
    ]
    assert ask(url, "/events", {"events": events}).status == 202


def cells(shown: Console, selector: str) -> list[str]:
    """The text of each."""
    return [text.strip() for text in shown[selector].all_inner_texts()]


def test_scores_are_shown_as_the_service_gives_them(shown, service):
    """Ranked with their pCTR, as the same request by a program gets them; so are timings, version and user."""
    shown.sample(USER, 12)
    ((body, answer),) = shown.score(bundle="stable")
    shown.shoot("score")
    again = ask(service, "/score", body).body
    best = sorted(again["scores"], key=lambda row: row["rank"])

    assert [row["item_id"] for row in answer["scores"]] == [row["item_id"] for row in body["candidates"]]
    assert cells(shown, ".ranking .item") == [str(row["item_id"]) for row in best]
    assert [float(text) for text in cells(shown, ".ranking .score .value")] == pytest.approx(
        [row["pctr"] for row in best], abs=6e-5
    )
    assert cells(shown, ".ranking tbody td.rank") == [str(rank) for rank in range(1, 13)]
    expect(shown[".summaries"]).to_contain_text(f"din1 user known, {BEHAVIORS} behaviors")
    expect(shown["#answer-state"]).to_contain_text(f"12 candidates scored; best is item {best[0]['item_id']}")


def test_the_heat_map_has_the_numbers_of_the_explanation(shown, service):
    """A row per candidate by rank, a column per behavior, each cell the weight; what moved DIEN's state beside it."""
    shown.sample(USER, 6)
    ((body, answer),) = shown.score(bundle="canary")
    explanation = ask(service, "/score", body).body["explanation"]
    order = sorted(range(6), key=lambda at: answer["scores"][at]["rank"])
    for kind in ("attention", "update"):
        shown.page.get_by_role("button", name=kind, exact=True).click()
        expected = [weight for at in order for weight in explanation["candidates"][at][kind]]
        found = [float(text) for text in shown[".map td span"].all_text_contents()]
        assert found == pytest.approx(expected, rel=6e-3), kind
    shown.page.get_by_role("button", name="Show numbers").click()
    shown.shoot("explained")

    assert cells(shown, ".map tbody th") == [str(answer["scores"][at]["item_id"]) for at in order]
    assert shown[".map thead .behavior span"].all_text_contents() == [
        str(b["item_id"]) for b in explanation["behaviors"]
    ]
    assert len(explanation["behaviors"]) == BEHAVIORS


def test_another_candidate_is_explained_when_it_is_picked(shown):
    """The card on why, and the bars over the history, follow the candidate that is chosen in the table or the map."""
    shown.sample(USER, 5)
    ((_, answer),) = shown.score(bundle="stable")
    third = shown[".ranking .item"].nth(2)
    third.click()
    item = third.inner_text()
    at = [str(row["item_id"]) for row in answer["scores"]].index(item)
    found = answer["explanation"]["candidates"][at]
    weights = [float(text) for text in cells(shown, "#timeline .weight")]

    expect(shown[".why h3"]).to_have_text(f"Why candidate {item} is number 3 (stable)")
    expect(third).to_have_attribute("aria-pressed", "true")
    assert weights == pytest.approx(found["attention"], rel=6e-2)
    logit = re.search(r"logit (-?[\d.]+)$", shown[".why .steps dd"].nth(1).locator(".note").inner_text())
    assert float(logit[1]) == pytest.approx(found["logit"], abs=6e-3)


def test_two_bundles_side_by_side(shown, service):
    """The same candidates by both bundles, each as the service scores it by name, with the difference."""
    shown.sample(USER, 8)
    exchanged = shown.score(bundle="both")
    shown.shoot("compare")
    by_role = {body["bundle"]: ask(service, "/score", body).body["scores"] for body, _ in exchanged}
    rows = sorted(zip(by_role["stable"], by_role["canary"], strict=True), key=lambda pair: pair[0]["rank"])

    assert by_role.keys() == {"stable", "canary"}
    found = [float(text) for text in cells(shown, ".ranking .score .value")]
    assert found == pytest.approx([row["pctr"] for pair in rows for row in pair], abs=6e-5)
    differences = [float(text.replace("\N{MINUS SIGN}", "-")) for text in cells(shown, ".ranking td.number")]
    assert differences == pytest.approx([canary["pctr"] - stable["pctr"] for stable, canary in rows], abs=6e-5)
    assert cells(shown, ".heat h3") == ["Heat map, stable (din1)", "Heat map, canary (dien1)"]


def test_the_page_asks_for_the_api_key(browser, folder, shots):
    """Where keys are set the page shows nothing before one is typed, scores with it, and keeps it in the tab."""
    slow = {"deadline_ms": 10_000, "queue_ms": 10_000, "threads": 1}
    with (
        serving(folder, "memory://", api_keys=KEY, **slow) as (_, url),
        console(browser, url, shots, refusals=True) as shown,
    ):
        expect(shown["#state-text"]).to_have_text("This needs the API key: type it into the field “API key”.")
        shown["#api-key"].fill("wrong-key-0123456789")
        shown["#api-key"].press("Tab")
        expect(shown["#state-text"]).to_contain_text("This is not the API key")
        nothing = shown["#bundle-card"].inner_text()
        shown["#api-key"].fill(KEY)
        shown["#api-key"].press("Tab")
        expect(shown["#state-text"]).to_contain_text("Ready: stable din1")
        shown.sample(USER, 3)
        ((_, answer),) = shown.score(bundle="stable")
        shown.shoot("api-key")
        kept = shown.page.evaluate("[JSON.stringify(localStorage), sessionStorage.getItem('ctr.api-key')]")
        expect(shown["#key-field"]).to_be_hidden()

    assert nothing == ""
    assert len(answer["scores"]) == 3
    assert KEY not in kept[0]
    assert kept[1] == KEY


def test_a_history_needs_the_key_or_an_explanation(browser, service, shots):
    """Without the key the history is what a score is explained with; with it the store's. A wrong key is named, and
    keys stay in the tab.
    """
    with console(browser, service, shots, refusals=True) as shown:
        shown["#user"].fill(str(USER))
        shown["#show-history"].click()
        expect(shown["#timeline li"]).to_have_count(BEHAVIORS)
        expect(shown["#history-said"]).to_contain_text("as the net sees them")
        shown["#key"].fill("wrong-key-0123456789")
        shown["#show-history"].click()
        expect(shown["#answer-state"]).to_contain_text("This is not the admin key")
        shown["#key"].fill(KEY)
        shown["#show-history"].click()
        expect(shown["#history-said"]).to_contain_text("from the store")
        shown.shoot("history")
        items = cells(shown, "#timeline .item")
        kept = shown.page.evaluate("[JSON.stringify(localStorage), sessionStorage.getItem('ctr.key')]")

    assert items == [str(7 * n + 1) for n in range(BEHAVIORS)]
    assert KEY not in kept[0]
    assert kept[1] == KEY


def test_what_is_wrong_is_said(browser, service, shots):
    """A mistake is marked in its field before anything is sent; a refusal is shown with its type and request id."""
    with console(browser, service, shots, refusals=True) as shown:
        shown["#submit"].click()
        expect(shown["#candidates"]).to_have_attribute("aria-invalid", "true")
        expect(shown["#candidates"]).to_be_focused()
        shown["#candidates"].fill("12, thirteen")
        shown["#submit"].click()
        expect(shown["#answer-state"]).to_contain_text("“thirteen” is no item id")
        shown["#candidates"].fill("12")
        shown["#submit"].click()
        expect(shown["#user"]).to_have_attribute("aria-invalid", "true")
        assert not any(url.endswith("/score") for url in shown.urls)
        shown["#user"].fill(str(USER))
        shown["#candidates"].fill('[{"item_id": 12, "colour": 3}]')
        shown["#submit"].click()
        expect(shown["#answer-state"]).to_contain_text("422 invalid_request, request ")
        expect(shown["#answer-state"]).to_contain_text("colour")
        expect(shown[".ranking"]).to_have_count(0)
        shown.shoot("error")


def test_data_never_becomes_markup(browser, service, shots):
    """Text that looks like an element is shown as it is, wherever it comes back."""
    with console(browser, service, shots, refusals=True) as shown:
        shown["#user"].fill(HOSTILE)
        shown["#candidates"].fill(f'[{{"item_id": 12, "{HOSTILE}": 3}}]')
        shown["#submit"].click()
        expect(shown["#answer-state"]).to_contain_text("<img src=x onerror")
        shown["#candidates"].fill("12 9007199254740993")
        shown["#submit"].click()
        expect(shown["#answer-state"]).to_contain_text("2 candidates scored")

        assert "9007199254740993" in cells(shown, ".ranking .item")  # above 2^53, and still exact
        assert "unknown item" in cells(shown, ".ranking .status")
        assert shown["img[src=x]"].count() == 0
        assert shown.page.title() == "CTR Scorer console"
        assert HOSTILE in shown.page.evaluate(
            "[...document.querySelectorAll('#recent-users option')].map((o) => o.value)"
        )


def test_without_the_store_it_says_degraded(browser, folder, own_redis, shots):
    """With Redis gone the answer is marked, and the banner says that users are scored without their history."""
    settings = {"store_timeout_ms": 300, "deadline_ms": 5000, "store_failures": 1, "threads": 1}
    with serving(folder, own_redis.url, **settings) as (_, url), console(browser, url, shots) as shown:
        shown.sample(USER, 4)
        own_redis.stop()
        ((_, answer),) = shown.score()
        expect(shown[".answers .state.warn"]).to_contain_text("the store did not answer in time")
        expect(shown["#state"]).to_have_class(re.compile("warn"))
        expect(shown["#state-text"]).to_contain_text("Degraded: the store does not answer")
        shown.shoot("degraded")

    assert answer["degraded"] == "history"


def test_not_ready_and_gone(browser, folder, redis_server, tmp_path, shots):
    """A refused bundle is named in the banner and a score is refused with it; a service that is gone is noticed."""
    bad = tmp_path / "din1"
    bad.mkdir()
    for path in (folder / "din1").rglob("*"):
        if path.is_file():
            copied = bad / path.relative_to(folder / "din1")
            copied.parent.mkdir(exist_ok=True)
            copied.write_bytes(path.read_bytes())
    spoil(bad)
    process, url = start(bad, redis_server.url, threads=1)
    wait_until(lambda: "refused" in ask(url, "/readyz").text)
    try:
        with console(browser, url, shots, refusals=True) as shown:
            expect(shown["#state-text"]).to_contain_text("Not ready: bundle refused: golden.npz")
            shown["#user"].fill("1")
            shown["#candidates"].fill("1 2")
            shown["#submit"].click()
            expect(shown["#answer-state"]).to_contain_text("503 not_ready")
            shown.shoot("not-ready", whole=False)
            process.terminate()
            process.wait()
            expect(shown["#state-text"]).to_contain_text("does not answer")
            shown.shoot("gone", whole=False)
    finally:
        process.terminate()
        process.wait()


def test_everything_by_keyboard(shown):
    """From the first key to a cell of the heat map without a mouse, and the focus is always to be seen."""
    press = shown.page.keyboard.press
    press("Tab")
    expect(shown[".skip"]).to_be_focused()
    press("s")
    expect(shown["#answer-state"]).to_contain_text("of the catalogue")
    press("/")
    expect(shown["#user"]).to_be_focused()
    shown.page.keyboard.type(f"{USER}")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    order = []
    for _ in range(3):
        press("Tab")
        order.append(shown.page.evaluate("document.activeElement.id"))
        assert shown.page.evaluate(outline) == "solid"
    press("Control+Enter")
    expect(shown["#answer-state"]).to_contain_text("candidates scored")
    shown[".map td[tabindex='0']"].focus()
    press("ArrowDown")
    press("ArrowRight")
    expect(shown[".readout"]).to_contain_text("behavior 2: item 8")
    press("End")
    expect(shown[".readout"]).to_contain_text(f"behavior {BEHAVIORS}: item {7 * BEHAVIORS - 6}")
    picked = shown[".map tbody th"].nth(1).inner_text()
    press("Enter")
    expect(shown[".why h3"]).to_have_text(f"Why candidate {picked} is number 2")
    press("?")
    expect(shown["#keys"]).to_be_visible()
    press("Escape")
    expect(shown["#keys"]).not_to_be_visible()
    press("3")
    expect(shown["#bundle"]).to_be_focused()

    assert order == ["show-history", "key", "candidates"]


def test_light_and_dark_are_legible(browser, service, shots):
    """The system's choice is followed until another is made, which is kept; no text has a contrast below 4.5."""
    lowest = {}
    for scheme in ("light", "dark"):
        with console(browser, service, shots, color_scheme=scheme) as shown:
            shown.sample(USER, 6)
            shown.score(bundle="both")
            shown.page.get_by_role("button", name="Show numbers").first.click()
            expect(shown["#bundle-card table"].first).to_be_visible()
            lowest[scheme] = shown.page.evaluate(CONTRAST)
            shown.shoot(f"theme-{scheme}")
            ground = "getComputedStyle(document.body).backgroundColor"
            grounds = [shown.page.evaluate(ground)]
            for said in ("Theme: light", "Theme: dark"):
                shown["#theme"].click()
                expect(shown["#theme"]).to_have_text(said)
                grounds.append(shown.page.evaluate(ground))
            shown.page.reload()
            expect(shown["#theme"]).to_have_text("Theme: dark")
            grounds.append(shown.page.evaluate(ground))
            assert grounds[1] != grounds[2] == grounds[3]
            assert grounds[0] == grounds[1 if scheme == "light" else 2]

    assert {scheme: found for scheme, (found, *_) in lowest.items() if found[0] < 4.5} == {}
    assert min(len(found) for found in lowest.values()) > 200


def test_a_phone_needs_no_sideways_scrolling(browser, service, shots):
    """At 360 pixels the page is never wider than its window: empty, scored, compared."""
    widths = {}
    with console(browser, service, shots, viewport=PHONE, has_touch=True) as shown:
        expect(shown["#bundle-card table"].first).to_be_visible()
        widths["empty"] = shown.overflow
        shown.sample(USER, 12)
        shown.score()
        widths["scored"] = shown.overflow
        shown.shoot("phone-score")
        shown.score(bundle="both")
        shown.page.get_by_role("button", name="Show numbers").first.click()
        widths["compared"] = shown.overflow
        shown.shoot("phone-compare")

    assert widths == {"empty": 0, "scored": 0, "compared": 0}


def test_the_live_panel_counts_what_was_scored(shown, service):
    """From the differences of two scrapes: the requests of the last minute by phase, and rates above 0."""
    before = metric(service, "ctr_phase_seconds_count", phase="total")
    expect(shown[".tile[data-tile=rate] strong"]).to_have_text("0")
    for _ in range(5):
        assert ask(service, "/score", {"user_id": USER, "candidates": [{"item_id": 1}]}).status == 200
    total = shown["#live tr"].filter(has_text="total")
    expect(total.locator("td").first).to_have_text("5")
    expect(shown[".tile[data-tile=p99] strong"]).to_have_text(re.compile(r"ms$"))
    rate, p50, p99 = (shown[f".tile[data-tile={name}] strong"].inner_text() for name in ("rate", "p50", "p99"))
    shown["#live"].scroll_into_view_if_needed()
    shown.shoot("live", whole=False)

    assert metric(service, "ctr_phase_seconds_count", phase="total") == before + 5
    assert float(rate) > 0
    assert 0 < float(p50.split()[0]) <= float(p99.split()[0])
    assert shown["#live canvas"].count() == 5


def test_quantiles_and_rates_are_prometheus_own(shown):
    """Quantiles lie straight between the edges of their bucket; a counter that fell began again at 0."""
    found = shown.page.evaluate(QUANTILES)

    assert found["counts"] == [4, 4, 2]
    assert (found["p50"], found["p40"], found["p99"]) == pytest.approx((0.125, 0.1, 0.2))
    assert found["none"] is None
    assert found["again"] == [1, 1, 1]
    assert (found["grown"], found["fallen"]) == (7, 3)


def test_the_bundle_card_shows_the_report(shown, service):
    """The manifest and the report's figures of either bundle, and a plot of each curve."""
    report = ask(service, "/console/report?role=canary").body
    shown.page.get_by_role("button", name="canary dien1").click()
    expect(shown[".facts"]).to_contain_text("dien1")
    row = shown["#bundle-card tr"].filter(has_text="AUC").first
    expect(row).to_contain_text(f"{report['splits']['valid']['metrics']['auc']['value']:.4g}")
    curves = 3 + (len(report["training"]["evaluations"]) > 1)  # ROC, calibration, scores; how it learned
    expect(shown["#bundle-card canvas"]).to_have_count(curves)
    shown["#bundle"].scroll_into_view_if_needed()
    shown.shoot("bundle", whole=False)
