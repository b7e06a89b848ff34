"""Charts as SVG text: axes with names and ticks, and what is drawn between them. Colours are the page's (CSS classes).

A chart is 360 units wide, about a phone's width, so its text stays readable where it is shown small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

_WIDTH, _HEIGHT = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 352, 10, 218
_TICKS = 5

Range = tuple[float, float]
Series = tuple[Sequence[float], Sequence[float]]


@dataclass(kw_only=True)
class Chart:
    """Marks in data coordinates over two ranges. `names` are ticks of places 0, 1, ... instead of numbers."""

    title: str
    alt: str  # what a person who cannot see the chart reads
    x_label: str
    y_label: str
    x: Range
    y: Range
    names: Sequence[str] = ()
    marks: list[str] = field(default_factory=list)

    def line(self, series: Series, *, css: str, name: str = "") -> None:
        """Points joined by a line."""
        points = " ".join(f"{self._x(x)},{self._y(y)}" for x, y in zip(*series, strict=True))
        self.marks.append(f'<polyline class="line {css}" points="{points}">{_tip(name)}</polyline>')

    def dots(self, series: Series, *, css: str, tips: Sequence[str] = ()) -> None:
        """A dot per point, with a text that shows on hovering."""
        for i, (x, y) in enumerate(zip(*series, strict=True)):
            tip = _tip(tips[i] if tips else "")
            self.marks.append(f'<circle class="dot {css}" cx="{self._x(x)}" cy="{self._y(y)}" r="3.5">{tip}</circle>')

    def whisker(self, x: float, low: float, high: float, *, css: str) -> None:
        """An interval at `x`, cut off at the chart's edges."""
        a, b = (self._y(min(max(value, self.y[0]), self.y[1])) for value in (low, high))
        at = self._x(x)
        self.marks.append(f'<path class="line {css}" d="M{at} {a}V{b}M{at - 4:.1f} {a}h8M{at - 4:.1f} {b}h8"/>')

    def area(self, edges: Sequence[float], heights: Sequence[float], *, css: str, name: str) -> None:
        """A histogram: a step per pair of edges."""
        steps = "".join(f"V{self._y(h)}H{self._x(b)}" for (_, b), h in zip(pairwise(edges), heights, strict=True))
        start = f"M{self._x(edges[0])} {self._y(self.y[0])}"
        self.marks.append(f'<path class="area {css}" d="{start}{steps}V{self._y(self.y[0])}Z">{_tip(name)}</path>')

    def svg(self) -> str:
        """The whole chart."""
        head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{self.title}. {self.alt}")}">'
        labels = (
            f'<text class="name" x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 8}">{escape(self.x_label)}</text>'
            f'<text class="name" transform="translate(11 {(_TOP + _BOTTOM) / 2}) rotate(-90)">'
            f"{escape(self.y_label)}</text>"
        )
        return head + self._grid() + "".join(self.marks) + labels + "</svg>"

    def _grid(self) -> str:
        parts = []
        for value in ticks(*self.y):
            at = self._y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {at}H{_RIGHT}"/>')
            parts.append(f'<text class="tick left" x="{_LEFT - 5}" y="{at + 3.5:.1f}">{number(value)}</text>')
        places = [(float(i), name) for i, name in enumerate(self.names)] or [(v, number(v)) for v in ticks(*self.x)]
        for value, name in places:
            parts.append(f'<text class="tick" x="{self._x(value)}" y="{_BOTTOM + 15}">{escape(name)}</text>')
        return "".join(parts) + f'<path class="axis" d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"/>'

    def _x(self, value: float) -> float:
        return round(_LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (_RIGHT - _LEFT), 1)

    def _y(self, value: float) -> float:
        return round(_BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (_BOTTOM - _TOP), 1)


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A table of cells, darker for more: a row per candidate, a column per behavior."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    x_label: str
    y_label: str

    @property
    def ends(self) -> Range:
        """The lightest and the darkest cell's value."""
        values = [value for row in self.values for value in row]
        return (min(values), max(values)) if values else (0.0, 0.0)

    def svg(self) -> str:
        """The whole map. Column names stand upright, since ids are long."""
        left, top, cell, high = 78, 8, (_WIDTH - 86) / max(len(self.columns), 1), 26
        bottom = top + high * len(self.rows)
        low, most = self.ends
        size = f"{len(self.rows)} candidates by {len(self.columns)} behaviors"
        alt = f"{self.title}. {size}; the largest weight is {most:.4f}."
        parts = [f'<svg viewBox="0 0 {_WIDTH} {bottom + 84}" role="img" aria-label="{escape(alt)}">']
        for r, name in enumerate(self.rows):
            y = top + r * high
            parts.append(f'<text class="tick left" x="{left - 5}" y="{y + 16}">{escape(name[:10])}</text>')
            for c, value in enumerate(self.values[r]):
                tip = _tip(f"candidate {name}, behavior {self.columns[c]}: {value:.4f}")
                where = f'x="{left + c * cell:.1f}" y="{y}" width="{cell - 1:.1f}" height="{high - 1}"'
                opacity = f'fill-opacity="{0.06 + 0.94 * (value - low) / ((most - low) or 1):.3f}"'
                parts.append(f'<rect class="cell" {where} {opacity}>{tip}</rect>')
        for c, name in enumerate(self.columns):
            where = f"translate({left + (c + 0.5) * cell + 3.5:.1f} {bottom + 4}) rotate(-90)"
            parts.append(f'<text class="tick left" transform="{where}">{escape(name[:8])}</text>')
        parts.append(f'<text class="name" x="{(left + _WIDTH) / 2}" y="{bottom + 76}">{escape(self.x_label)}</text>')
        middle = f"translate(11 {(top + bottom) / 2}) rotate(-90)"
        parts.append(f'<text class="name" transform="{middle}">{escape(self.y_label)}</text></svg>')
        return "".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between the ends: steps of 1, 2 or 5 times a power of ten."""
    step = 10.0**-9
    while (high - low) / step > _TICKS:
        step *= 2.5 if f"{step:.0e}".startswith("2") else 2
    first = -(-low // step)
    count = int((high - first * step) / step + 1e-6) + 1
    return [round((first + i) * step, 10) for i in range(count)]


def padded(values: Sequence[float]) -> Range:
    """A range around the values with a little air."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    air = (high - low) * 0.08 or max(abs(high) * 0.02, 1e-3)
    return low - air, high + air


def number(value: float) -> str:
    """A tick as short as it can be said."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
