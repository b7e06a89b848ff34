// A user's behaviors in time: one column each, oldest first, with how much the chosen candidate looks at it.

import { categoryColours } from "./categories.js";
import { byId, el, figure, fill, moment } from "./dom.js";

/** Show `behaviors`; `weights` (one each, or null) are the bars, named by `of`. */
export function showTimeline(behaviors, { weights = null, of = "", said = "", missing = "" } = {}) {
  byId("history-card").hidden = false;
  byId("history-said").textContent = [`${behaviors.length} behavior${behaviors.length === 1 ? "" : "s"}`, said]
    .filter(Boolean)
    .join(", ");
  if (!behaviors.length) {
    fill(
      byId("timeline"),
      el(
        "p",
        { class: "note" },
        missing ||
          "This user has no history: the scores come from the candidates, the user's features and the context alone.",
      ),
    );
    return;
  }
  const colours = categoryColours(behaviors);
  const highest = Math.max(...(weights ?? []).map(Math.abs), 1e-9);
  const columns = behaviors.map((behavior, at) => {
    const weight = weights?.[at] ?? null;
    const bar = el("span", {
      class: `bar${weight < 0 ? " below" : ""}`,
      "aria-hidden": "true",
      vars: { "--height": weight === null ? "0" : String(Math.abs(weight) / highest) },
    });
    const category = behavior.category === null || behavior.category === undefined ? "–" : behavior.category;
    const hue = colours.get(String(category));
    return el(
      "li",
      { title: told(behavior, at, behaviors.length), "data-at": at },
      el("span", { class: "rise" }, bar),
      weight === null ? null : el("span", { class: "weight" }, figure(weight, 2)),
      el("span", { class: "item" }, behavior.item_id),
      el(
        "span",
        { class: "category", vars: hue ? { "--hue": `var(${hue})` } : {} },
        el("span", { class: "hidden" }, "category "),
        category,
      ),
    );
  });
  const label = `History, oldest first${of ? `, with the attention of candidate ${of}` : ""}`;
  fill(
    byId("timeline"),
    track(behaviors, colours),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
      el("ol", { class: `behaviors${weights ? "" : " plain"}` }, columns),
    ),
    weights
      ? el("p", { class: "note" }, "Bars: attention of candidate ", el("b", {}, of), ". Colours: category.")
      : el("p", { class: "note" }, "Oldest first. Colours: category."),
  );
}

/** Where the behaviors lie in real time, if they have times. */
function track(behaviors, colours) {
  const times = behaviors.map(({ time }) => time).filter((time) => time);
  if (times.length < 2 || times.length < behaviors.length) return null;
  const first = Math.min(...times),
    last = Math.max(...times);
  const dots = behaviors.map(({ time, category }) =>
    el("span", {
      class: "dot",
      vars: {
        "--at": String(last > first ? (time - first) / (last - first) : 0.5),
        "--hue": `var(${colours.get(String(category)) ?? "--six"})`,
      },
    }),
  );
  return el(
    "div",
    { class: "track" },
    el("div", { class: "line", "aria-hidden": "true" }, dots),
    el("div", { class: "ends note" }, el("span", {}, moment(first)), el("span", {}, moment(last))),
  );
}

function told({ item_id, category, time, action }, at, all) {
  const parts = [
    `${at + 1} of ${all}: item ${item_id}`,
    category === null || category === undefined ? "" : `category ${category}`,
    action ?? "",
    time ? moment(time) : "",
  ];
  return parts.filter(Boolean).join(", ");
}
