// A table of values by candidate and behavior: coloured cells that hold their number as text, walked by arrow keys.

import { categoryColours } from "./categories.js";
import { el, figure } from "./dom.js";

/** The table and its legend. `values` has a row per candidate; what a cell says is written into `readout`. */
export function grid({ values, candidates, behaviors, kind, readout, onPick, numbers, stretched }) {
  const scale = scaleOf(values.flat(), stretched),
    colours = categoryColours(behaviors);
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "item"),
    behaviors.map(({ item_id, category }) =>
      el(
        "th",
        {
          scope: "col",
          class: "behavior",
          title: category === null || category === undefined ? null : `category ${category}`,
          vars: colours.has(String(category)) ? { "--hue": `var(${colours.get(String(category))})` } : {},
        },
        el("span", {}, item_id),
      ),
    ),
  );
  const tell = (row, at) => {
    const { item_id, category } = behaviors[at];
    const of = category === null || category === undefined ? "" : ` (category ${category})`;
    readout.textContent = `Candidate ${candidates[row].item_id}, behavior ${at + 1}: item ${item_id}${of}: ${kind} ${figure(values[row][at], 4)}`;
  };
  const body = values.map((row, at) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, candidates[at].item_id),
      row.map((value, column) => cell({ value, scale, first: !at && !column, row: at, column })),
    ),
  );
  const table = el(
    "table",
    { class: `map${numbers ? " numbers" : ""}` },
    el("caption", { class: "hidden" }, `${kind}: candidates in rows, behaviors in columns, oldest first`),
    el("thead", {}, head),
    el("tbody", {}, body),
  );
  const place = ({ target }) => target.closest?.("td[data-row]");
  const both = (event) => {
    const found = place(event);
    if (found) tell(Number(found.dataset.row), Number(found.dataset.column));
  };
  table.addEventListener("mouseover", both);
  table.addEventListener("focusin", both);
  table.addEventListener("click", (event) => {
    const found = place(event);
    if (found) {
      focusOn(table, found);
      onPick(Number(found.dataset.row));
    }
  });
  table.addEventListener("keydown", (event) => move(event, table, onPick));
  return el(
    "div",
    {},
    el("div", { class: "scroll", role: "region", "aria-label": `Heat map of ${kind}` }, table),
    legend(scale),
  );
}

/** Colours begin at 0 or, stretched, at the lowest value; where some are negative, 0 is in the middle. */
function scaleOf(values, stretched) {
  const low = Math.min(...values),
    high = Math.max(...values);
  if (low < 0) return { negative: true, low: 0, high: Math.max(-low, high) };
  return { negative: false, low: stretched ? low : 0, high: Math.max(high, 1e-12) };
}

const partOf = (value, { low, high }) => (high > low ? (Math.abs(value) - low) / (high - low) : 0);

function cell({ value, scale, first, row, column }) {
  return el(
    "td",
    {
      tabindex: first ? "0" : "-1",
      class: value < 0 ? "below" : null,
      "data-row": row,
      "data-column": column,
      vars: { "--part": `${Math.round(partOf(value, scale) * 1000) / 10}%` },
    },
    el("span", {}, figure(value, 3)),
  );
}

function legend({ negative, low, high }) {
  return el(
    "div",
    { class: `legend note${negative ? " both" : ""}` },
    el("span", {}, figure(negative ? -high : low, 3)),
    el("span", { class: "ramp", "aria-hidden": "true" }),
    el("span", {}, figure(high, 3)),
    el("span", {}, "one row per candidate, one column per behavior, oldest first"),
  );
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function move(event, table, onPick) {
  const from = event.target.closest("td[data-row]");
  if (!from) return;
  const row = Number(from.dataset.row),
    column = Number(from.dataset.column);
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    onPick(row);
    return;
  }
  const ends = { Home: [row, 0], End: [row, from.parentElement.cells.length - 2] };
  const [down, across] = STEPS[event.key] ?? [0, 0];
  const [toRow, toColumn] = ends[event.key] ?? [row + down, column + across];
  if (!STEPS[event.key] && !ends[event.key]) return;
  event.preventDefault();
  const found = table.querySelector(`td[data-row="${toRow}"][data-column="${toColumn}"]`);
  if (found) focusOn(table, found);
}

function focusOn(table, found) {
  table.querySelector('td[tabindex="0"]')?.setAttribute("tabindex", "-1");
  found.setAttribute("tabindex", "0");
  found.focus();
}
