// Before anything is drawn: the theme that was chosen. A classic script, because a module would run after the first paint.
"use strict";
(() => {
  const themes = ["auto", "light", "dark"];
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = "auto";
  const stored = () => {
    try {
      return localStorage.getItem("ctr.theme");
    } catch {
      return null;
    }
  };
  const apply = (theme) => {
    chosen = themes.includes(theme) ? theme : "auto";
    const dark = chosen === "dark" || (chosen === "auto" && system.matches);
    root.dataset.theme = dark ? "dark" : "light";
  };
  apply(stored());
  window.ctrTheme = {
    get: () => chosen,
    next() {
      apply(themes[(themes.indexOf(chosen) + 1) % themes.length]);
      try {
        localStorage.setItem("ctr.theme", chosen);
      } catch {
        /* a browser without storage */
      }
      document.dispatchEvent(new Event("themechange"));
      return chosen;
    },
  };
  system.addEventListener("change", () => {
    apply(chosen);
    document.dispatchEvent(new Event("themechange"));
  });
})();
