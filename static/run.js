/* The run page: parts that fold, one selected thing on the whole page, and links that keep what else the address says.
   Everything can be read without it; it only makes the page shorter and quicker. */
(function () {
  "use strict";
  var NARROW = window.matchMedia("(max-width: 767.98px)");

  function address() { return new URLSearchParams(location.search); }

  function keep(params) {
    var query = params.toString().replace(/%2C/g, ",").replace(/%2F/g, "/").replace(/%2A/g, "*");
    history.replaceState(history.state, "", location.pathname + (query ? "?" + query : "") + location.hash);
  }

  /* ---- parts that fold: ?parts=summary,roofline says which are open. Without it all are, on a narrow screen none but the asked one. ---- */
  function folds() { return Array.from(document.querySelectorAll("details.run-fold")); }

  function openPart(id) {
    var target = id && document.getElementById(id), fold = target && target.closest("details.run-fold");
    if (fold && !fold.open) { fold.open = true; }
    return fold;
  }

  function defaults() { return NARROW.matches ? [] : folds().map(function (fold) { return fold.dataset.part; }); }

  function rememberParts() {
    var open = folds().filter(function (fold) { return fold.open; }).map(function (fold) { return fold.dataset.part; });
    var params = address();
    if (open.join() === defaults().join()) { params.delete("parts"); } else { params.set("parts", open.join() || "-"); }
    keep(params);
  }

  function settleParts() {
    var holder = document.querySelector(".run-parts");
    if (!holder) { return; }
    if (NARROW.matches && holder.dataset.parts === undefined) { folds().forEach(function (fold) { fold.open = false; }); }
    holder.classList.add("is-settled");
    var asked = openPart(decodeURIComponent(location.hash.slice(1)));
    if (asked) { document.getElementById(decodeURIComponent(location.hash.slice(1))).scrollIntoView(); }
    /* Toggle events of what was opened and closed here still come; after them it is the reader who folds. */
    setTimeout(function () { holder.dataset.watch = "yes"; }, 0);
  }

  document.addEventListener("toggle", function (event) {
    if (!event.target.matches || !event.target.matches("details.run-fold")) { return; }
    var holder = event.target.closest(".run-parts");
    if (holder && holder.dataset.watch) { rememberParts(); }
  }, true);
  window.addEventListener("hashchange", function () {
    var id = decodeURIComponent(location.hash.slice(1));
    if (openPart(id)) { document.getElementById(id).scrollIntoView(); }
  });
  /* A link to the part that the address names already changes nothing in it, but the reader wants to go there. */
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[href^='#']");
    if (link) { openPart(decodeURIComponent(link.hash.slice(1))); }
  });
  window.addEventListener("beforeprint", function () {
    folds().forEach(function (fold) { if (!fold.open) { fold.dataset.forPrint = "yes"; fold.open = true; } });
  });
  window.addEventListener("afterprint", function () {
    folds().forEach(function (fold) { if (fold.dataset.forPrint) { fold.open = false; delete fold.dataset.forPrint; } });
  });

  /* ---- one selected thing: ?at=<module or group of operators>, marked in tables, areas, graphs and the roofline ---- */
  var linked = {}, current = null;

  function readLinks() {
    var source = document.getElementById("run-links");
    linked = source ? JSON.parse(source.textContent) : {};
  }

  function reach(at) {
    if (at === null) { return { paths: [], groups: [] }; }
    if (Object.prototype.hasOwnProperty.call(linked, at)) { return { paths: linked[at], groups: [at] }; }
    return { paths: [at], groups: Object.keys(linked).filter(function (group) { return linked[group].indexOf(at) >= 0; }) };
  }

  function mark(scroll) {
    var found = reach(current);
    document.querySelectorAll("[data-path]").forEach(function (element) {
      element.classList.toggle("is-selected", found.paths.indexOf(element.dataset.path) >= 0);
    });
    document.querySelectorAll("tr[data-group]").forEach(function (row) {
      row.classList.toggle("is-selected", found.groups.indexOf(row.dataset.group) >= 0);
    });
    document.dispatchEvent(new CustomEvent("lc:at", { detail: { at: current, paths: found.paths, groups: found.groups } }));
    if (scroll) { scrollBoxes(); }
  }

  /* Only a table's own box moves, never the page under the reader's eyes. */
  function scrollBoxes() {
    document.querySelectorAll(".run-scroll").forEach(function (box) {
      var hit = box.querySelector("tr.is-selected");
      if (hit && box.clientHeight) { box.scrollTop += hit.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 2; }
    });
  }

  function choose(at) {
    current = at === current ? null : at;
    var params = address();
    if (current === null) { params.delete("at"); } else { params.set("at", current || "."); }
    keep(params);
    mark(true);
  }

  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[data-select]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) { return; }
    event.preventDefault();
    choose(link.dataset.select);
  });
  document.addEventListener("lc:select", function (event) { if (typeof event.detail.at === "string") { choose(event.detail.at); } });
  document.addEventListener("lc:module", function (event) { if (event.detail.path !== current) { choose(event.detail.path); } });

  /* ---- links inside a part: each says what it changes against the view that it was written for (data-state). The address may have
     moved on since (something was selected or folded, another part was switched): only the change is applied to it. ---- */
  document.addEventListener("htmx:configRequest", function (event) {
    var part = event.detail.elt.closest("[data-state]");
    if (!part || event.detail.verb !== "get") { return; }
    if (event.detail.elt.matches("form")) {
      address().forEach(function (value, name) { if (name !== "find" && name !== "open") { event.detail.parameters[name] = value; } });
      return;
    }
    var asked = new URL(event.detail.path, location.href), was = new URLSearchParams(part.dataset.state), now = address();
    new Set(Array.from(asked.searchParams.keys()).concat(Array.from(was.keys()))).forEach(function (name) {
      var value = asked.searchParams.get(name);
      if (value === was.get(name)) { return; }
      if (value === null) { now.delete(name); } else { now.set(name, value); }
    });
    event.detail.path = asked.pathname + "?" + now.toString().replace(/%2C/g, ",").replace(/%2F/g, "/").replace(/%2A/g, "*");
  });
  document.addEventListener("htmx:afterSettle", function () { readLinks(); mark(false); });

  /* ---- explanations: one open at a time; Escape closes it ---- */
  function pops() { return Array.from(document.querySelectorAll("details.run-pop[open]")); }

  document.addEventListener("toggle", function (event) {
    if (!event.target.matches || !event.target.matches("details.run-pop") || !event.target.open) { return; }
    pops().forEach(function (other) { if (other !== event.target) { other.open = false; } });
  }, true);
  document.addEventListener("keydown", function (event) {
    if (event.key !== "Escape") { return; }
    pops().forEach(function (details) {
      details.open = false;
      details.querySelector("summary").focus();
    });
  });
  document.addEventListener("click", function (event) {
    var summary = event.target.closest("summary"), pinned = summary && summary.closest("details.run-pop[data-hovered]");
    /* Pointing at it has opened it: the click is to keep it, not to close it. */
    if (pinned) { event.preventDefault(); delete pinned.dataset.hovered; }
    pops().forEach(function (details) { if (!details.contains(event.target)) { details.open = false; } });
  });
  /* With a mouse a definition shows when it is pointed at, and goes when the mouse does. */
  document.addEventListener("mouseover", function (event) {
    var pop = event.target.closest && event.target.closest(".tile-foot details.run-pop, .run-section-head details.run-pop");
    if (!window.matchMedia("(hover: hover)").matches) { return; }
    if (pop && !pop.open && event.target.closest("summary")) { pop.open = true; pop.dataset.hovered = "yes"; }
    pops().forEach(function (other) { if (other !== pop && other.dataset.hovered) { other.open = false; delete other.dataset.hovered; } });
  });

  document.addEventListener("DOMContentLoaded", function () {
    var at = address().get("at");
    readLinks();
    current = at === null ? null : at === "." ? "" : at;
    settleParts();
    if (current !== null) { mark(true); }
  });
})();
