/* Draws the layer graph (data-graph="<id of a json_script>") with cytoscape and dagre. The server decides what is visible and writes
   every text; here nodes are placed, painted and selected. Opening a module is an ordinary address, so a view can be shared. */
(function () {
  "use strict";
  var SHAPES = { module: "round-rectangle", op: "round-rectangle", input: "round-tag", output: "round-tag", cache: "barrel", weight: "cut-rectangle" };
  /* The smallest scale at which the 14 px texts are read without effort; on a phone, where a block has to be seen too, with some. */
  var READABLE = window.innerWidth < 576 ? 0.6 : 0.8;
  var drawn = [];

  function css(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function channels(colour) {
    var hex = colour.replace("#", "");
    return [0, 2, 4].map(function (i) { return parseInt(hex.slice(i, i + 2), 16); });
  }

  function mix(low, high, share) {
    var from = channels(low), to = channels(high);
    return "rgb(" + from.map(function (c, i) { return Math.round(c + (to[i] - c) * share); }).join(",") + ")";
  }

  function bytesWidth(bytes, most) {
    if (!bytes || !most) { return 1.2; }
    return 1.2 + 5 * Math.pow(bytes / most, 0.35);
  }

  function elements(graph) {
    var most = Math.max.apply(null, graph.edges.map(function (e) { return e.kind === "repeat" ? 0 : e.bytes || 0; }).concat([0]));
    var top = Math.max.apply(null, graph.nodes.filter(function (n) { return !n.open; }).map(function (n) { return n.share || 0; }).concat([0]));
    var nodes = graph.nodes.map(function (n) {
      var heat = n.share && top ? Math.sqrt(n.share / top) : 0;
      var lines = n.sub && !n.open ? n.label + (n.expandable ? "  ▸" : "") + "\n" + n.sub : n.label + (n.expandable ? (n.open ? "  ▾" : "  ▸") : "");
      var longest = Math.max.apply(null, lines.split("\n").map(function (l) { return l.length; }));
      return {
        group: "nodes", selectable: true, grabbable: !n.open,
        data: {
          id: n.id, parent: n.parent === null ? undefined : n.parent, node: n, text: lines, heat: heat,
          shape: SHAPES[n.kind] || "round-rectangle",
          w: Math.max(n.kind === "op" ? 56 : 84, longest * 7.4 + 24) * (1 + 0.3 * heat), h: (n.sub && !n.open ? 44 : 30) * (1 + 0.4 * heat)
        },
        classes: [n.open ? "open" : "leaf", "kind-" + n.kind, "bound-" + (n.bound || "none")].join(" ")
      };
    });
    var edges = graph.edges.filter(function (e) { return e.kind !== "repeat"; }).map(function (e, i) {
      return { group: "edges", data: { id: "e" + i, source: e.source, target: e.target, text: e.label, w: bytesWidth(e.bytes, most) }, classes: "edge-" + e.kind };
    });
    return nodes.concat(edges);
  }

  function style() {
    var low = css("--heat-low"), high = css("--heat-high"), text = css("--graph-text"), edge = css("--graph-edge"), back = css("--card") || css("--bs-body-bg");
    var rules = [
      { selector: "node", style: { label: "data(text)", "text-wrap": "wrap", "font-size": 14, color: text, "text-valign": "center", "text-halign": "center", "line-height": 1.25, shape: "data(shape)", width: "data(w)", height: "data(h)", "border-width": 1.5, "border-color": edge, "background-color": function (n) { return mix(low, high, n.data("heat")); } } },
      { selector: "node.open", style: { shape: "round-rectangle", "background-color": css("--graph-group"), "background-opacity": 0.7, "border-width": 1, "border-color": css("--bs-border-color"), "text-valign": "top", "text-halign": "center", "text-margin-y": -3, "font-weight": 600, padding: 12, "text-background-color": back, "text-background-opacity": 0.85, "text-background-padding": 2, "text-background-shape": "round-rectangle" } },
      { selector: "node.kind-op", style: { "corner-radius": 22 } },
      { selector: "node.kind-input, node.kind-output", style: { "background-color": back, "border-style": "solid" } },
      { selector: "node.kind-cache", style: { "background-color": back, "border-color": css("--tone-network"), "border-style": "dashed" } },
      { selector: "edge", style: { width: "data(w)", "line-color": edge, "target-arrow-color": edge, "target-arrow-shape": "triangle", "arrow-scale": 0.8, "curve-style": "bezier", opacity: 0.85 } },
      { selector: "edge.edge-residual", style: { "line-color": css("--tone-part-4"), "target-arrow-color": css("--tone-part-4"), "curve-style": "unbundled-bezier", "control-point-distances": 70, "control-point-weights": 0.5 } },
      { selector: "edge.edge-cache", style: { "line-color": css("--tone-network"), "target-arrow-color": css("--tone-network"), "line-style": "dashed" } },
      { selector: "edge:selected, edge.near", style: { label: "data(text)", "font-size": 11, color: text, "text-background-color": back, "text-background-opacity": 0.9, "text-background-padding": 3, opacity: 1 } },
      { selector: "node:selected", style: { "border-width": 3.5, "border-color": text } },
      { selector: "node.found", style: { "border-width": 3.5, "border-color": css("--tone-part-4") } },
      { selector: ".dim", style: { opacity: 0.35 } }
    ];
    ["compute", "memory", "overhead", "network"].forEach(function (bound) {
      rules.splice(1, 0, { selector: "node.leaf.bound-" + bound, style: { "border-color": css("--tone-" + bound), "border-width": 2 } });
    });
    return rules;
  }

  function layout() {
    return { name: "dagre", rankDir: "TB", nodeSep: 24, rankSep: 26, edgeSep: 12, animate: false, fit: false, padding: 16 };
  }

  /* A residual edge skips what lies between its ends: bow it to the side where it has to go round less. */
  function bowResiduals(cy) {
    cy.edges(".edge-residual").forEach(function (edge) {
      var from = edge.source().position(), to = edge.target().position(), middle = (from.x + to.x) / 2;
      var left = middle, right = middle;
      cy.nodes(".leaf").forEach(function (node) {
        var box = node.boundingBox({ includeLabels: false });
        if (node.same(edge.source()) || node.same(edge.target()) || box.y2 < Math.min(from.y, to.y) || box.y1 > Math.max(from.y, to.y)) { return; }
        /* Only what is near enough to be in the way; a far branch is passed on the inside. */
        if (box.x1 < middle + 60 && box.x2 > middle - 60) {
          left = Math.min(left, box.x1);
          right = Math.max(right, box.x2);
        }
      });
      var goLeft = middle - left <= right - middle;
      var away = (goLeft ? middle - left : right - middle) + 22;
      edge.style("control-point-distances", Math.min(2 * away, 500) * (goLeft ? 1 : -1));
    });
  }

  /* The whole graph if its text stays readable that way; else its top at a readable size, and one scrolls by dragging. */
  function settle(cy) {
    nameGroups(cy);
    var box = cy.elements().boundingBox(), holder = cy.container();
    var scale = Math.min(1, Math.max(READABLE, (holder.clientWidth - 36) / box.w));
    if (window.innerWidth >= 576) { holder.style.height = Math.round(Math.min(Math.max(box.h * READABLE + 40, 320), 1500)) + "px"; }
    cy.resize();
    cy.fit(undefined, 18);
    if (cy.zoom() > 1) { cy.zoom(1); cy.center(); }
    if (cy.zoom() < READABLE - 0.02) {
      scale = Math.min(scale, READABLE);
      cy.zoom(scale);
      /* What is too wide begins at its left end: there the residual edges are. */
      cy.pan({ x: scale * box.w > cy.width() ? 12 - scale * box.x1 : cy.width() / 2 - scale * (box.x1 + box.w / 2), y: 18 - scale * box.y1 });
    }
  }

  /* Names of opened modules stand at the right end of their frame: edges come in at the middle, residual ones run on the left. */
  function nameGroups(cy) {
    cy.nodes(".open").forEach(function (node) {
      var wide = node.outerWidth(), text = node.data("text").length * 7.6;
      node.style("text-margin-x", Math.max(0, (wide - text) / 2 - 8));
    });
  }

  function line(list, name, text) {
    var row = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = text;
    row.append(dt, dd);
    list.append(row);
  }

  function showCard(wrap, node) {
    var card = wrap.querySelector("[data-graph-card]");
    card.replaceChildren();
    if (!node) { card.hidden = true; return; }
    var close = document.createElement("button"), title = document.createElement("h3"), list = document.createElement("dl");
    close.type = "button";
    close.className = "btn-close";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", function () { card.hidden = true; });
    title.textContent = node.label;
    node.details.forEach(function (row) { line(list, row[0], row[1]); });
    card.append(close, title, list);
    if (node.expandable) {
      var link = follow(document.createElement("a"), node.toggle);
      link.className = "btn btn-sm btn-outline-secondary";
      link.textContent = node.open ? "Close this module" : "Open this module";
      card.append(link);
      if (window.htmx) { window.htmx.process(card); }
    }
    card.hidden = false;
  }

  /* A link that htmx follows like those in the table: it replaces this section, and the address says what is open. */
  function follow(link, address) {
    link.href = address + "#network";
    if (!window.htmx) { return link; }
    var attributes = { "hx-get": address, "hx-target": "#network", "hx-select": "#network", "hx-select-oob": "#roofline-switches", "hx-swap": "outerHTML", "hx-push-url": "true" };
    Object.keys(attributes).forEach(function (name) { link.setAttribute(name, attributes[name]); });
    return link;
  }

  function draw(holder) {
    var source = document.getElementById(holder.dataset.graph);
    if (!source || !window.cytoscape || holder.dataset.drawn) { return; }
    holder.dataset.drawn = "yes";
    var graph = JSON.parse(source.textContent), wrap = holder.closest(".graph-wrap");
    var cy = window.cytoscape({ container: holder, elements: elements(graph), style: style(), layout: layout(), minZoom: 0.1, maxZoom: 2.5, userZoomingEnabled: false, boxSelectionEnabled: false });
    holder.cy = cy;
    bowResiduals(cy);
    settle(cy);
    drawn.push({ cy: cy, holder: holder });
    cy.on("tap", "node", function (event) {
      var node = event.target.data("node");
      showCard(wrap, node);
      cy.edges().removeClass("near");
      event.target.connectedEdges().addClass("near");
      holder.dispatchEvent(new CustomEvent("lc:module", { bubbles: true, detail: { path: node.row } }));
    });
    /* The first tap has opened the card with the link; the second follows it. */
    cy.on("dbltap", "node", function () { var link = wrap.querySelector("[data-graph-card] a.btn"); if (link) { link.click(); } });
    cy.on("tap", function (event) { if (event.target === cy) { showCard(wrap, null); cy.edges().removeClass("near"); } });
    wireZoom(wrap, cy);
    markFound(cy);
  }

  /* The wheel scrolls the page; it zooms with Ctrl or after a click into the graph's own buttons. */
  function wireZoom(wrap, cy) {
    var bar = wrap.querySelector("[data-graph-zoom]");
    bar.hidden = false;
    bar.addEventListener("click", function (event) {
      var action = event.target.dataset.zoom;
      if (action === "fit") { cy.fit(undefined, 18); }
      if (action === "in" || action === "out") {
        cy.zoom({ level: cy.zoom() * (action === "in" ? 1.25 : 0.8), renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
      }
    });
    wrap.addEventListener("wheel", function (event) { cy.userZoomingEnabled(event.ctrlKey || event.metaKey); }, { capture: true, passive: true });
  }

  function markFound(cy) {
    var field = document.getElementById("network-find");
    var needle = field ? field.value.trim().toLowerCase() : "";
    if (!needle) { return; }
    cy.nodes().forEach(function (n) {
      var node = n.data("node");
      if (!node.open && (node.path + " " + node.label + " " + node.details[1][1]).toLowerCase().indexOf(needle) >= 0) { n.addClass("found"); }
    });
  }

  function drawAll() {
    drawn = drawn.filter(function (entry) {
      if (document.contains(entry.holder)) { return true; }
      entry.cy.destroy();
      return false;
    });
    document.querySelectorAll("[data-graph]").forEach(draw);
  }

  document.addEventListener("DOMContentLoaded", drawAll);
  document.addEventListener("htmx:load", function () { if (document.readyState === "complete") { drawAll(); } });
  document.addEventListener("input", function (event) {
    if (event.target.id === "network-find") { drawn.forEach(function (entry) { entry.cy.nodes().removeClass("found"); markFound(entry.cy); }); }
  });
  new MutationObserver(function () { drawn.forEach(function (entry) { entry.cy.style(style()); }); }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
})();
