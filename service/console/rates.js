// What happened to POST /score between two scrapes.

import { buckets, growth, quantile, total } from "./prometheus.js";

export const PHASES = ["total", "parse", "store", "encode", "queue", "compute", "explain"];
export const TABLED = [...PHASES, "render"];
const score =
  (test) =>
  ({ route, code }) =>
    route === "/score" && test(code);
export const CODES = [
  ["answered", (code) => code < "300"],
  ["4xx", (code) => code[0] === "4"],
  ["5xx", (code) => code[0] === "5"],
];

/** What happened between two scrapes. Milliseconds; nulls where there was no request. */
export function between(before, after) {
  const seconds = (after.at - before.at) / 1000;
  const rate = (name, where) => growth(before.scrape, after.scrape, name, where) / seconds;
  const times = Object.fromEntries(
    TABLED.map((name) => [
      name,
      buckets(before.scrape, after.scrape, "ctr_phase_seconds", ({ phase }) => phase === name),
    ]),
  );
  const at = (q) =>
    Object.fromEntries(
      TABLED.map((name) => {
        const found = quantile(q, times[name]);
        return [name, found === null ? null : found * 1000];
      }),
    );
  const codes = CODES.map(([, test]) => rate("ctr_requests_total", score(test)));
  return {
    rate: codes[0] + codes[1] + codes[2],
    codes,
    errors: codes[1] + codes[2],
    history: rate("ctr_scored_total", ({ degraded }) => degraded === "history"),
    prior: rate("ctr_scored_total", ({ degraded }) => degraded === "prior"),
    degraded: rate("ctr_scored_total", ({ degraded }) => degraded !== "none"),
    p50: at(0.5),
    p99: at(0.99),
    rows: total(after.scrape, "ctr_rows"),
    inFlight: total(after.scrape, "ctr_in_flight"),
    counts: Object.fromEntries(TABLED.map((name) => [name, times[name].reduce((sum, { count }) => sum + count, 0)])),
  };
}
