// The page: state of the service, the form, and what its answers show.

import { Refused, ask, useKey } from "./api.js";
import { showAnswers } from "./answer.js";
import { byId, fill } from "./dom.js";
import { Mistake, adminKey, apiKey, keepKeys, mark, remember, requests, showRecent, userId } from "./form.js";
import { shortcuts } from "./keys.js";
import { Live } from "./live.js";
import { reported, said } from "./said.js";
import { keys, limits, lookAtState, page, showState } from "./state.js";
import { showTimeline } from "./timeline.js";

const catalogue = new Map(); // item id -> what is shown beside it, of the items that were sampled

const STATE_EVERY_MS = 4000,
  DEADLINE_MS = 2000;

async function sample() {
  const count = Math.min(Math.max(1, Number(byId("count").value) || 12), limits().items);
  const { items, catalogue: all } = await ask(`/console/items?limit=${count}`);
  for (const item of items) catalogue.set(String(item[keys().item]), category(item));
  byId("candidates").value = items.map((item) => item[keys().item]).join(" ");
  mark(null);
  said(`${items.length} of ${all.toLocaleString()} items of the catalogue.`);
}

const category = (item) =>
  keys().category && item[keys().category] !== null && item[keys().category] !== undefined
    ? `category ${item[keys().category]}`
    : "";

/** A user's history: the store's own with the admin key, else as a score of one item explains it. */
async function showHistory() {
  const user = userId();
  remember(user);
  if (page.state?.admin_key && adminKey()) {
    const { history } = await ask(
      `/users/${encodeURIComponent(user)}/history?limit=${page.manifest?.schema.max_history ?? 50}`,
      { key: adminKey() },
    );
    showTimeline(history, { said: "from the store" });
    said(`${history.length} behaviors.`);
    return;
  }
  if (!limits().explain_candidates)
    throw new Mistake(
      "user",
      "Without explanations (CTR_EXPLAIN_CANDIDATES) and without the admin key, histories are not shown.",
    );
  const { items } = await ask("/console/items?limit=1&seed=0");
  const answer = await score({
    user_id: user,
    candidates: [{ [keys().item]: items[0]?.[keys().item] ?? 0 }],
    explain: true,
  });
  if (answer.degraded !== "none")
    throw new Refused(200, {
      error: "the store did not answer, so nothing is known of this user's history",
      error_type: "degraded",
    });
  showTimeline(answer.explanation?.behaviors ?? [], { said: "as the net sees them" });
  said(
    answer.explanation
      ? `${answer.history_len} behaviors.`
      : "This bundle explains nothing, so the history is not known here.",
  );
}

const score = (body) =>
  ask("/score", {
    body,
    headers: {
      "x-deadline-ms": String(Math.min(Math.max(DEADLINE_MS, limits().deadline_ms), limits().max_deadline_ms)),
    },
  });

/** With an explanation if the bundle can give one. */
async function scoreExplained(body) {
  try {
    return await score(body);
  } catch (error) {
    if (!body.explain || error.status !== 409 || /canary/.test(error.message)) throw error;
    const { explain, top_k: best, ...plain } = body;
    said(`Not explained: ${error.message}`);
    return score(plain);
  }
}

/** Score what the form says. One at a time: the button stays focusable, and says that it is busy. */
async function scoreAll() {
  const button = byId("submit");
  if (button.getAttribute("aria-disabled") === "true") return;
  const asked = requests({ itemKey: keys().item, limits: limits() });
  mark(null);
  said("Scoring…");
  remember(asked[0].body.user_id);
  button.setAttribute("aria-disabled", "true");
  try {
    const answers = await Promise.all(
      asked.map(async ({ role, body }) => ({ role, answer: await scoreExplained(body) })),
    );
    if (byId("answer-state").textContent === "Scoring…") said("");
    show(answers, asked[0].body);
  } catch (error) {
    fill(byId("answer")); // what is shown must not be taken for the answer to this
    byId("history-card").hidden = true;
    throw error;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function show(answers, body) {
  const [{ answer }] = answers,
    { explanation } = answer;
  byId("empty").hidden = true;
  byId("history-card").hidden = true;
  const onPick = (at) => {
    if (!explanation) return;
    const { attention, item_id } = explanation.candidates[at];
    showTimeline(explanation.behaviors, {
      weights: attention?.length ? attention : null,
      of: String(item_id),
      said: body.history ? "as typed above" : "as the net sees them",
      missing: answer.degraded === "history" ? "The store did not answer, so whatever it has counted as nothing." : "",
    });
  };
  fill(byId("answer"), showAnswers(answers, { catalogue, onPick }));
  const best = answer.scores.find(({ rank }) => rank === 1);
  said(
    [
      byId("answer-state").textContent,
      `${answer.scores.length} candidates scored; best is item ${best.item_id} with ${best.pctr.toFixed(4)}.`,
      body.top_k ? `Only the best ${body.top_k} are explained and shown.` : "",
    ]
      .filter(Boolean)
      .join(" "),
  );
}

function start() {
  keepKeys();
  useKey(apiKey);
  byId("api-key").addEventListener("change", lookAtState);
  showRecent();
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    reported(scoreAll);
  });
  byId("sample").addEventListener("click", () => reported(sample));
  byId("show-history").addEventListener("click", () => reported(showHistory));
  shortcuts({ score: () => reported(scoreAll), sample: () => reported(sample) });
  new Live({
    slo: () => page.state?.slo_s ?? 0.03,
    onChange: ({ degraded }) => {
      page.degraded = degraded;
      if (page.state) showState();
    },
  });
  document.addEventListener("visibilitychange", lookAtState);
  setInterval(lookAtState, STATE_EVERY_MS);
  lookAtState();
}

start();
