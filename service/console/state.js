// What the service says of itself: ready or not, what serves, and what a request may ask.

import { Refused, ask } from "./api.js";
import { showBundle } from "./bundle.js";
import { byId, el, fill } from "./dom.js";
import { showFeatures } from "./form.js";
import { keyWanted, reported, wantsKey } from "./said.js";

/** What the page knows. `degraded` is the rate of degraded answers. */
export const page = { state: null, manifest: null, shownBundle: "", degraded: 0 };

export async function lookAtState() {
  if (document.hidden) return;
  try {
    page.state = await ask("/console/state");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (wantsKey(error)) {
      byId("api-key-field").hidden = false;
      banner("bad", keyWanted(error));
      return;
    }
    banner("bad", `${error.status ? error.message : "The service does not answer"}; asking again every few seconds.`);
    return;
  }
  showState();
  await showBundles();
}

/** The banner. */
export function showState() {
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
  const { bundles, limits, admin_key: keyed, api_key: asked } = page.state,
    both = Boolean(bundles.canary);
  byId("key-field").hidden = !keyed;
  byId("api-key-field").hidden = !asked;
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

/** Names of the schema's columns. */
export const keys = () => page.manifest?.schema.keys ?? { item: "item_id", user: "user_id" };
/** What a request may ask. */
export const limits = () =>
  page.state?.limits ?? { explain_candidates: 0, items: 200, deadline_ms: 200, max_deadline_ms: 10_000 };
