// Answers: ranked candidates with bars, two bundles side by side, and the explanation below.

import { el, figure } from "./dom.js";
import { heatMap } from "./heat.js";
import { bar, why } from "./why.js";

const PHASES = ["parse", "store", "encode", "queue", "compute", "explain"];
const DEGRADED = {
  history: "Degraded: the store did not answer in time, so the history counted as empty.",
  prior:
    "Degraded: there was no room or time for the net. These are the items' click rates in training, whoever looks.",
};

/** Everything about the answers ([{ role, answer }]). `onPick(at)` is told which candidate of the first is looked at. */
export function showAnswers(answers, { catalogue, onPick }) {
  const best = order(answers[0].answer.scores),
    state = { picked: best[0] };
  const details = el("div", { class: "details" });
  const pick = (at) => {
    state.picked = at;
    for (const button of ranking.querySelectorAll("button[data-at]"))
      button.setAttribute("aria-pressed", String(Number(button.dataset.at) === at));
    details
      .querySelectorAll(".why")
      .forEach((old, number) =>
        old.replaceWith(
          why(
            explained[number].answer,
            matching(explained[number].answer, answers[0].answer, at),
            explained[number].role,
          ),
        ),
      );
    onPick(at);
  };
  const ranking = el(
    "div",
    { class: "card" },
    el("h3", {}, "Ranking"),
    summaries(answers),
    rankingTable(answers, { best, catalogue, pick }),
  );
  const explained = answers.filter(({ answer }) => answer.explanation);
  details.append(...explained.map((one) => explanation(one, answers, best, pick)));
  const shown = el(
    "div",
    { class: "answers" },
    ...answers.map(({ answer }) => degradedNote(answer)).filter(Boolean),
    ranking,
    details,
  );
  pick(best[0]);
  return shown;
}

const order = (scores) => scores.map((_, at) => at).sort((a, b) => scores[a].rank - scores[b].rank);

/** Where candidate `at` of `first` is in `other`: the same place, or with top_k wherever its item is. */
function matching(other, first, at) {
  if (other.scores[at]?.item_id === first.scores[at].item_id) return at;
  return Math.max(
    0,
    other.scores.findIndex(({ item_id }) => item_id === first.scores[at].item_id),
  );
}

function degradedNote({ degraded, bundle_version: version }) {
  return degraded === "none"
    ? null
    : el(
        "p",
        { class: `state ${degraded === "prior" ? "bad" : "warn"} inline` },
        el("span", { class: "lamp", "aria-hidden": "true" }),
        `${DEGRADED[degraded] ?? degraded} (${version})`,
      );
}

function summaries(answers) {
  return el(
    "div",
    { class: "summaries" },
    answers.map(({ role, answer }) =>
      el(
        "div",
        {},
        el(
          "p",
          {},
          role ? el("span", { class: `role ${role}` }, role) : null,
          el("b", {}, answer.bundle_version),
          el(
            "span",
            { class: "note" },
            ` user ${answer.user_status}, ${answer.history_len} behavior${answer.history_len === 1 ? "" : "s"}, ${figure(answer.timings_ms.total, 3)} ms, request `,
            el("span", { class: "mono wrap" }, answer.request_id),
          ),
        ),
        phases(answer.timings_ms),
      ),
    ),
  );
}

function phases(ms) {
  const known = PHASES.filter((name) => name in ms),
    sum = known.reduce((all, name) => all + ms[name], 0) || 1;
  return el(
    "div",
    { class: "phases" },
    el(
      "div",
      { class: "strip", "aria-hidden": "true" },
      known.map((name) => el("span", { class: `phase-${name}`, vars: { "--part": `${(ms[name] / sum) * 100}%` } })),
    ),
    el(
      "p",
      { class: "note" },
      known.map((name) => el("span", { class: `phase-name phase-${name}` }, `${name} ${figure(ms[name], 2)}`)),
      " ms",
    ),
  );
}

function rankingTable(answers, { best, catalogue, pick }) {
  const [{ answer: first }, second] = answers;
  const highest = Math.max(...answers.flatMap(({ answer }) => answer.scores.map(({ pctr }) => pctr)), 1e-9);
  const score = ({ pctr }, hue) =>
    el("td", { class: "score" }, el("span", { class: "value" }, pctr.toFixed(4)), bar(pctr / highest, hue));
  const rows = best.map((at) => {
    const { item_id, rank, status } = first.scores[at],
      other = second ? second.answer.scores[matching(second.answer, first, at)] : null;
    const found = catalogue.get(String(item_id));
    const button = el(
      "button",
      { type: "button", class: "item", "data-at": at, "aria-pressed": "false", onclick: () => pick(at) },
      item_id,
    );
    return el(
      "tr",
      {},
      el("td", { class: "rank" }, rank),
      el("th", { scope: "row" }, button, found ? el("span", { class: "note category" }, found) : null),
      score(first.scores[at], "--one"),
      other ? score(other, "--two") : null,
      other ? el("td", { class: "rank" }, other.rank, moved(rank - other.rank)) : null,
      other ? el("td", { class: "number" }, signed(other.pctr - first.scores[at].pctr)) : effect(first, at),
      el("td", {}, el("span", { class: `status ${status}` }, status.replace("_", " "))),
    );
  });
  const explained = Boolean(first.explanation);
  const head = second
    ? ["rank", "item", "stable pCTR", "canary pCTR", "canary rank", "difference", "status"]
    : ["rank", "item", "pCTR", ...(explained ? ["history adds"] : []), "status"];
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Ranked candidates" },
    el(
      "table",
      { class: "ranking" },
      el("caption", { class: "hidden" }, "Candidates by rank"),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          head.map((name) => el("th", { scope: "col" }, name)),
        ),
      ),
      el("tbody", {}, rows),
    ),
  );
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;
const moved = (by) => (by ? el("span", { class: "note" }, by > 0 ? ` ▲${by}` : ` ▼${-by}`) : null);

function effect(answer, at) {
  const found = answer.explanation?.candidates[at];
  return found
    ? el(
        "td",
        { class: "number" },
        `${found.history_effect < 0 ? "−" : "+"}${figure(Math.abs(found.history_effect), 2)}`,
      )
    : null;
}

function explanation({ role, answer }, answers, best, pick) {
  const { behaviors, candidates } = answer.explanation,
    rows = order(answer.scores);
  const kinds = {};
  for (const name of ["attention", "update"])
    if (candidates[0]?.[name]?.length) kinds[name] = rows.map((at) => candidates[at][name]);
  const title = answers.length > 1 ? `Heat map, ${role} (${answer.bundle_version})` : "Heat map";
  const toFirst = (row) => pick(matching(answers[0].answer, answer, rows[row]));
  const map = Object.keys(kinds).length
    ? heatMap({ title, kinds, candidates: rows.map((at) => candidates[at]), behaviors, onPick: toFirst })
    : el(
        "p",
        { class: "card note" },
        behaviors.length ? "This net has no attention to show." : "There is no history to look at.",
      );
  return el("div", { class: "explained" }, why(answer, matching(answer, answers[0].answer, best[0]), role), map);
}
