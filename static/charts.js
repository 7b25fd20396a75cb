/* Draws every element with data-chart="<id of a json_script>" with plotly. Figures name meanings (meta.tone), the stylesheet has the
   colours, so a change of theme redraws them. A click on a point of a trace with meta.select fires "lc:select" with its key. */
(function () {
  "use strict";
  var config = { displaylogo: false, responsive: true, plotlyServerURL: "", modeBarButtonsToRemove: ["sendChartToCloud", "lasso2d", "select2d", "autoScale2d"], showSendToCloud: false, showEditInChartStudio: false };

  function css(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function tone(name) {
    return css("--tone-" + name) || css("--tone-other") || "#6b7280";
  }

  function painted(figure) {
    var copy = JSON.parse(JSON.stringify(figure));
    var text = css("--bs-body-color"), muted = css("--bs-secondary-color") || text, line = css("--bs-border-color"), back = css("--card") || css("--bs-body-bg");
    copy.data.forEach(function (trace) {
      var colour = trace.meta && trace.meta.tone ? tone(trace.meta.tone) : tone("other");
      trace.marker = trace.marker || {};
      trace.line = trace.line || {};
      trace.marker.color = colour;
      if (trace.type === "bar") {
        trace.marker.line = { color: back, width: 1 };
      } else if (trace.marker.line) {
        trace.marker.line.color = colour;
      }
      trace.line.color = colour;
      if (trace.type === "bar") { delete trace.line; }
    });
    var layout = copy.layout;
    layout.paper_bgcolor = "rgba(0,0,0,0)";
    layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: text, family: getComputedStyle(document.body).fontFamily, size: 12 };
    layout.hoverlabel = { bgcolor: back, bordercolor: line, font: { color: text }, align: "left" };
    layout.legend = Object.assign({ bgcolor: "rgba(0,0,0,0)" }, layout.legend || {});
    Object.keys(layout).filter(function (key) { return /^[xy]axis/.test(key); }).forEach(function (key) {
      Object.assign(layout[key], { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, tickfont: { color: muted } });
    });
    (layout.shapes || []).forEach(function (shape) { shape.line = Object.assign({}, shape.line, { color: tone("compute") }); });
    (layout.annotations || []).forEach(function (note) { note.font = { color: note.name === "quiet" ? muted : tone("compute") }; });
    return copy;
  }

  /* A narrow chart has its legend below and less room for titles. */
  function fitted(figure, width) {
    if (width < 800 && figure.layout.legend && figure.layout.legend.orientation === "v") {
      figure.layout.legend = Object.assign({}, figure.layout.legend, { orientation: "h", y: -0.22, yanchor: "top", x: 0 });
      /* Groups of the legend stand below each other: room for every line of it. */
      var lines = figure.data.filter(function (trace) { return trace.showlegend !== false; }).length;
      var groups = new Set(figure.data.map(function (trace) { return trace.legendgroup; })).size;
      figure.layout.height = (figure.layout.height || 450) + Math.max(160, 21 * (lines + groups) - 60);
      figure.layout.margin = Object.assign({}, figure.layout.margin, { l: 48, r: 4 });
    }
    if (width < 560) {
      /* Names beside points would run out of the picture: their card has them. */
      figure.data.forEach(function (trace) { if (trace.mode === "markers+text") { trace.mode = "markers"; } });
      (figure.layout.annotations || []).forEach(function (note) { if (note.name === "quiet") { note.xanchor = "right"; note.yanchor = "bottom"; note.xshift = -4; note.yshift = 4; } });
    }
    return figure;
  }

  /* What plotly says by itself: its buttons, and two hints. */
  function spoken() {
    if (config.locale) { return config; }
    config.locale = "page";
    config.locales = { page: { dictionary: {
      "Download plot as a PNG": window.lcText("plot-png"), "Zoom": window.lcText("plot-zoom"), "Pan": window.lcText("plot-pan"),
      "Zoom in": window.lcText("plot-in"), "Zoom out": window.lcText("plot-out"), "Reset axes": window.lcText("plot-reset"),
      "Double-click to zoom back out": window.lcText("plot-back"), "Double-click on legend to isolate one trace": window.lcText("plot-legend-toggle")
    } } };
    return config;
  }

  function draw(element) {
    var source = document.getElementById(element.dataset.chart);
    /* What is folded has no size yet: it is drawn when it is opened. */
    if (!source || !window.Plotly || !element.clientWidth) { return; }
    var figure = fitted(painted(JSON.parse(source.textContent)), element.clientWidth);
    /* When the window changes its size, plotly takes the height of the element: without one of its own the figure would be cut off. It is
       that of the skeleton, so nothing moves. */
    if (figure.layout.height) { element.style.height = figure.layout.height + element.offsetHeight - element.clientHeight + "px"; }
    window.lcSkeleton.done(element);
    window.Plotly.react(element, figure.data, figure.layout, spoken()).then(function () {
      if (element.dataset.drawn) { markPoints(element, selected); return; }
      element.dataset.drawn = "yes";
      element.on("plotly_click", function (event) {
        var hit = event.points[0];
        if (hit && hit.data.meta && hit.data.meta.select && hit.customdata) {
          element.dispatchEvent(new CustomEvent("lc:select", { bubbles: true, detail: { key: hit.customdata[0], run: hit.customdata[1], at: hit.customdata[2] } }));
        }
      });
      markPoints(element, selected);
    }).catch(function (error) { window.lcSkeleton.failed(element, window.lcText("draw-failed")); throw error; });
  }
  window.lcSkeleton.draws("[data-chart]", function () { return Boolean(window.Plotly); });

  /* Points of what is selected on the page stay as they are, the others step back. */
  var selected = { at: null, paths: [], groups: [] };

  function markPoints(element, chosen) {
    if (!element.data || !element.dataset.drawn) { return; }
    var at = element.data.map(function (trace) {
      if (!trace.meta || !trace.meta.select || !trace.customdata || chosen.at === null) { return null; }
      return trace.customdata.map(function (key, index) { return chosen.groups.indexOf(key[2]) >= 0 || chosen.paths.indexOf(key[2]) >= 0 ? index : -1; }).filter(function (index) { return index >= 0; });
    });
    var any = at.some(function (found) { return found && found.length; });
    window.Plotly.restyle(element, { selectedpoints: at.map(function (found) { return any ? found : null; }) });
  }
  document.addEventListener("lc:at", function (event) {
    selected = event.detail;
    document.querySelectorAll("[data-chart][data-drawn]").forEach(function (element) {
      if (element.data && element.data.some(function (trace) { return trace.meta && trace.meta.select; })) { markPoints(element, selected); }
    });
  });

  function drawAll(root) {
    if (root.matches && root.matches("[data-chart]")) { draw(root); }
    root.querySelectorAll("[data-chart]").forEach(draw);
  }

  /* Each figure in a turn of its own: the page answers in between, and the layer graph need not wait for all of them. */
  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll("[data-chart]").forEach(function (element) { setTimeout(function () { draw(element); }, 0); });
  });
  document.addEventListener("toggle", function (event) { if (event.target.open && event.target.querySelectorAll) { event.target.querySelectorAll("[data-chart]:not([data-drawn])").forEach(draw); } }, true);
  document.addEventListener("htmx:load", function (event) { if (document.readyState === "complete") { drawAll(event.detail.elt); } });
  new MutationObserver(function () { drawAll(document); }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });

  /* A figure has the width of the screen; on paper that would be cut off. */
  var PAPER = 680;

  function drawn() {
    return window.Plotly ? Array.from(document.querySelectorAll("[data-chart][data-drawn]")) : [];
  }

  window.addEventListener("beforeprint", function () {
    drawn().forEach(function (element) { window.Plotly.relayout(element, { width: Math.min(element.clientWidth, PAPER) }); });
  });
  window.addEventListener("afterprint", function () {
    drawn().forEach(function (element) { window.Plotly.relayout(element, { width: null, autosize: true }); });
  });
})();
