"""Links in the documents lead somewhere: to a file, to a heading in it, or to one of few places elsewhere.

`tests/offline/test_docs_site.py` lets MkDocs check them again, where it is installed.
"""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "benchmarks/results")
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
ELSEWHERE = {"https://github.com/leeoniya/uPlot", "https://keepachangelog.com/en/1.1.0/", "https://optuna.org"}


def text(path: Path) -> str:
    """A page without its code, in which nothing is a link or a heading."""
    return re.sub(r"^( *)(```+)[^`]*?^\1\2$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def links() -> Iterator[tuple[Path, str]]:
    """Every page and target."""
    for path in PAGES:
        yield from ((path, target) for target in re.findall(r"\]\(([^)\s]+)\)", text(path)))


def anchors(path: Path) -> set[str]:
    """What its headings are linked by: as code hosts make it, which mkdocs.yml follows."""
    headings = re.findall(r"^#+ (.+)$", text(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file():
    """A link between documents, or from one to a file of the repository, leads to something that is there."""
    inside = [(path, target.partition("#")[0]) for path, target in links() if "://" not in target]
    assert inside
    assert [(path.name, target) for path, target in inside if not (path.parent / target).exists()] == []


def test_no_link_leads_to_a_folder_of_pages():
    """A folder of docs/ is a page on a code host alone, not of the site."""
    led_to = {(path.parent / target).resolve() for path, target in links() if "://" not in target}
    folders = {path for path in led_to if path.is_dir()}
    assert ROOT / "monitoring" in folders
    assert [path for path in folders if path.is_relative_to(ROOT / "docs")] == []


def test_every_anchor_is_a_heading():
    """What stands behind # in a link is a heading of the page that it leads to."""
    with_anchor = [(path, *target.split("#")) for path, target in links() if "#" in target and "://" not in target]
    assert with_anchor
    assert [
        (path.name, target, anchor)
        for path, target, anchor in with_anchor
        if anchor not in anchors((path.parent / target) if target else path)
    ] == []


def test_every_link_elsewhere_is_listed():
    """Nobody follows these in a test, so there are few, and a new one is meant."""
    assert {target for _, target in links() if "://" in target} == ELSEWHERE


def test_every_document_is_in_the_navigation_of_the_site():
    """A page of docs/ is found in mkdocs.yml, by name."""
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert named - {"index.md", "changelog.md", "contributing.md"} == pages
