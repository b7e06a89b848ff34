// Before anything is drawn: the theme that was chosen. A classic script, because a module would run after the first paint.
"use strict";
(() => {
  const themes = ["auto", "light", "dark"];
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem("ctr.theme");
    } catch {
      return null;
    }
  };
  const apply = (theme) => {
    root.dataset.theme = themes.includes(theme) ? theme : "auto";
  };
  apply(stored());
  window.ctrTheme = {
    get: () => root.dataset.theme,
    next() {
      apply(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
      try {
        localStorage.setItem("ctr.theme", root.dataset.theme);
      } catch {
        /* a browser without storage */
      }
      document.dispatchEvent(new Event("themechange"));
      return root.dataset.theme;
    },
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.dispatchEvent(new Event("themechange")),
  );
})();
