/* What is still to come has a skeleton in its place, in its shape (app.css). A region that waits is aria-busy; its skeleton goes when the
   content is there, and when that cannot come, a sentence stands in its place. Figures and graphs carry theirs in the page, and the scripts
   that draw them say when it ends. A region that htmx fills (data-loading="<id of a template>") gets that one when it is asked something
   (data-asks) and has no figures (data-figures) yet; figures that are there stay, dimmed, so that nothing jumps. */
(function () {
  "use strict";
  /* Answers that come at once flash nothing. */
  var PATIENCE_MS = 150;
  var REGIONS = "[data-loading], .run-section", DRAWN = ["[data-chart]", "[data-graph]"];
  var timers = new Map(), able = {};

  function own(region, selector) { return Array.from(region.children).filter(function (child) { return child.matches(selector); }); }

  function busy(region) { region.setAttribute("aria-busy", "true"); }

  function calm(region) {
    clearTimeout(timers.get(region));
    timers.delete(region);
    region.classList.remove("is-stale", "is-waiting", "is-failed");
    region.removeAttribute("aria-busy");
    own(region, ".load-failed").forEach(function (text) { text.remove(); });
  }

  /* The content is there. */
  function done(region) {
    calm(region);
    own(region, ".skeleton").forEach(function (skeleton) { skeleton.remove(); });
  }

  /* It cannot come: figures of the question before stay dimmed below the sentence, a skeleton goes. */
  function failed(region, words) {
    var text = document.createElement("p");
    if (region.matches(".is-failed")) { return; }
    calm(region);
    region.classList.add("is-failed");
    if (region.querySelector("[data-figures]")) { region.classList.add("is-stale"); }
    text.className = "load-failed";
    if (!region.matches(DRAWN.join())) { text.setAttribute("role", "alert"); }
    text.textContent = words;
    region.prepend(text);
  }

  function show(region) {
    var template = document.getElementById(region.dataset.loading || "");
    if (!("asks" in region.dataset) || region.querySelector("[data-figures]") || !template) { region.classList.add("is-stale"); return; }
    /* What is there now keeps its height while it is away. The skeleton has it: a style of the region would be copied by htmx as an attribute,
       which the page's policy refuses. */
    var inside = getComputedStyle(region);
    var height = region.clientHeight - parseFloat(inside.paddingTop) - parseFloat(inside.paddingBottom);
    region.classList.add("is-waiting");
    if (!own(region, ".skeleton").length) { region.prepend(template.content.cloneNode(true)); }
    own(region, ".skeleton").forEach(function (skeleton) { skeleton.style.minHeight = height + "px"; });
  }

  function wait(region) {
    own(region, ".load-failed").forEach(function (text) { text.remove(); });
    region.classList.remove("is-failed");
    busy(region);
    if (!timers.has(region)) { timers.set(region, setTimeout(function () { show(region); }, PATIENCE_MS)); }
  }

  window.lcSkeleton = {
    busy: busy, done: done, failed: failed, wait: wait,
    /* A script that draws what selector names says so, and whether it has what it draws with. */
    draws: function (selector, ready) { able[selector] = ready; }
  };

  function begin(root) {
    root.querySelectorAll(":not(.is-failed) > .skeleton").forEach(function (skeleton) { busy(skeleton.parentElement); });
  }

  /* All scripts have come that will: what none of them can draw stays undrawn. */
  function check(root) {
    DRAWN.forEach(function (selector) {
      if (able[selector] && able[selector]()) { return; }
      root.querySelectorAll(selector + ":not(.is-failed)").forEach(function (element) { failed(element, window.lcText("draw-failed")); });
    });
  }

  begin(document);
  document.querySelectorAll("[data-loading][data-asks][hx-trigger^=load]").forEach(function (region) { busy(region); show(region); });
  window.addEventListener("load", function () { check(document); });
  document.addEventListener("htmx:load", function (event) {
    if (document.readyState !== "complete") { return; }
    begin(event.detail.elt);
    check(event.detail.elt);
  });
  /* A page that comes back out of the browser's memory waits for nothing. */
  window.addEventListener("pageshow", function (event) {
    if (event.persisted) { document.querySelectorAll(".is-waiting, .is-stale").forEach(done); }
  });

  /* ---- what htmx asks for ---- */
  function polls(event) { return /^every/.test(event.detail.elt.getAttribute("hx-trigger") || ""); }

  /* The regions of a request: what it fills; of a polled one what waits for its end (data-waits-for="<what it fills>"). */
  function regionsOf(event) {
    var target = event.detail.target;
    if (!target || !target.matches) { return []; }
    if (!polls(event)) { return target.matches(REGIONS) ? [target] : []; }
    return Array.from(document.querySelectorAll("[data-waits-for]")).filter(function (region) { return target.matches(region.dataset.waitsFor); });
  }

  document.addEventListener("htmx:beforeRequest", function (event) { if (!polls(event)) { regionsOf(event).forEach(wait); } });
  document.addEventListener("htmx:afterRequest", function (event) {
    if (!event.detail.successful) { return; }
    if (!polls(event)) { regionsOf(event).forEach(done); return; }
    /* The server answers again: what was to come is still to come. */
    regionsOf(event).filter(function (region) { return region.matches(".is-failed"); }).forEach(function (region) {
      calm(region);
      if (own(region, ".skeleton").length) { busy(region); }
    });
  });
  ["htmx:responseError", "htmx:sendError", "htmx:timeout"].forEach(function (name) {
    document.addEventListener(name, function (event) {
      regionsOf(event).forEach(function (region) {
        var old = region.querySelector("[data-figures]");
        failed(region, window.lcText(polls(event) ? "poll-failed" : old ? "load-failed-old" : "load-failed"));
      });
    });
  });
})();
