/* A click on a point of the chart of a series opens its run. The table below has the same links. */
(function () {
  "use strict";
  document.addEventListener("lc:select", function (event) {
    var chart = event.target.closest("[data-open-run]");
    if (chart && /^[\w-]+$/.test(event.detail.key)) { location.href = chart.dataset.openRun.replace("RUN", event.detail.key); }
  });
})();
