"""The site of the documents, where MkDocs is installed: `make docs` installs it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.programs import program

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"<(?:script|img|iframe|link(?![^>]*rel=\"?(?:canonical|next|prev))|source)\b[^>]*(?:src|href)=\"?(https?:[^\"\s>]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built so that any warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [program("mkdocs"), "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_document_is_a_page(site: Path):
    """Each file of docs/ is a page, README the first, and a file of the repository that one links to is there too."""
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    more = {Path("index.html"), Path("changelog.html"), Path("files/examples/synthetic.toml.html")}
    assert [page for page in pages | more if not (site / page).is_file()] == []


def test_no_page_loads_anything_from_elsewhere(site: Path):
    """A reader's browser asks the site alone."""
    pages = sorted(site.rglob("*.html"))
    assert pages
    assert [(page.name, url) for page in pages for url in LOADED.findall(page.read_text(encoding="utf-8"))] == []
