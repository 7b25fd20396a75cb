/* Keys of the list of runs (named in its dialog, which "?" opens). None of them acts while something is typed in a field. */
(function () {
  "use strict";

  function typing(target) {
    if (target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName)) { return true; }
    return target.tagName === "INPUT" && !/^(checkbox|radio|button|submit)$/.test(target.type);
  }

  function rows() { return Array.from(document.querySelectorAll("tr[data-row]")); }

  function current() { return document.activeElement && document.activeElement.closest("tr[data-row]"); }

  function move(by) {
    var all = rows(), at = all.indexOf(current());
    var next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
    if (next) { next.querySelector("a.run-name").focus({ preventScroll: true }); next.scrollIntoView({ block: "nearest" }); }
  }

  function tick() {
    var row = current(), box = row && row.querySelector("input[data-tick]");
    if (!box) { return; }
    box.checked = !box.checked;
    document.dispatchEvent(new CustomEvent("lc:ticked"));
  }

  function compare() {
    var button = document.querySelector("[data-tray] button[value=compare]");
    if (button && !button.disabled) { button.click(); }
  }

  function tag() {
    var more = document.querySelector(".tray-more");
    if (!more) { return; }
    more.open = true;
    document.getElementById("bulk-tags").focus();
  }

  function help() {
    var dialog = document.getElementById("keys");
    if (dialog && !dialog.open) { dialog.showModal(); }
  }

  var KEYS = { j: function () { move(1); }, k: function () { move(-1); }, x: tick, c: compare, t: tag, "?": help };

  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) { return; }
    var act = KEYS[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  document.addEventListener("click", function (event) { if (event.target.closest("[data-keys-open]")) { help(); } });
  /* Enter in the field of tags adds them; without this it would press the form's first button, which compares. */
  document.addEventListener("keydown", function (event) {
    if (event.key !== "Enter" || event.target.id !== "bulk-tags") { return; }
    event.preventDefault();
    var button = document.querySelector("[data-tray] button[value=tag]");
    if (!button.disabled) { button.click(); }
  });
})();
