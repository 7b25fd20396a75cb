/* The run page: what ties figures and tables together. Everything works without it, only less conveniently. */
(function () {
  "use strict";

  function select(selector, value, scroll) {
    var rows = Array.from(document.querySelectorAll("tr[" + selector + "]"));
    var hit = rows.filter(function (row) { return row.getAttribute(selector) === value; })[0];
    rows.forEach(function (row) { row.classList.toggle("is-selected", row === hit); });
    if (!hit || !scroll) { return; }
    /* Only the table's own box moves, not the page under the reader's eyes. */
    var box = hit.closest(".run-scroll");
    if (box) { box.scrollTop += hit.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 2; }
  }

  document.addEventListener("lc:select", function (event) { select("data-key", event.detail.key, true); });
  document.addEventListener("lc:module", function (event) { select("data-path", event.detail.path, true); });

  /* One explanation open at a time; Escape closes it. */
  document.addEventListener("toggle", function (event) {
    if (!event.target.matches || !event.target.matches("details.run-pop") || !event.target.open) { return; }
    document.querySelectorAll("details.run-pop[open]").forEach(function (other) { if (other !== event.target) { other.open = false; } });
  }, true);
  document.addEventListener("keydown", function (event) {
    if (event.key !== "Escape") { return; }
    document.querySelectorAll("details.run-pop[open]").forEach(function (details) {
      details.open = false;
      details.querySelector("summary").focus();
    });
  });
  document.addEventListener("click", function (event) {
    document.querySelectorAll("details.run-pop[open]").forEach(function (details) { if (!details.contains(event.target)) { details.open = false; } });
  });
})();
