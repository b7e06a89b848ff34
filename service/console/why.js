// Why one candidate got its score: from the logit without history to the calibrated pCTR.

import { el, figure } from "./dom.js";

const MOST = 5;

/** A card on candidate `at` of an answer with an explanation. */
export function why({ explanation, scores }, at, role) {
  const found = explanation.candidates[at],
    { rank } = scores[at];
  const unknown = [...(found.unknown_features ?? []), ...(explanation.unknown_features ?? [])];
  return el(
    "div",
    { class: "card why" },
    el(
      "h3",
      {},
      "Why candidate ",
      el("span", { class: "mono" }, found.item_id),
      ` is number ${rank}${role ? ` (${role})` : ""}`,
    ),
    steps(found),
    topBehaviors(explanation.behaviors, found),
    el(
      "p",
      { class: "note" },
      unknown.length
        ? `Not seen in training, or not given: ${[...new Set(unknown)].join(", ")}.`
        : "Every feature was seen in training.",
    ),
  );
}

function steps({ logit, logit_without_history: without, history_effect: effect, pctr_uncalibrated: raw, pctr }) {
  const sigmoid = (value) => 1 / (1 + Math.exp(-value));
  const rows = [
    ["without the history", `logit ${figure(without, 3)}`, sigmoid(without)],
    ["with the history", `${effect < 0 ? "−" : "+"}${figure(Math.abs(effect), 3)} → logit ${figure(logit, 3)}`, raw],
    ["calibrated", "pCTR", pctr],
  ];
  return el(
    "dl",
    { class: "steps" },
    rows.map(([name, told, value]) =>
      el(
        "div",
        {},
        el("dt", {}, name),
        el("dd", {}, el("span", { class: "note" }, told), bar(value), el("b", {}, figure(value, 3))),
      ),
    ),
  );
}

export const bar = (part, hue = "--accent") =>
  el("span", {
    class: "meter",
    "aria-hidden": "true",
    vars: { "--part": `${Math.max(0, Math.min(1, part)) * 100}%`, "--hue": `var(${hue})` },
  });

function topBehaviors(behaviors, { attention }) {
  if (!attention?.length) return null;
  const ranked = attention
    .map((weight, at) => ({ weight, ...behaviors[at] }))
    .sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight))
    .slice(0, MOST);
  return el(
    "div",
    {},
    el("h4", {}, "It looks most at"),
    el(
      "ol",
      { class: "tops" },
      ranked.map(({ weight, item_id, category }) =>
        el(
          "li",
          {},
          el("span", { class: "mono" }, item_id),
          category === null || category === undefined ? null : el("span", { class: "note" }, ` category ${category}`),
          el("b", {}, figure(weight, 3)),
        ),
      ),
    ),
  );
}
