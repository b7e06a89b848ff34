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

function told({ status, type, message, requestId }) {
  if (status === 401 || status === 403)
    return [
      `${status === 401 ? "This needs the admin key" : "This is not the admin key"}: type it into the field “Admin key”.`,
    ];
  return [message, status ? `${status} ${type}${requestId ? `, request ${requestId}` : ""}` : ""];
}

function problem(message, detail = "") {
  byId("answer-state").className = "answer-state bad";
  fill(byId("answer-state"), el("b", {}, message), detail ? el("span", { class: "mono" }, ` ${detail}`) : null);
}
