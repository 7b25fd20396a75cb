/* Draws every layer graph of the page (data-graph="<id of a json_script>") with cytoscape and dagre. The server decides what is visible
   and writes every text; here nodes are placed, painted and selected. Opening a module is an ordinary address, so a view can be shared:
   with data-graph-target="#part" it replaces that part of the page, without it the page. One element, its data, and inside the same
   .graph-wrap [data-graph-card] and [data-graph-zoom] are all that a graph needs (templates/runs/_graph.html). */
(function () {
  "use strict";
  /* The kind of a part has a shape where it is no computation; else the bound has one, as in graphs that are written as DOT. */
  var SHAPES = { input: "round-tag", output: "round-tag", cache: "barrel", weight: "cut-rectangle", group: "round-rectangle" };
  var BOUND_SHAPES = { compute: "rectangle", memory: "round-rectangle", overhead: "hexagon", network: "rhomboid" };
  var BOUNDS = Object.keys(BOUND_SHAPES);
  /* The smallest scale at which the 14 px texts are read without effort; on a phone, where a block has to be seen too, with some. */
  var READABLE = window.innerWidth < 576 ? 0.6 : 0.8;
  var drawn = [], selected = [], selectedKeys = [], selectedKin = null;

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

  /* The area of a line, not its width, grows as fast as the bytes: a cache is often a thousand times an activation. */
  function bytesWidth(bytes, most) {
    return 1.2 + (bytes && most ? 8 * Math.sqrt(bytes / most) : 0);
  }

  function elements(graph) {
    /* Graphs side by side share one scale. */
    var scale = graph.scale || {};
    var most = scale.bytes || Math.max.apply(null, graph.edges.map(function (e) { return e.kind === "repeat" ? 0 : e.bytes || 0; }).concat([0]));
    var top = scale.share || Math.max.apply(null, graph.nodes.filter(function (n) { return !n.open; }).map(function (n) { return n.share || 0; }).concat([0]));
    var nodes = graph.nodes.map(function (n) {
      var heat = n.share && top ? Math.sqrt(n.share / top) : 0;
      var lines = n.sub && !n.open ? n.label + (n.expandable ? "  ▸" : "") + "\n" + n.sub : n.label + (n.expandable ? (n.open ? "  ▾" : "  ▸") : "");
      var longest = Math.max.apply(null, lines.split("\n").map(function (l) { return l.length; }));
      return {
        group: "nodes", selectable: true, grabbable: !n.open,
        data: {
          id: n.id, parent: n.parent === null ? undefined : n.parent, node: n, text: lines, heat: heat,
          shape: SHAPES[n.kind] || BOUND_SHAPES[n.bound] || "round-rectangle",
          w: Math.max(n.kind === "op" ? 56 : 84, longest * 7.4 + (n.bound === "overhead" || n.bound === "network" ? 44 : 24)) * (1 + 0.3 * heat), h: (n.sub && !n.open ? 44 : 30) * (1 + 0.4 * heat)
        },
        classes: [n.open ? "open" : "leaf", "kind-" + n.kind, "bound-" + (BOUNDS.indexOf(n.bound) >= 0 ? n.bound : "none"), graph.paint === "bound" ? "by-bound" : "by-heat"].join(" ")
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
      { selector: "node.leaf.bound-memory", style: { "corner-radius": 22 } },
      { selector: "node.kind-group", style: { "border-style": "double", "border-width": 4 } },
      { selector: "node.kind-input, node.kind-output", style: { "background-color": back, "border-style": "solid" } },
      { selector: "node.kind-cache", style: { "background-color": back, "border-color": css("--tone-network"), "border-style": "dashed" } },
      { selector: "edge", style: { width: "data(w)", "line-color": edge, "target-arrow-color": edge, "target-arrow-shape": "triangle", "arrow-scale": 0.8, "curve-style": "bezier", opacity: 0.85 } },
      { selector: "edge.edge-residual", style: { "line-color": css("--tone-part-4"), "target-arrow-color": css("--tone-part-4"), "curve-style": "unbundled-bezier", "control-point-distances": 70, "control-point-weights": 0.5 } },
      { selector: "edge.edge-cache", style: { "line-color": css("--tone-network"), "target-arrow-color": css("--tone-network"), "line-style": "dashed" } },
      { selector: "edge:selected, edge.near", style: { label: "data(text)", "font-size": 11, color: text, "text-background-color": back, "text-background-opacity": 0.9, "text-background-padding": 3, opacity: 1 } },
      { selector: "node:selected, node.at", style: { "border-width": 4, "border-color": css("--accent") || text } },
      { selector: "node.kin", style: { "border-style": "dashed" } },
      { selector: "node.found", style: { "border-width": 3.5, "border-color": css("--tone-part-4") } },
      { selector: ".dim", style: { opacity: 0.35 } }
    ];
    BOUNDS.forEach(function (bound) {
      rules.splice(1, 0, { selector: "node.leaf.bound-" + bound, style: { "border-color": css("--tone-" + bound), "border-width": 2 } },
        { selector: "node.leaf.by-bound.bound-" + bound, style: { "background-color": css("--tone-" + bound), color: css("--on-tone") } });
    });
    rules.push({ selector: "node.kind-input, node.kind-output, node.kind-cache", style: { color: text } });
    rules.splice(1, 0, { selector: "node.leaf.by-bound.bound-none", style: { "background-color": back } });
    return rules;
  }

  function layout() {
    return { name: "dagre", rankDir: "TB", nodeSep: 24, rankSep: 26, edgeSep: 12, animate: false, fit: false, padding: 16 };
  }

  /* A residual edge skips what lies between its ends: bow it to the side where it has to go round less. */
  function bowResiduals(cy) {
    var residuals = cy.edges(".edge-residual");
    if (!residuals.length) { return; }
    var boxes = cy.nodes(".leaf").map(function (node) { return { id: node.id(), box: node.boundingBox({ includeLabels: false }) }; });
    residuals.forEach(function (edge) {
      var from = edge.source().position(), to = edge.target().position(), middle = (from.x + to.x) / 2;
      var left = middle, right = middle;
      boxes.forEach(function (item) {
        var box = item.box;
        if (item.id === edge.source().id() || item.id === edge.target().id() || box.y2 < Math.min(from.y, to.y) || box.y1 > Math.max(from.y, to.y)) { return; }
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

  function showCard(wrap, node, part) {
    var card = wrap.querySelector("[data-graph-card]");
    card.replaceChildren();
    if (!node) { card.hidden = true; return; }
    var close = document.createElement("button"), title = document.createElement("h3"), list = document.createElement("dl");
    close.type = "button";
    close.className = "btn-close";
    close.setAttribute("aria-label", window.lcText("close"));
    close.addEventListener("click", function () { card.hidden = true; });
    title.textContent = node.label;
    node.details.forEach(function (row) { line(list, row[0], row[1]); });
    card.append(close, title, list);
    if (node.expandable) {
      var link = follow(document.createElement("a"), node.toggle, part);
      link.className = "btn btn-sm btn-outline-secondary";
      link.textContent = window.lcText(node.open ? "module-close" : "module-open");
      card.append(link);
      if (window.htmx) { window.htmx.process(card); }
    }
    card.hidden = false;
  }

  /* A link that htmx follows like those in the table: it replaces this section, and the address says what is open. */
  function follow(link, address, part) {
    link.href = address + (part || "");
    if (!window.htmx || !part) { return link; }
    var attributes = { "hx-get": address, "hx-target": part, "hx-select": part, "hx-swap": "outerHTML", "hx-push-url": "true" };
    Object.keys(attributes).forEach(function (name) { link.setAttribute(name, attributes[name]); });
    return link;
  }

  function draw(holder) {
    var source = document.getElementById(holder.dataset.graph);
    /* What is folded has no size yet: it is drawn when it is opened. */
    if (!source || !window.cytoscape || holder.dataset.drawn || !holder.clientWidth) { return; }
    holder.dataset.drawn = "yes";
    /* It keeps the height of its skeleton, which the server has reckoned (llmcompare/runs/graphsize.py): nothing moves. */
    holder.style.height = holder.offsetHeight + "px";
    window.lcSkeleton.done(holder);
    try { place(holder, source); } catch (error) { window.lcSkeleton.failed(holder, window.lcText("draw-failed")); throw error; }
  }
  window.lcSkeleton.draws("[data-graph]", function () { return Boolean(window.cytoscape); });

  function place(holder, source) {
    var graph = JSON.parse(source.textContent), wrap = holder.closest(".graph-wrap");
    var cy = window.cytoscape({ container: holder, elements: elements(graph), style: style(), layout: layout(), minZoom: 0.1, maxZoom: 2.5, userZoomingEnabled: false, boxSelectionEnabled: false });
    holder.cy = cy;
    bowResiduals(cy);
    settle(cy);
    drawn.push({ cy: cy, holder: holder });
    function visit(found) {
      var node = found.data("node");
      cy.elements(":selected").unselect();
      found.select();
      showCard(wrap, node, holder.dataset.graphTarget);
      cy.edges().removeClass("near");
      found.connectedEdges().addClass("near");
      holder.dispatchEvent(new CustomEvent("lc:module", { bubbles: true, detail: { path: node.row, node: node.path, match: node.match } }));
    }
    cy.on("tap", "node", function (event) { visit(event.target); });
    wireKeys(holder, cy, wrap, visit);
    markSelected(cy);
    /* The first tap has opened the card with the link; the second follows it. */
    cy.on("dbltap", "node", function () { var link = wrap.querySelector("[data-graph-card] a.btn"); if (link) { link.click(); } });
    cy.on("tap", function (event) { if (event.target === cy) { showCard(wrap, null); cy.edges().removeClass("near"); } });
    wireZoom(wrap, cy);
    markFound(cy);
    performance.mark("lc:graph-drawn");
    holder.dispatchEvent(new CustomEvent("lc:graph-drawn", { bubbles: true }));
  }

  /* Arrow keys go from part to part in the order of the model, Enter opens or closes one, Escape puts its card away. */
  function wireKeys(holder, cy, wrap, visit) {
    var at = -1;
    holder.addEventListener("keydown", function (event) {
      var step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key], nodes = cy.nodes();
      if (step && nodes.length) {
        event.preventDefault();
        at = (at + step + nodes.length) % nodes.length;
        visit(nodes[at]);
        cy.center(nodes[at]);
      } else if (event.key === "Enter" || event.key === " ") {
        var link = wrap.querySelector("[data-graph-card] a.btn");
        if (link && at >= 0) { event.preventDefault(); link.click(); }
      } else if (event.key === "Escape") {
        showCard(wrap, null);
      }
    });
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

  /* What is selected elsewhere on the page: its own node, else the closed module that it is in. Graphs of compared runs are of other
     models, so there the server says which nodes are counterparts, and a graph shows what was selected in the other one. */
  function markSelected(cy) {
    cy.nodes().removeClass("at kin");
    function ofRole(role) {
      return cy.nodes().filter(function (n) { var node = n.data("node"); return (!node.open && node.role === role) || (node.holds || []).indexOf(role) >= 0; });
    }
    selectedKeys.forEach(function (key) {
      if (key.indexOf("role:") === 0) { ofRole(key).addClass("at"); return; }
      var own = cy.nodes().filter(function (n) { return n.data("node").match === key; });
      if (own.some(function (n) { return !n.data("node").open; })) { own = own.filter(function (n) { return !n.data("node").open; }); }
      if (!own.length) { own = cy.nodes().filter(function (n) { return (n.data("node").holds || []).indexOf(key) >= 0; }); }
      if (own.length) { own.addClass("at"); } else if (selectedKin) { ofRole(selectedKin).addClass("at kin"); }
    });
    selected.forEach(function (path) {
      for (var name = path, end; ; name = name.slice(0, end)) {
        var found = cy.nodes().filter(function (n) { return n.data("node").path === name; });
        end = name.lastIndexOf(".");
        if (found.length) { found.addClass("at"); return; }
        if (end < 0) { return; }
      }
    });
  }

  /* Only where nothing of it can be seen: a graph that shows its counterpart already stays where it is. */
  function bringIntoView(cy) {
    var at = cy.nodes(".at"), seen = cy.extent();
    var visible = at.some(function (n) { var p = n.position(); return p.x > seen.x1 && p.x < seen.x2 && p.y > seen.y1 && p.y < seen.y2; });
    if (at.length && !visible) { cy.center(at[0]); }
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
  document.addEventListener("toggle", function (event) { if (event.target.open) { drawAll(); } }, true);
  document.addEventListener("lc:at", function (event) {
    selected = event.detail.paths;
    selectedKeys = event.detail.keys || [];
    selectedKin = event.detail.kin || null;
    drawn.forEach(function (entry) {
      markSelected(entry.cy);
      if (selectedKeys.length) { bringIntoView(entry.cy); }
    });
  });
  new MutationObserver(function () { drawn.forEach(function (entry) { entry.cy.style(style()); }); }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
})();
