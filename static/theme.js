/* Loaded before anything is drawn, so that the page never flashes in the wrong colours: a choice made here wins over the system's. */
(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function apply() {
    var chosen = null;
    try { chosen = localStorage.getItem("theme"); } catch (error) { /* storage may be forbidden: follow the system */ }
    document.documentElement.setAttribute("data-bs-theme", chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light");
  }
  apply();
  dark.addEventListener("change", apply);
  document.documentElement.classList.add("js");
  /* Where the scripts that end skeletons did not come, the page is read as without any. */
  window.addEventListener("load", function () {
    if (!window.lcSkeleton || !window.lcText) { document.documentElement.classList.remove("js"); }
  });
})();
