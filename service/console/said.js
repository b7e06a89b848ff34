// The line above the answers: what was done, or what went wrong.

import { Refused } from "./api.js";
import { byId, el, fill } from "./dom.js";
import { Mistake, mark } from "./form.js";

/** Tell what was done. */
export const said = (text) => {
  byId("answer-state").className = "answer-state";
  byId("answer-state").textContent = text;
};

/** Run `work`; what the service or the form refuses is told where answers are. */
export async function reported(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof Mistake) {
      mark(error.field);
      problem(error.message);
    } else if (error instanceof Refused) problem(...told(error));
    else throw error;
  }
}

/** What is to be done about a key that is missing (401) or wrong (403). */
export const keyWanted = ({ status, key }) =>
  `${status === 401 ? "This needs" : "This is not"} the ${key}: type it into the field “${key[0].toUpperCase()}${key.slice(1)}”.`;

/** Whether a key is what is missing. */
export const wantsKey = ({ type }) => type === "unauthorized" || type === "forbidden";

function told(error) {
  const { status, type, message, requestId } = error;
  if (wantsKey(error)) return [keyWanted(error)];
  return [message, status ? `${status} ${type}${requestId ? `, request ${requestId}` : ""}` : ""];
}

function problem(message, detail = "") {
  byId("answer-state").className = "answer-state bad";
  fill(byId("answer-state"), el("b", {}, message), detail ? el("span", { class: "mono" }, ` ${detail}`) : null);
}
