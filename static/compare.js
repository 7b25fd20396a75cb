/* The comparison page: one selected part, the same on every side: in the layer tables, the graphs and the rooflines (?at=). Without it
   the names in the layer tables are links that select. What belongs together is told by the server: data-at and data-role of rows, match
   and holds of nodes (llmcompare/runs/counterparts.py), and #compare-links of points. */
(function () {
  "use strict";
  var points = {}, current = null;

  function address() { return new URLSearchParams(location.search); }

  function readable(params) { return params.toString().replace(/%2C/g, ",").replace(/%3A/g, ":").replace(/%2A/g, "*"); }

  function readLinks() {
    var source = document.getElementById("compare-links");
    points = source ? JSON.parse(source.textContent).points : {};
  }

  function rows() { return Array.from(document.querySelectorAll("tr[data-at]")); }

  function mark() {
    var role = current !== null && current.indexOf("role:") === 0;
    var hit = rows().filter(function (row) {
      var found = current !== null && (row.dataset.at === current || (role && row.dataset.role === current));
      row.classList.toggle("is-selected", found);
      return found;
    });
    var keys = current === null ? [] : [current];
    /* Where a side has nothing of that name, what has the same role there: q_proj of one model, c_attn of the other. */
    var kin = role || !hit.length ? null : hit[0].dataset.role;
    var groups = pointsOf(role ? [] : keys, role ? current : kin);
    var told = document.querySelector("[data-selected]");
    if (told) {
      var named = hit.find(function (row) { return row.dataset.at === current; });
      told.hidden = current === null;
      told.querySelector("[data-selected-title]").textContent = named ? named.querySelector("[data-select]").textContent : current || "";
    }
    document.dispatchEvent(new CustomEvent("lc:at", { detail: { at: current, paths: [], groups: groups, keys: keys, kin: kin } }));
  }

  /* The points of each run that stand for one of the keys; of a run without any, those of the role. */
  function pointsOf(keys, role) {
    var roles = {}, sides = {};
    rows().forEach(function (row) { roles[row.dataset.at] = row.dataset.role; });
    Object.keys(points).forEach(function (point) { (sides[point.split("|")[0]] = sides[point.split("|")[0]] || []).push(point); });
    return [].concat.apply([], Object.keys(sides).map(function (side) {
      var own = sides[side].filter(function (point) { return points[point].some(function (key) { return keys.indexOf(key) >= 0; }); });
      return own.length || role === null ? own : sides[side].filter(function (point) { return points[point].some(function (key) { return key === role || roles[key] === role; }); });
    }));
  }

  function choose(at) {
    current = at === "" || at === current ? null : at;
    var params = address();
    if (current === null) { params.delete("at"); } else { params.set("at", current); }
    history.replaceState(history.state, "", location.pathname + "?" + readable(params) + location.hash);
    mark();
  }

  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[data-select]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) { return; }
    event.preventDefault();
    choose(link.dataset.select);
  });
  document.addEventListener("lc:module", function (event) { if (event.detail.match && event.detail.match !== current) { choose(event.detail.match); } });
  document.addEventListener("lc:select", function (event) {
    var keys = points[event.detail.at];
    if (keys && keys.length && keys[0] !== current) { choose(keys[0]); }
  });

  /* Links and forms of the page were written before something was selected: they take along what is. */
  function carry(href) {
    var target = new URL(href, location.href);
    if (target.pathname !== location.pathname) { return href; }
    if (current === null) { target.searchParams.delete("at"); } else { target.searchParams.set("at", current); }
    return target.pathname + "?" + readable(target.searchParams) + target.hash;
  }
  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[href^='?']");
    if (link && !link.dataset.select) { link.setAttribute("href", carry(link.getAttribute("href"))); }
  }, true);
  document.addEventListener("submit", function (event) {
    var form = event.target, field = form.querySelector("input[name=at]");
    if (form.method !== "get") { return; }
    if (current === null) { if (field) { field.remove(); } return; }
    if (!field) { field = document.createElement("input"); field.type = "hidden"; field.name = "at"; form.append(field); }
    field.value = current;
  });
  document.addEventListener("htmx:configRequest", function (event) {
    if (!event.detail.elt.matches("form")) { event.detail.path = carry(event.detail.path); return; }
    if (current === null) { delete event.detail.parameters.at; } else { event.detail.parameters.at = current; }
  });
  document.addEventListener("htmx:afterSettle", mark);

  document.addEventListener("DOMContentLoaded", function () {
    readLinks();
    current = address().get("at") || null;
    if (current !== null) { mark(); }
  });
})();
