// The heat map: a table of candidates by behaviors whose cells are coloured by their value and hold it as text.

import { el } from "./dom.js";
import { grid } from "./grid.js";

/** A card with a heat map of `kinds` ({ name: rows of values }), one of which is shown. `onPick(row)` chooses a candidate. */
export function heatMap({ title, kinds, candidates, behaviors, onPick }) {
  const names = Object.keys(kinds);
  const place = el("div");
  const readout = el("p", { class: "readout" }, "Move with the arrow keys or point at a cell to read it.");
  const state = { kind: names[0], numbers: false, stretched: false };
  const draw = () =>
    place.replaceChildren(
      grid({
        values: kinds[state.kind],
        candidates,
        behaviors,
        readout,
        onPick,
        ...state,
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
  const toggle = (name, label) =>
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-pressed": "false",
        onclick: ({ currentTarget }) => {
          state[name] = !state[name];
          currentTarget.setAttribute("aria-pressed", String(state[name]));
          draw();
        },
      },
      label,
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
        names.length > 1 ? el("span", { class: "kinds" }, names.map(pick)) : null,
        toggle("numbers", "Show numbers"),
        toggle("stretched", "Stretch colours"),
      ),
    ),
    readout,
    place,
  );
}

function press(button) {
  for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
}
