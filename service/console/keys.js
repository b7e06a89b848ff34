// Keyboard shortcuts, the theme button and the list of shortcuts.

import { byId } from "./dom.js";

const SECTIONS = { 1: "score", 2: "live", 3: "bundle" };

export function shortcuts({ score, sample }) {
  const said = () => {
    byId("theme").textContent = `Theme: ${window.ctrTheme.get()}`;
  };
  const theme = () => {
    window.ctrTheme.next();
    said();
  };
  const help = () => byId("keys").showModal();
  said();
  byId("theme").addEventListener("click", theme);
  byId("help").addEventListener("click", help);
  const single = { "/": () => byId("user").focus(), s: sample, t: theme, "?": help };
  document.addEventListener("keydown", (event) => {
    if (byId("keys").open) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      score();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
    const work = single[event.key] ?? (SECTIONS[event.key] && (() => go(SECTIONS[event.key])));
    if (work) {
      event.preventDefault();
      work();
    }
  });
}

const writes = (target) => target.closest("textarea, select, input:not([type=radio], [type=checkbox])") !== null;

function go(section) {
  byId(section).scrollIntoView();
  byId(section).focus({ preventScroll: true });
}
