// The bundle card: what the manifest and the training's report say.

import { ask } from "./api.js";
import { chart, release } from "./charts.js";
import { byId, el, figure, fill, table } from "./dom.js";

const METRICS = [
  ["auc", "AUC"],
  ["gauc", "GAUC"],
  ["log_loss", "log loss"],
  ["ne", "NE"],
  ["pcoc", "PCOC"],
  ["ece", "ECE"],
  ["rela_impr", "RelaImpr"],
];
const SPLITS = ["valid", "test", "train"];
const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
const span = (window) => (window?.first ? `${day(window.first)} to ${day(window.last)}` : "–");

/** Show the bundle of `role`; `summary` is what the state says of it. */
export async function showBundle(role, summary) {
  const place = byId("bundle-card");
  const [manifest, report] = await Promise.all([ask(`/bundle?role=${role}`), ask(`/console/report?role=${role}`)]);
  release(place);
  fill(
    place,
    el(
      "div",
      { class: "card-pair" },
      facts(manifest, summary),
      report ? figures(report) : el("p", { class: "card note" }, "This bundle has no report."),
    ),
    report ? plots(report) : null,
    schema(manifest.schema),
  );
  return manifest;
}

function facts(manifest, { runtime, catalogue }) {
  const { window } = manifest.training ?? {};
  const rows = [
    ["name", manifest.name],
    ["version", manifest.version],
    ["net", manifest.net.kind],
    ["runtime", runtime],
    ["trained on", span(window)],
    ["training rows", window?.rows?.toLocaleString() ?? "–"],
    ["calibration", manifest.calibration.kind],
    ["history", `up to ${manifest.schema.max_history} behaviors`],
    ["catalogue", `${catalogue.toLocaleString()} items`],
    ["code version", manifest.code_version || "–"],
  ];
  return el(
    "div",
    { class: "card" },
    el("h3", {}, "Manifest"),
    el(
      "dl",
      { class: "facts" },
      rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
    ),
  );
}

function figures({ splits }) {
  const names = SPLITS.filter((name) => splits[name]);
  const rows = METRICS.filter(([metric]) => names.some((name) => splits[name].metrics[metric])).map(
    ([metric, said]) => [said, ...names.map((name) => estimate(splits[name].metrics[metric]))],
  );
  const counts = [
    ["rows", ...names.map((name) => splits[name].rows.toLocaleString())],
    ["click rate", ...names.map((name) => figure(splits[name].click_rate, 3))],
  ];
  return el(
    "div",
    { class: "card" },
    el("h3", {}, "Figures"),
    el("p", { class: "note" }, "After calibration, with 95 % intervals by a bootstrap over users."),
    table({ caption: "Metrics by split", columns: ["metric", ...names], rows: [...rows, ...counts] }),
  );
}

function estimate(found) {
  if (!found) return "–";
  return el(
    "span",
    {},
    figure(found.value, 4),
    el("small", { class: "note" }, ` ${figure(found.low, 3)} to ${figure(found.high, 3)}`),
  );
}

/** The name of the split that plots show, and its figures. */
const shown = ({ splits }) => SPLITS.map((name) => [name, splits[name]]).find(([, split]) => split);

function plots(report) {
  const [name, split] = shown(report);
  const made = [
    roc(split, name),
    calibration(split, name),
    distribution(split, name),
    curve(report.training),
    ...["by_history_length", "by_activity"].map((slice) => slices(split, slice, name)),
  ];
  const place = el(
    "div",
    { class: "charts" },
    made.filter(Boolean).map(({ card }) => card),
  );
  requestAnimationFrame(() => {
    for (const one of made) if (one?.data) one.card.show(one.data);
  });
  return place;
}

function roc({ roc: found, metrics }, name) {
  const card = chart({
    title: "ROC",
    note: `${name}, AUC ${figure(metrics.auc.value, 4)}: clicks found (up) against other rows taken along (right)`,
    lines: [{ label: "this bundle" }, { label: "chance", dash: [4, 4] }],
    x: { range: [0, 1] },
    format: (value) => figure(value, 2),
  });
  return { card, data: [found.fpr, found.tpr, found.fpr] };
}

function calibration({ calibration_curve: { before, after } }, name) {
  const x = [...new Set([...before, ...after].map(({ pctr }) => pctr))].sort((a, b) => a - b);
  const column = (points) => {
    const by = new Map(points.map(({ pctr, click_rate: rate }) => [pctr, rate]));
    return x.map((one) => by.get(one) ?? undefined);
  };
  const card = chart({
    title: "Calibration",
    note: `${name}: click rate (up) by pCTR (right); on the dashed line what is promised is what comes`,
    lines: [
      { label: "calibrated", points: true },
      { label: "before", points: true },
      { label: "perfect", dash: [4, 4] },
    ],
    x: { range: [0, Math.max(...x) * 1.05] },
    format: (value) => figure(value, 2),
  });
  return { card, data: [x, column(after), column(before), x] };
}

function distribution({ score_distribution: { edges, clicked, not_clicked: others } }, name) {
  const share = (counts) => {
    const all = counts.reduce((sum, one) => sum + one, 0) || 1;
    const parts = counts.map((one) => one / all);
    return [...parts, parts[parts.length - 1]];
  };
  const card = chart({
    title: "Scores",
    note: `${name}: share of rows by pCTR`,
    lines: [
      { label: "clicked", steps: true, area: true },
      { label: "not clicked", steps: true, area: true },
    ],
    x: { range: [0, 1] },
    format: (value) => figure(value, 2),
  });
  return { card, data: [edges, share(clicked), share(others)] };
}

function curve({ evaluations }) {
  if (!evaluations || evaluations.length < 2) return null;
  const card = chart({
    title: "Learning curve",
    note: "validation AUC by epoch",
    lines: [{ label: "AUC", points: true }],
    y: { scale: { range: (_, low, high) => [low - 0.01, high + 0.01] } },
    format: (value) => figure(value, 3),
  });
  return { card, data: [evaluations.map(({ epoch }) => epoch), evaluations.map(({ auc }) => auc)] };
}

function slices(split, slice, name) {
  const said = { by_history_length: "By history length", by_activity: "By the user's rows in training" }[slice];
  const rows = (split[slice] ?? []).map(({ bucket, rows: count, auc, pcoc }) => [
    bucket,
    count.toLocaleString(),
    estimate(auc),
    figure(pcoc?.value, 3),
  ]);
  return rows.length
    ? {
        card: el(
          "div",
          { class: "card" },
          el("h3", {}, said),
          el("p", { class: "note" }, name),
          table({ caption: said, columns: ["bucket", "rows", "AUC", "PCOC"], rows }),
        ),
      }
    : null;
}

function schema(found) {
  const rows = ["user", "context", "item", "behavior"].flatMap((side) =>
    (found[side] ?? []).map((feature) => [
      feature.name ?? feature.column,
      side,
      feature.kind ?? "sparse",
      feature.shares
        ? `shares ${feature.shares}`
        : feature.kind === "dense"
          ? (feature.transform ?? "")
          : `${feature.dtype ?? "int"}, ${feature.dim} wide`,
    ]),
  );
  return el(
    "details",
    { class: "card" },
    el("summary", {}, `Schema: ${rows.length} features`),
    table({ caption: "Features", columns: ["feature", "side", "kind", "how"], rows }),
  );
}
