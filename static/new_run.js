/* The new-run form: lists that narrow while one types, and only the fields that the chosen kind needs. */
(function () {
  "use strict";
  var form = document.getElementById("new-run");
  if (!form) { return; }

  function kind() {
    var chosen = form.querySelector("input[name=kind]:checked");
    return chosen ? chosen.value : "estimate";
  }

  /* With a model and a place there are figures to wait for; before, the panel says what to choose. */
  function showAsks() {
    var places = { estimate: "hardware", measure: "host", endpoint: "endpoint" }, preview = document.getElementById("preview");
    function chosen(name) { var field = form.elements[name]; return Boolean(field && field.value); }
    var asks = chosen(places[kind()]) && (kind() === "endpoint" || chosen("model"));
    if (asks) { preview.dataset.asks = ""; } else { delete preview.dataset.asks; }
  }

  function showKind() {
    showAsks();
    form.querySelectorAll("[data-for]").forEach(function (part) { part.hidden = part.dataset.for.split(" ").indexOf(kind()) < 0; });
    showReplay();
    showFormats();
  }

  /* Operators can be timed on a host alone: with other hardware there is nothing to tick. */
  function showReplay() {
    form.querySelectorAll("[data-of-host] input").forEach(function (box) {
      var place = form.elements.hardware.value;
      box.disabled = Boolean(place) && place.indexOf("host:") !== 0;
    });
  }

  /* An estimate needs a rate for the format: others are not offered, and a device without any known rate says so. */
  function showFormats() {
    var note = document.getElementById("dtype-note"), select = form.elements.dtype;
    var device = form.elements.hardware.selectedOptions[0];
    var known = device && device.value && kind() === "estimate" ? (device.dataset.dtypes || "").split(" ").filter(Boolean) : null;
    Array.from(select.options).forEach(function (option) {
      option.disabled = Boolean(known && known.length && known.indexOf(option.value) < 0 && !option.selected);
    });
    var text = "";
    if (known && !known.length) { text = window.lcText("formats-none"); }
    else if (known && known.indexOf(select.value) < 0) { text = window.lcText("format-unknown", { format: select.value, known: known.join(", ") }); }
    note.textContent = text;
    note.hidden = !text;
  }

  /* The filter hides options; a browser that cannot hide options still finds them disabled. The chosen one always stays. */
  function narrow(input) {
    var select = document.getElementById(input.dataset.picker);
    var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    var first = null, count = 0;
    Array.from(select.options).forEach(function (option) {
      var text = (option.dataset.find || "") + " " + option.textContent.toLowerCase();
      var fits = !option.value || words.every(function (word) { return text.indexOf(word) >= 0; });
      option.hidden = option.value ? !fits && !option.selected : words.length > 0;
      if (fits && option.value) { count += 1; first = first || option; }
    });
    Array.from(select.querySelectorAll("optgroup")).forEach(function (group) {
      group.hidden = !Array.from(group.children).some(function (option) { return !option.hidden; });
    });
    select.size = words.length ? Math.max(3, Math.min(count + 2, 8)) : 0;
    return first;
  }

  /* The choice is made: the list folds again and shows it. */
  function settle(select) {
    var input = form.querySelector("[data-picker='" + select.id + "']");
    if (!input) { return; }
    input.value = "";
    narrow(input);
  }

  form.querySelectorAll("[data-picker]").forEach(function (input) {
    input.hidden = false;
    input.addEventListener("input", function (event) { event.stopPropagation(); narrow(input); });
    input.addEventListener("change", function (event) { event.stopPropagation(); });
    input.addEventListener("keydown", function (event) {
      if (event.key !== "Enter") { return; }
      event.preventDefault();
      var first = narrow(input), select = document.getElementById(input.dataset.picker);
      if (first && input.value) { select.value = first.value; select.dispatchEvent(new Event("change", { bubbles: true })); }
      select.focus();
    });
  });
  form.addEventListener("change", function (event) { if (event.target.matches("select")) { settle(event.target); } showKind(); });
  showKind();

  /* after a mistake: to the first field that is marked */
  var wrong = form.querySelector("[aria-invalid=true]");
  if (wrong) { wrong.focus(); }
})();
