// The form: what was typed -> bodies of POST /score, or what is wrong with it.

import { parse, readId } from "./api.js";
import { byId, el, fill } from "./dom.js";

const RECENT = "ctr.users",
  KEY = "ctr.key",
  API_KEY = "ctr.api-key",
  KEPT = 12;

/** What was typed cannot be sent; `field` is the id of the input at fault. */
export class Mistake extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/** The user as the service takes it: a number where it is one. Raises Mistake. */
export function userId() {
  const typed = byId("user").value.trim();
  if (!typed) throw new Mistake("user", "Type a user id first.");
  return readId(typed) ?? typed;
}

/** Ids with anything between them, or JSON, as rows or columns. Raises Mistake. */
export function readItems(field, key, what) {
  const typed = byId(field).value.trim();
  if (/^[[{]/.test(typed)) {
    try {
      return parse(typed);
    } catch (error) {
      throw new Mistake(field, `This looks like JSON and is not: ${error.message}`);
    }
  }
  const rows = typed
    .split(/[\s,;]+/)
    .filter(Boolean)
    .map((token) => {
      const id = readId(token);
      if (id === null)
        throw new Mistake(field, `“${token.slice(0, 40)}” is no item id; allowed are integers from 0 to 2^63 - 1.`);
      return { [key]: id };
    });
  if (!rows.length && what) throw new Mistake(field, `There are no ${what}. Paste item ids, or sample some.`);
  return rows;
}

/** How many rows a value of `readItems` has. */
export const count = (items) => (Array.isArray(items) ? items.length : (Object.values(items)[0]?.length ?? 0));

/** Inputs for every user and context feature of the schema but the user id. */
export function showFeatures(schema) {
  const features = ["user", "context"].flatMap((side) =>
    (schema[side] ?? []).filter(({ name }) => name !== schema.keys.user).map((feature) => ({ side, ...feature })),
  );
  byId("features").hidden = !features.length;
  const typed = new Map([...byId("feature-fields").querySelectorAll("input")].map((input) => [input.id, input.value]));
  fill(
    byId("feature-fields"),
    features.map(({ side, name, kind, dtype }) => {
      const id = `feature-${side}-${name}`;
      return el(
        "div",
        {},
        el("label", { for: id }, name),
        el("input", {
          id,
          "data-side": side,
          "data-name": name,
          "data-kind": kind ?? "sparse",
          "data-dtype": dtype ?? "int",
          autocomplete: "off",
          spellcheck: "false",
          value: typed.get(id) ?? "",
          placeholder: hint(kind, dtype),
        }),
      );
    }),
  );
}

const hint = (kind, dtype) =>
  kind === "dense" ? "number" : `${dtype === "str" ? "text" : "id"}${kind === "multi" ? "s, with commas" : ""}`;

function features(side) {
  const inputs = [...byId("feature-fields").querySelectorAll(`input[data-side="${side}"]`)].filter(({ value }) =>
    value.trim(),
  );
  return Object.fromEntries(inputs.map((input) => [input.dataset.name, featureValue(input)]));
}

function featureValue({ id, value, dataset }) {
  const one = (text) => {
    const read =
      dataset.kind === "dense"
        ? text.trim() === ""
          ? NaN
          : Number(text)
        : dataset.dtype === "str"
          ? text.trim()
          : readId(text.trim());
    if (read === null || Number.isNaN(read))
      throw new Mistake(
        id,
        `${dataset.name}: “${text.slice(0, 40)}” is no ${dataset.kind === "dense" ? "number" : "id"}.`,
      );
    return read;
  };
  return dataset.kind === "multi" ? value.split(",").map(one) : one(value);
}

/** The bodies to send, by the role that scores them ("" is the user's own bundle). Raises Mistake. */
export function requests({ itemKey, limits }) {
  const candidates = readItems("candidates", itemKey, "candidates");
  const body = { user_id: userId(), candidates };
  for (const side of ["user", "context"]) {
    const given = features(side);
    if (Object.keys(given).length) body[side] = given;
  }
  if (byId("history-text").value.trim()) body.history = readItems("history-text", itemKey, "");
  if (byId("explain").checked && limits.explain_candidates > 0) {
    body.explain = true;
    if (count(candidates) > limits.explain_candidates) body.top_k = limits.explain_candidates;
  }
  const chosen = document.querySelector('input[name="bundle"]:checked').value;
  const roles = chosen === "both" ? ["stable", "canary"] : [chosen];
  return roles.map((role) => ({ role, body: role ? { ...body, bundle: role } : body }));
}

/** Mark the input at fault, or none. */
export function mark(field) {
  for (const input of document.querySelectorAll("#ask [aria-invalid]")) input.removeAttribute("aria-invalid");
  if (!field || !byId(field)) return;
  byId(field).closest("details")?.setAttribute("open", "");
  byId(field).setAttribute("aria-invalid", "true");
  byId(field).focus();
}

/** Users of this tab, newest first, as suggestions. */
export function remember(user) {
  const known = [String(user), ...recent().filter((one) => one !== String(user))].slice(0, KEPT);
  sessionStorage.setItem(RECENT, JSON.stringify(known));
  showRecent();
}

export function showRecent() {
  fill(
    byId("recent-users"),
    recent().map((user) => el("option", { value: user })),
  );
}

const recent = () => JSON.parse(sessionStorage.getItem(RECENT) ?? "[]");

/** The admin key, of this tab alone. */
export const adminKey = () => byId("key").value.trim();

/** The API key, likewise. */
export const apiKey = () => byId("api-key").value.trim();

export function keepKeys() {
  for (const [id, name] of [
    ["key", KEY],
    ["api-key", API_KEY],
  ]) {
    byId(id).value = sessionStorage.getItem(name) ?? "";
    byId(id).addEventListener("input", () => sessionStorage.setItem(name, byId(id).value.trim()));
  }
}
