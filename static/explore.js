/* The what-if page: sliders beside the number boxes, on a logarithmic scale. The boxes have the values; htmx asks while they change. */
(function () {
  "use strict";
  var form = document.getElementById("explore");
  if (!form) { return; }

  function scale(slider) {
    return { low: Number(slider.dataset.low), high: Number(slider.dataset.high), steps: Number(slider.dataset.steps) };
  }

  function toPosition(slider, value) {
    var s = scale(slider);
    return value > 0 ? Math.round(Math.log2(Math.min(Math.max(value, s.low), s.high) / s.low) * s.steps) : 0;
  }

  function toValue(slider) {
    var s = scale(slider), value = s.low * Math.pow(2, Number(slider.value) / s.steps);
    return s.low < 1 ? Math.round(value * 1000) / 1000 : Math.round(value);
  }

  form.querySelectorAll("[data-slider-for]").forEach(function (slider) {
    var box = document.getElementById(slider.dataset.sliderFor), s = scale(slider);
    slider.min = 0;
    slider.max = Math.round(Math.log2(s.high / s.low) * s.steps);
    slider.step = 1;
    function show() {
      slider.value = toPosition(slider, Number(box.value));
      slider.setAttribute("aria-valuetext", box.value);
    }
    show();
    slider.hidden = false;
    slider.addEventListener("input", function () {
      box.value = toValue(slider);
      slider.setAttribute("aria-valuetext", box.value);
    });
    box.addEventListener("input", show);
  });

  /* While a whole page is asked for, the answer is what is waited for: a skeleton the first time, then the old figures, dimmed. */
  form.addEventListener("submit", function () {
    var asked = new FormData(form), answer = document.getElementById("answer");
    if (!asked.getAll("model").some(Boolean) || !asked.getAll("hardware").some(Boolean)) { return; }
    answer.dataset.asks = "";
    window.lcSkeleton.wait(answer);
  });

  /* another set of models or devices has other controls: the whole page is asked for */
  form.addEventListener("change", function (event) {
    if (event.target.matches("[data-reload]")) { form.requestSubmit(); }
  });
  form.addEventListener("input", function (event) {
    if (event.target.matches("[data-reload]")) { event.stopPropagation(); }
  }, true);
})();
