"""Links out of docs/, for the site: MkDocs runs these hooks, see mkdocs.yml.

A link in the repository leads to a file of the repository. In the site it leads to the same file as a page: README.md
is index.md, docs/X is X, and any other file that a page links to is files/X: Markdown as it is, the rest as code, a
folder as a list of its files.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_HIDDEN = re.compile(r"(^|/)[._]|\.(pyc|so)$")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds a page for every file outside of docs/ that is linked to, and for those that these link to."""
    waiting = [*_PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    for source in waiting:
        if source.endswith(".md"):
            waiting.extend(link for link in _links(source) if link not in waiting)
        if not source.startswith("docs/"):
            files.append(_page(source, config))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Turns links between files into links between pages."""
    path = page.file.abs_src_path
    if path is None:  # made of a file that is no Markdown
        return markdown
    source = Path(path).relative_to(ROOT).as_posix()

    def to_page(target: str) -> str:
        return posixpath.relpath(_uri(target), posixpath.dirname(page.file.src_uri) or ".")

    return _LINK.sub(lambda link: to_page(_resolved(source, link[1])), markdown)


def _links(source: str) -> Iterator[str]:
    for target in _LINK.findall((ROOT / source).read_text(encoding="utf-8")):
        path = _resolved(source, target)
        if not path.startswith("docs/") and (ROOT / path).exists():  # MkDocs itself warns of what does not exist
            yield path


def _resolved(source: str, target: str) -> str:
    """The file of the repository that a link in `source` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _uri(source: str) -> str:
    """Where the site has a file of the repository."""
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    seen = re.sub(r"(^|/)\.", r"\1", source)  # MkDocs leaves out names that begin with a dot
    return _PAGES.get(source) or "files/" + (seen if seen.endswith(".md") else f"{seen}.md")


def _page(source: str, config: MkDocsConfig) -> File:
    path = ROOT / source
    if path.suffix == ".md":
        return File.generated(config, _uri(source), abs_src_path=str(path))
    return File.generated(config, _uri(source), content=_listing(path) if path.is_dir() else _code(path))


def _listing(folder: Path) -> str:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "\n".join([f"# {folder.name}\n", *(f"- `{path}`" for path in paths if not _HIDDEN.search(path))])


def _code(path: Path) -> str:
    language = {".yml": "yaml"}.get(path.suffix, path.suffix.lstrip(".") or path.name.lower())
    return f"# {path.name}\n\n````{language}\n{path.read_text(encoding='utf-8')}````\n"
