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
      figure.layout.height = (figure.layout.height || 450) + 160;
      figure.layout.margin = Object.assign({}, figure.layout.margin, { l: 48, r: 4 });
    }
    return figure;
  }

  function draw(element) {
    var source = document.getElementById(element.dataset.chart);
    if (!source || !window.Plotly) { return; }
    var figure = fitted(painted(JSON.parse(source.textContent)), element.clientWidth);
    window.Plotly.react(element, figure.data, figure.layout, config).then(function () {
      if (element.dataset.drawn) { return; }
      element.dataset.drawn = "yes";
      element.on("plotly_click", function (event) {
        var point = event.points[0];
        if (point && point.data.meta && point.data.meta.select && point.customdata) {
          element.dispatchEvent(new CustomEvent("lc:select", { bubbles: true, detail: { key: point.customdata[0], run: point.customdata[1] } }));
        }
      });
    });
  }

  function drawAll(root) {
    if (root.matches && root.matches("[data-chart]")) { draw(root); }
    root.querySelectorAll("[data-chart]").forEach(draw);
  }

  document.addEventListener("DOMContentLoaded", function () { drawAll(document); });
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
