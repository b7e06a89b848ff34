// The live panel: /metrics every two seconds, and what changed since.

import { Refused, askText } from "./api.js";
import { chart } from "./charts.js";
import { byId, el, figure, fill, table } from "./dom.js";
import { parseMetrics } from "./prometheus.js";
import { CODES, PHASES, TABLED, between } from "./rates.js";

const EVERY_MS = 2000,
  KEPT = 150; // five minutes
const TILES = [
  ["rate", "requests / s", (now) => figure(now.rate, 3)],
  ["p50", "p50 of total", (now) => said(now.p50.total)],
  ["p99", "p99 of total", (now) => said(now.p99.total)],
  ["queue", "rows in the queue", (now) => figure(now.rows)],
  ["degraded", "degraded / s", (now) => figure(now.degraded, 3)],
  ["errors", "errors / s", (now) => figure(now.errors, 3)],
];
const said = (ms) => (ms === null ? "–" : `${figure(ms, 3)} ms`);
const SHORT = 6,
  LONG = 31; // scrapes: about ten seconds, and a minute

export class Live {
  constructor({ slo, onChange }) {
    this.scrapes = [];
    this.points = [];
    this.paused = false;
    this.slo = slo;
    this.onChange = onChange;
    this.values = Object.fromEntries(TILES.map(([name]) => [name, el("strong", {}, "–")]));
    fill(
      byId("tiles"),
      TILES.map(([name, label]) =>
        el("div", { class: "card tile", "data-tile": name }, this.values[name], el("span", { class: "note" }, label)),
      ),
    );
    this.charts = makeCharts();
    this.phases = el("div");
    fill(
      byId("live-charts"),
      Object.values(this.charts),
      el("div", { class: "card" }, el("h3", {}, "Phases, last minute"), this.phases),
    );
    byId("pause").addEventListener("click", () => this.pause());
    document.addEventListener("visibilitychange", () => this.look());
    setInterval(() => this.look(), EVERY_MS);
    this.look();
  }

  pause() {
    this.paused = !this.paused;
    byId("pause").setAttribute("aria-pressed", String(this.paused));
    byId("pause").textContent = this.paused ? "Go on" : "Pause";
    if (!this.paused) this.scrapes = [];
  }

  async look() {
    if (this.paused || document.hidden || this.looking) return;
    this.looking = true;
    try {
      this.take({ at: performance.now(), scrape: parseMetrics(await askText("/metrics")) });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.scrapes = []; // what comes next may be another process
    } finally {
      this.looking = false;
    }
  }

  take(scrape) {
    this.scrapes = [...this.scrapes, scrape].slice(-LONG);
    if (this.scrapes.length < 2) return;
    const since = (count) => between(this.scrapes[Math.max(0, this.scrapes.length - count)], scrape);
    this.points = [...this.points, { at: Date.now() / 1000, ...since(2) }].slice(-KEPT);
    this.show(since(SHORT), since(LONG));
    this.onChange(since(SHORT));
  }

  show(now, minute) {
    for (const [name, , read] of TILES) this.values[name].textContent = read(now);
    document.querySelector('[data-tile="degraded"]').classList.toggle("warn", now.degraded > 0);
    document.querySelector('[data-tile="errors"]').classList.toggle("bad", now.errors > 0);
    const x = this.points.map(({ at }) => at),
      column = (read) => this.points.map(read);
    this.charts.rate.show([x, ...CODES.map((_, at) => column(({ codes }) => codes[at]))]);
    for (const q of ["p50", "p99"]) {
      const slo = q === "p99" ? [x.map(() => this.slo() * 1000)] : [];
      this.charts[q].show([x, ...PHASES.map((name) => column((point) => point[q][name])), ...slo]);
    }
    this.charts.queue.show([x, column(({ rows }) => rows), column(({ inFlight }) => inFlight)]);
    this.charts.degraded.show([
      x,
      column(({ history }) => history),
      column(({ prior }) => prior),
      column(({ errors }) => errors),
    ]);
    const rows = TABLED.map((name) => [
      name,
      figure(minute.counts[name]),
      said(minute.p50[name]),
      said(minute.p99[name]),
    ]);
    fill(
      this.phases,
      table({ caption: "Phases of POST /score, last minute", columns: ["phase", "requests", "p50", "p99"], rows }),
    );
  }
}

function makeCharts() {
  const ms = (value) => `${figure(value, 3)} ms`,
    phases = PHASES.map((label) => ({ label }));
  return {
    rate: chart({
      title: "Requests per second",
      note: "POST /score",
      lines: CODES.map(([label]) => ({ label, area: label === "answered" })),
      time: true,
      format: (value) => figure(value, 3),
    }),
    p50: chart({ title: "p50 per phase", lines: phases, time: true, format: ms }),
    p99: chart({ title: "p99 per phase", lines: [...phases, { label: "SLO", dash: [5, 5] }], time: true, format: ms }),
    queue: chart({
      title: "Queue",
      lines: [{ label: "candidate rows" }, { label: "requests in flight" }],
      time: true,
      y: { least: 5 },
      format: (value) => figure(value, 3),
    }),
    degraded: chart({
      title: "Degraded and errors per second",
      lines: [{ label: "without history" }, { label: "from the prior" }, { label: "errors" }],
      time: true,
      y: { least: 1 },
      format: (value) => figure(value, 3),
    }),
  };
}
