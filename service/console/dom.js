// Elements from values. What comes from data becomes text and never markup: there is no innerHTML on this page.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (`class`, `aria-...`, `onclick`, ...; false and null are left out) and children. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, one] of Object.entries(value)) made.style.setProperty(key, one);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(
    ...children
      .flat()
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map(asNode),
  );
  return made;
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** Put `children` in the place of whatever `target` has. */
export function fill(target, ...children) {
  target.replaceChildren(
    ...children
      .flat()
      .filter((child) => child !== null && child !== false)
      .map(asNode),
  );
}

/** A table from a caption, column names and rows of cells; a cell may be an element. The first cell names its row. */
export function table({ caption, columns, rows, classes = "" }) {
  const head = el(
    "tr",
    {},
    columns.map((name) => el("th", { scope: "col" }, name)),
  );
  const body = rows.map((cells) =>
    el(
      "tr",
      {},
      cells.map((cell, at) => (at ? el("td", {}, cell) : el("th", { scope: "row" }, cell))),
    ),
  );
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      { class: classes },
      el("caption", { class: "hidden" }, caption),
      el("thead", {}, head),
      el("tbody", {}, body),
    ),
  );
}

/** A number with `digits` significant digits, or a dash. */
export function figure(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 10 ** (digits - 1) || Number.isInteger(value)) return String(Math.round(value));
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(digits - 2);
  return String(Number(value.toPrecision(digits)));
}

/** Milliseconds since the epoch as a short date and time. */
export const moment = (ms) => new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
