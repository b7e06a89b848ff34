// The page: state of the service, the form, and what its answers show.

import { Refused, ask } from "./api.js";
import { showAnswers } from "./answer.js";
import { showBundle } from "./bundle.js";
import { byId, el, fill } from "./dom.js";
import { Mistake, adminKey, keepKey, mark, remember, requests, showFeatures, showRecent, userId } from "./form.js";
import { shortcuts } from "./keys.js";
import { Live } from "./live.js";
import { showTimeline } from "./timeline.js";

const STATE_EVERY_MS = 4000,
  DEADLINE_MS = 2000;
const page = { state: null, manifest: null, live: null, catalogue: new Map(), shownBundle: "", degraded: 0 };

async function lookAtState() {
  if (document.hidden) return;
  try {
    page.state = await ask("/console/state");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    banner("bad", `${error.status ? error.message : "The service does not answer"}; asking again every few seconds.`);
    return;
  }
  showState();
  await showBundles();
}

function showState() {
  const { ready, reason, bundles, open_circuits: open } = page.state;
  const names = Object.entries(bundles)
    .map(([role, { version, net, runtime }]) => `${role} ${version} (${net}, ${runtime})`)
    .join("; ");
  if (!ready) banner("bad", `Not ready: ${reason}.`);
  else if (open)
    banner(
      "warn",
      `Degraded: the store does not answer (${open} server${open === 1 ? "" : "s"} left alone), so users are scored without their history. Serving ${names}.`,
    );
  else if (page.degraded > 0)
    banner(
      "warn",
      `Degraded: some of the last answers were made without history or without the net. Serving ${names}.`,
    );
  else banner("good", `Ready: ${names}.`);
}

function banner(kind, text) {
  byId("state").className = `state ${kind}`;
  if (byId("state-text").textContent !== text) byId("state-text").textContent = text;
}

/** The canary's choices, and the bundle card when what serves has changed. */
async function showBundles() {
  const { bundles, limits, admin_key: keyed } = page.state,
    both = Boolean(bundles.canary);
  byId("key-field").hidden = !keyed;
  byId("count").max = limits.items;
  byId("explain").disabled = limits.explain_candidates === 0;
  for (const value of ["canary", "both"])
    document.querySelector(`input[name="bundle"][value="${value}"]`).disabled = !both;
  if (!both && document.querySelector('input[name="bundle"]:checked').disabled)
    document.querySelector('input[name="bundle"][value=""]').checked = true;
  byId("bundles-note").textContent = both
    ? `The canary (${bundles.canary.version}) serves ${page.state.canary_percent} % of users.`
    : "There is no canary to compare with.";
  const shown = Object.entries(bundles)
    .map(([role, { version }]) => `${role} ${version}`)
    .join();
  if (shown === page.shownBundle || !bundles.stable) return;
  page.shownBundle = shown;
  const choose =
    (role) =>
    async ({ currentTarget }) => {
      for (const other of byId("bundle-roles").children)
        other.setAttribute("aria-pressed", String(other === currentTarget));
      await reported(() => showBundle(role, bundles[role]));
    };
  fill(
    byId("bundle-roles"),
    Object.keys(bundles).map((role) =>
      el(
        "button",
        { type: "button", class: "quiet", "aria-pressed": String(role === "stable"), onclick: choose(role) },
        `${role} ${bundles[role].version}`,
      ),
    ),
  );
  await reported(async () => {
    page.manifest = await showBundle("stable", bundles.stable);
    showFeatures(page.manifest.schema);
  });
}

const keys = () => page.manifest?.schema.keys ?? { item: "item_id", user: "user_id" };
const limits = () =>
  page.state?.limits ?? { explain_candidates: 0, items: 200, deadline_ms: 200, max_deadline_ms: 10_000 };

async function sample() {
  const count = Math.min(Math.max(1, Number(byId("count").value) || 12), limits().items);
  const { items, catalogue } = await ask(`/console/items?limit=${count}`);
  for (const item of items) page.catalogue.set(String(item[keys().item]), category(item));
  byId("candidates").value = items.map((item) => item[keys().item]).join(" ");
  mark(null);
  said(`${items.length} of ${catalogue.toLocaleString()} items of the catalogue.`);
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

async function scoreAll() {
  const asked = requests({ itemKey: keys().item, limits: limits() });
  mark(null);
  said("Scoring…");
  remember(asked[0].body.user_id);
  byId("submit").disabled = true;
  try {
    const answers = await Promise.all(
      asked.map(async ({ role, body }) => ({ role, answer: await scoreExplained(body) })),
    );
    if (byId("answer-state").textContent === "Scoring…") said("");
    show(answers, asked[0].body);
  } finally {
    byId("submit").disabled = false;
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
    });
  };
  fill(byId("answer"), showAnswers(answers, { catalogue: page.catalogue, onPick }));
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

const said = (text) => {
  byId("answer-state").className = "answer-state";
  byId("answer-state").textContent = text;
};

/** Run `work`; what the service or the form refuses is told where answers are. */
async function reported(work) {
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

function start() {
  keepKey();
  showRecent();
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    reported(scoreAll);
  });
  byId("sample").addEventListener("click", () => reported(sample));
  byId("show-history").addEventListener("click", () => reported(showHistory));
  shortcuts({ score: () => reported(scoreAll), sample: () => reported(sample) });
  page.live = new Live({
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
