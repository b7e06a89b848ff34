// The heat map: a table of candidates by behaviors whose cells are coloured by their value and hold it as text.

import { el, figure } from "./dom.js";

/** A card with a heat map of `kinds` ({ name: rows of values }), one of which is shown. `onPick(row)` chooses a candidate. */
export function heatMap({ title, kinds, candidates, behaviors, onPick }) {
  const names = Object.keys(kinds);
  const place = el("div");
  const readout = el(
    "p",
    { class: "readout", role: "status" },
    "Move with the arrow keys or point at a cell to read it.",
  );
  const state = { kind: names[0], numbers: false };
  const draw = () =>
    place.replaceChildren(
      grid({
        values: kinds[state.kind],
        candidates,
        behaviors,
        kind: state.kind,
        readout,
        onPick,
        numbers: state.numbers,
      }),
    );
  const pick = (name) =>
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-pressed": String(name === state.kind),
        onclick: ({ currentTarget }) => {
          state.kind = name;
          press(currentTarget);
          draw();
        },
      },
      name,
    );
  const numbers = el(
    "button",
    {
      type: "button",
      class: "quiet",
      "aria-pressed": "false",
      onclick: ({ currentTarget }) => {
        state.numbers = !state.numbers;
        currentTarget.setAttribute("aria-pressed", String(state.numbers));
        draw();
      },
    },
    "Show numbers",
  );
  draw();
  return el(
    "div",
    { class: "card heat" },
    el(
      "div",
      { class: "heading" },
      el("h3", {}, title),
      el(
        "div",
        { class: "joined", role: "group", "aria-label": "What the heat map shows" },
        names.length > 1 ? names.map(pick) : null,
        numbers,
      ),
    ),
    readout,
    place,
  );
}

function press(button) {
  for (const other of button.parentElement.querySelectorAll("[aria-pressed]"))
    if (!other.textContent.startsWith("Show")) other.setAttribute("aria-pressed", String(other === button));
}

function grid({ values, candidates, behaviors, kind, readout, onPick, numbers }) {
  const flat = values.flat();
  const highest = Math.max(...flat.map(Math.abs), 1e-12),
    negative = flat.some((value) => value < 0);
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
      row.map((value, column) => cell({ value, highest, first: !at && !column, row: at, column })),
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
    legend(highest, negative),
  );
}

function cell({ value, highest, first, row, column }) {
  const part = Math.round((Math.abs(value) / highest) * 1000) / 10;
  return el(
    "td",
    {
      tabindex: first ? "0" : "-1",
      class: value < 0 ? "below" : null,
      "data-row": row,
      "data-column": column,
      vars: { "--part": `${part}%` },
    },
    el("span", {}, figure(value, 2)),
  );
}

function legend(highest, negative) {
  const ends = negative ? [figure(-highest, 2), "0", figure(highest, 2)] : ["0", figure(highest, 2)];
  return el(
    "div",
    { class: `legend note${negative ? " both" : ""}` },
    el("span", {}, ends[0]),
    el("span", { class: "ramp", "aria-hidden": "true" }),
    el("span", {}, ends[ends.length - 1]),
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
