"""Writes the tables of settings in docs/configuration.md: `python -m service.config_docs` after any change of those.

Settings --JSON schema--> one table per subject, between two marks of the page; the text around them is written by hand
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic_settings import BaseSettings

from service.config import PREFIX, Settings

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_BEGIN = "<!-- Written by `python -m service.config_docs` from service/*_settings.py; change it there. -->\n"
_END = "<!-- End of what is written. -->\n"
_HEAD = "| variable | takes | default | meaning |\n|---|---|---|---|\n"


def written(page: str) -> str:
    """`page` with the tables of today's settings; the same for the same ones. ValueError without the marks."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page lacks a mark: {_BEGIN!r} or {_END!r}")
    return f"{before}{begin}{''.join(_subjects())}\n{end}{after}"


def _subjects() -> Iterator[str]:
    schema = Settings.model_json_schema()["properties"]
    for part in (*Settings.__bases__, Settings):
        names = [name for name in part.__annotations__ if name in schema]
        if issubclass(part, BaseSettings) and names:
            yield f"\n### {_heading(part)}\n\n{_about(part)}\n\n{_HEAD}"
            yield from (_row(name, schema[name]) for name in names)


def _heading(part: type[BaseSettings]) -> str:
    """`StoreSettings` -> `Store settings`."""
    return f"{part.__name__.removesuffix('Settings')} settings".strip().capitalize()


def _about(part: type[BaseSettings]) -> str:
    """The first sentence of the file that the settings are in."""
    sentence = (sys.modules[part.__module__].__doc__ or "").partition("\n")[0]
    subject = sentence.removeprefix("The settings of ").removeprefix("Settings of ")
    return subject[:1].upper() + subject[1:]


def _row(name: str, rule: Mapping[str, object]) -> str:
    return f"| `{PREFIX}{name.upper()}` | {_takes(rule)} | {_default(rule['default'])} | {rule['description']} |\n"


def _default(value: object) -> str:
    if value is None or value == "":
        return "none" if value is None else "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _takes(rule: Mapping[str, object]) -> str:
    """What a setting may be, from its JSON schema."""
    match rule:
        case {"enum": list(choices)}:
            return ", ".join(f"`{choice}`" for choice in choices)
        case {"type": "boolean"}:
            return "`true`, `false`"
        case {"type": "string", "pattern": str(pattern)}:
            return f"text, `{pattern}`".replace("|", r"\|")
        case {"type": "string"}:
            return ", ".join(["text", *_bounds(rule, "minLength", "maxLength", of="length ")])
        case {"type": str(kind)}:
            return ", ".join([kind, *_bounds(rule, "minimum", "maximum")])
    return "secret text"


def _bounds(rule: Mapping[str, object], least: str, most: str, *, of: str = "") -> Iterator[str]:
    if least in rule and most in rule:
        yield f"{of}{rule[least]} to {rule[most]}"
        return
    words = {least: "at least", "exclusiveMinimum": "above", most: "at most", "exclusiveMaximum": "below"}
    yield from (f"{of}{word} {rule[key]}" for key, word in words.items() if key in rule)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
