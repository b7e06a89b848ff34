// uPlot in the page's colours. A chart is drawn again when the theme or its width changes.

import { el } from "./dom.js";

const COLOURS = ["--one", "--two", "--three", "--four", "--five", "--six", "--seven", "--soft"];
const HEIGHT = 190,
  LEAST_S = 60; // seconds that a chart over time shows at least
const drawn = new Set();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A card with a chart of `lines` ([{ label, dash?, steps? }]) over x. `.show(data)` draws [[x...], [y...], ...]. */
export function chart({ title, note = "", lines, time = false, x = {}, y = {}, format = String }) {
  const place = el("div", { class: "plot", "aria-hidden": "true" });
  const keys = lines.map((line, at) =>
    el(
      "li",
      { class: `key${line.dash ? " dashed" : ""}`, vars: { "--key": `var(${COLOURS[at % COLOURS.length]})` } },
      line.label,
    ),
  );
  const said = el("p", { class: "hidden" });
  const card = el(
    "figure",
    { class: "card chart" },
    el("figcaption", {}, el("h3", {}, title), note ? el("p", { class: "note" }, note) : null),
    place,
    el("ul", { class: "keys-of-chart" }, keys),
    said,
  );
  const made = { card, place, lines, time, x, y, format, said, title, data: null, plot: null };
  drawn.add(made);
  watcher.observe(place);
  card.show = (data) => {
    made.data = data;
    said.textContent = summary(made);
    draw(made);
  };
  return card;
}

/** Forget the charts inside of `container`, which is about to be emptied. */
export function release(container) {
  for (const made of drawn) {
    if (container.contains(made.card)) {
      made.plot?.destroy();
      watcher.unobserve(made.place);
      drawn.delete(made);
    }
  }
}

function summary({ title, lines, data, format }) {
  const last = lines.map(({ label }, at) => {
    const values = data[at + 1].filter((value) => value !== null);
    return values.length ? `${label} ${format(values[values.length - 1])}` : null;
  });
  return `${title}, last values: ${last.filter(Boolean).join(", ") || "none yet"}`;
}

function draw(made) {
  const width = Math.floor(made.place.clientWidth);
  if (!made.data || !width) return;
  if (made.plot && made.plot.width === width) {
    made.plot.setData(made.data);
    return;
  }
  made.plot?.destroy();
  made.plot = new window.uPlot(options(made, width), made.data, made.place);
}

function options({ lines, time, x, y, format }, width) {
  const axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--rule"), width: 1 },
    ticks: { stroke: colour("--rule"), size: 4 },
    font: "11px system-ui, sans-serif",
  };
  const series = lines.map((line, at) => ({
    label: line.label,
    stroke: colour(COLOURS[at % COLOURS.length]),
    width: line.dash ? 1.2 : 1.8,
    dash: line.dash,
    spanGaps: false,
    paths: line.steps ? window.uPlot.paths.stepped({ align: 1 }) : undefined,
    fill: line.area ? `${colour(COLOURS[at % COLOURS.length])}2e` : undefined,
    points: { show: true, size: 5, filter: line.points ? null : alone },
  }));
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, time ? 28 : 10, 0, 0],
    scales: {
      x: time ? { time, range: lately } : { time, ...x },
      y: { range: (_, low, high) => [0, Math.max(high ?? 0, y.least ?? 0) * 1.1 || 1], ...y.scale },
    },
    axes: [
      { ...axis, size: 30, space: time ? 70 : 45, values: time ? (_, values) => values.map(clock) : undefined },
      { ...axis, size: 52, values: (_, values) => values.map((value) => (value === null ? "" : format(value))) },
    ],
    series: [{}, ...series],
  };
}

/** The x of a chart over time: a minute at least, up to its last point. */
function lately({ data: [moments] }) {
  const last = moments[moments.length - 1];
  return [Math.min(moments[0], last - LEAST_S), last];
}

/** The points that no line leads to: drawn by themselves, or they would not be seen. */
function alone(plot, at) {
  const values = plot.data[at],
    none = (index) => (values[index] ?? null) === null;
  return [...values.keys()].filter((index) => !none(index) && none(index - 1) && none(index + 1));
}

const clock = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hour12: false,
  });

function again() {
  for (const made of drawn) {
    made.plot?.destroy();
    made.plot = null;
    draw(made);
  }
}

const watcher = new ResizeObserver((entries) => {
  for (const made of drawn) if (entries.some(({ target }) => target === made.place)) draw(made);
});
document.addEventListener("themechange", again);
