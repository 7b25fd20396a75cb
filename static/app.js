/* Small conveniences of every page. Each page works without them. */
(function () {
  "use strict";

  /* Words come with the page, in its language (llmcompare/common/jstexts.py): lcText("tick-many", {count: 3}). */
  var texts = null;
  window.lcText = function (key, values) {
    if (texts === null) {
      var source = document.getElementById("texts");
      texts = source ? JSON.parse(source.textContent) : {};
    }
    return (texts[key] || key).replace(/\{(\w+)\}/g, function (whole, name) { return values && name in values ? values[name] : whole; });
  };

  /* theme switch */
  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-theme-switch]");
    if (!button) { return; }
    var root = document.documentElement;
    var next = root.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
    root.setAttribute("data-bs-theme", next);
    try { localStorage.setItem("theme", next); } catch (error) { /* it lasts for this page only */ }
  });

  /* the menu of a narrow screen: all that pages need of Bootstrap's scripts */
  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-menu-switch]");
    if (!button) { return; }
    var open = document.getElementById(button.getAttribute("aria-controls")).classList.toggle("show");
    button.setAttribute("aria-expanded", String(open));
  });

  /* menus made of <details>: one open at a time, closed by a click elsewhere or Escape */
  function closeMenus(except) {
    document.querySelectorAll("details.menu[open]").forEach(function (menu) { if (menu !== except) { menu.open = false; } });
  }
  document.addEventListener("click", function (event) { closeMenus(event.target.closest("details.menu")); });
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") {
      var open = document.querySelector("details.menu[open]");
      if (open) { open.open = false; open.querySelector("summary").focus(); }
      return;
    }
    /* "/" goes to the search field of the page, unless something is being typed */
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && !event.target.isContentEditable) {
      var search = document.querySelector("[data-search], input[type=search]");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    }
  });

  /* a form is sent once; the server's idempotency key guards what this cannot. Going back makes the button usable again. */
  document.addEventListener("submit", function (event) {
    if (event.target.method !== "post" || event.defaultPrevented) { return; }
    var button = event.submitter;
    if (button && !button.name) {
      setTimeout(function () { button.disabled = true; button.setAttribute("aria-busy", "true"); }, 0);
    }
  });
  window.addEventListener("pageshow", function (event) {
    if (event.persisted) {
      document.querySelectorAll("[aria-busy=true]").forEach(function (b) { b.disabled = false; b.removeAttribute("aria-busy"); });
    }
  });

  /* empty fields of a filter form stay out of the address, so that it can be read and shared */
  document.addEventListener("submit", function (event) {
    if (!event.target.matches("form[data-short-address]")) { return; }
    Array.from(event.target.elements).forEach(function (field) { if (field.name && field.value === "") { field.disabled = true; } });
    setTimeout(function () { Array.from(event.target.elements).forEach(function (field) { field.disabled = false; }); }, 0);
  });

  /* copy buttons */
  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-copy]");
    if (!button || !navigator.clipboard) { return; }
    var text = button.dataset.copy === "address" ? location.href : button.dataset.copy;
    navigator.clipboard.writeText(text).then(function () {
      if (button.dataset.copied) { return; }
      var before = button.textContent;
      button.dataset.copied = "yes";
      button.textContent = window.lcText("copied");
      setTimeout(function () { button.textContent = before; delete button.dataset.copied; }, 1500);
    });
  });

  /* the tray of the list of runs: how many are ticked, and which buttons that is enough for; shift-click ticks a range */
  var last = null;
  function countTicks() {
    var tray = document.querySelector("[data-tray]");
    if (!tray) { return; }
    var ticked = document.querySelectorAll("input[data-tick]:checked").length;
    tray.querySelector("[data-tray-count]").textContent = window.lcText(ticked === 0 ? "tick-none" : ticked === 1 ? "tick-one" : ticked > 20 ? "tick-too-many" : "tick-many", { count: ticked });
    tray.querySelectorAll("button[name=action]").forEach(function (button) {
      button.disabled = ticked < Number(button.dataset.least || 1) || ticked > Number(button.dataset.most || Infinity);
    });
    tray.classList.toggle("is-active", ticked > 0);
    var all = document.querySelector("[data-tick-all]");
    if (all) {
      var boxes = document.querySelectorAll("input[data-tick]").length;
      all.checked = ticked > 0 && ticked === boxes;
      all.indeterminate = ticked > 0 && ticked < boxes;
    }
  }
  document.addEventListener("click", function (event) {
    var box = event.target.closest("input[data-tick]");
    if (!box) { return; }
    var boxes = Array.from(document.querySelectorAll("input[data-tick]"));
    if (event.shiftKey && last && boxes.indexOf(last) >= 0) {
      var ends = [boxes.indexOf(last), boxes.indexOf(box)].sort(function (a, b) { return a - b; });
      boxes.slice(ends[0], ends[1] + 1).forEach(function (other) { other.checked = box.checked; });
    }
    last = box;
    countTicks();
  });
  document.addEventListener("change", function (event) {
    if (!event.target.matches("[data-tick-all]")) { return; }
    document.querySelectorAll("input[data-tick]").forEach(function (box) { box.checked = event.target.checked; });
    countTicks();
  });
  document.addEventListener("lc:ticked", countTicks);
  document.addEventListener("DOMContentLoaded", countTicks);
  window.addEventListener("pageshow", countTicks);
  document.addEventListener("htmx:afterSettle", countTicks);

  /* the bell: whoever wants notices gets one, which then asks by itself now and then; the others get an empty answer */
  document.addEventListener("DOMContentLoaded", function () {
    var bell = document.querySelector("[data-bell]");
    if (bell && window.htmx) { window.htmx.ajax("GET", bell.dataset.bell, { target: bell, swap: "outerHTML" }); }
  });

  /* polling answers that changed nothing are empty (204): htmx leaves the page alone. A gone row (404) stops asking. */
  document.addEventListener("htmx:responseError", function (event) {
    var status = event.detail.xhr.status;
    if (status === 403 || status === 401) { location.reload(); }
  });

  /* Leaving a page ends the requests that are under way. htmx would report each as an error in the console; it is none. */
  var underWay = new Set();
  document.addEventListener("htmx:beforeSend", function (event) { underWay.add(event.detail.xhr); });
  document.addEventListener("htmx:afterRequest", function (event) { underWay.delete(event.detail.xhr); });
  window.addEventListener("beforeunload", function () {
    underWay.forEach(function (request) { request.onabort = request.onerror = null; });
  });
})();
