/* The run page: what ties figures and tables together. Everything works without it, only less conveniently. */
(function () {
  "use strict";

  function select(selector, value, scroll) {
    var rows = Array.from(document.querySelectorAll("tr[" + selector + "]"));
    var hit = rows.filter(function (row) { return row.getAttribute(selector) === value; })[0];
    rows.forEach(function (row) { row.classList.toggle("is-selected", row === hit); });
    if (!hit || !scroll) { return Boolean(hit); }
    /* Only the table's own box moves, not the page under the reader's eyes. */
    var box = hit.closest(".run-scroll");
    if (box) { box.scrollTop += hit.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 2; }
    return true;
  }

  document.addEventListener("lc:select", function (event) {
    if (select("data-key", event.detail.key, true)) { return; }
    /* A measured point is a module, not an operator group: its row is in the module table. */
    var label = event.detail.key.split("|")[1], tail = "." + label;
    var path = Array.from(document.querySelectorAll("tr[data-path]"), function (row) { return row.dataset.path; }).filter(function (p) { return p === label || p.endsWith(tail); })[0];
    if (path !== undefined) { select("data-path", path, true); }
  });
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
