"""The console in a real Chromium: where it is, and a page that notes what it asks for and complains of."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.programs import program

WAIT_MS = 20_000
DESKTOP, PHONE = {"width": 1360, "height": 900}, {"width": 360, "height": 740}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block lasts; without one the test is skipped or, in the gate, fails."""
    binary = program("chromium")
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, headless=True, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Console:
    """A page that shows the console, and what happened to it."""

    page: Page
    url: str
    shots: Path
    urls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __getitem__(self, selector: str) -> Locator:
        """What the selector finds."""
        return self.page.locator(selector)

    def open(self) -> None:
        """Load the page, and wait until it has shown what serves, or that nothing does."""
        self.page.goto(self.url)
        expect(self["#state.waiting"]).to_have_count(0)

    def sample(self, user: object, count: int) -> None:
        """Choose a user and draw candidates."""
        self["#user"].fill(str(user))
        self["#count"].fill(str(count))
        self["#sample"].click()
        expect(self["#answer-state"]).to_contain_text("of the catalogue")

    def score(self, *, bundle: str = "") -> list[tuple[dict[str, object], dict[str, object]]]:
        """Press Score; the bodies that were sent and their answers."""
        self.page.locator(f'input[name="bundle"][value="{bundle}"]').check()
        found = []
        self.page.on("response", lambda answer: found.append(answer) if answer.url.endswith("/score") else None)
        self["#submit"].click()
        expect(self["#answer-state"]).to_contain_text("candidates scored")
        return [(answer.request.post_data_json, answer.json()) for answer in found]

    def shoot(self, name: str, *, whole: bool = True) -> None:
        """A picture, for people to look at: of the whole page, or of what is in the window."""
        if whole:
            self.page.evaluate("window.scrollTo({ top: 0, behavior: 'instant' })")
        self.page.screenshot(path=self.shots / f"{name}.png", full_page=whole)

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        root = "document.documentElement"
        return self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")


@contextmanager
def console(browser: Browser, url: str, shots: Path, *, refusals: bool = False, **context: object) -> Iterator[Console]:
    """An open console in a context of its own. Afterwards: nothing was asked of others, and nothing was complained of.

    `refusals`: answers that are no 2xx are expected, of which the browser makes a note.
    """
    own = browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light", "locale": "en-GB", **context})
    page = own.new_page()
    page.set_default_timeout(WAIT_MS)
    shown = Console(page=page, url=url, shots=shots)
    page.on("request", lambda request: shown.urls.append(request.url))
    page.on("console", lambda said: shown.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    shown.open()
    yield shown
    own.close()
    outside = {asked for asked in shown.urls if urlsplit(asked).netloc != urlsplit(url).netloc}
    expected = "Failed to load resource" if refusals else "(nothing)"
    assert outside == set()
    assert [said for said in shown.complaints if not said.startswith(expected)] == []
