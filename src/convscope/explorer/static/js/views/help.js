// Dialogs, and the one that lists the keys.

import { $, h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";

export function openDialog(title, ...content) {
  const before = document.activeElement;
  const close = () => {
    replace($("#overlay"));
    before?.focus?.();
  };
  const done = h("button.button.primary", { type: "button", onclick: close }, t("close"));
  const dialog = h("div.dialog", { role: "dialog", "aria-modal": "true", "aria-label": title, tabIndex: -1 }, h("h2", {}, title), ...content, h("div.row", {}, done));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    }
    if (event.key === "Tab") trap(event, dialog);
  });
  replace($("#overlay"), h("div.veil", { onclick: (event) => event.target.classList.contains("veil") && close() }, dialog));
  done.focus();
  return close;
}

export function trap(event, box) {
  const stops = [...box.querySelectorAll("button:not(:disabled), input, select, textarea, a[href], [tabindex='0']")];
  if (!stops.length) return;
  const first = stops[0];
  const last = stops[stops.length - 1];
  if (event.shiftKey && document.activeElement === first) {
    event.preventDefault();
    last.focus();
  } else if (!event.shiftKey && document.activeElement === last) {
    event.preventDefault();
    first.focus();
  }
}

const KEYS = [
  ["← →", "key_layers"], ["↑ ↓", "key_maps"], ["Enter", "key_open"], ["PageUp PageDown", "key_next_map"],
  ["Esc", "key_back"], ["F B G R S", "key_tabs"], ["A L W D H C", "key_more_tabs"], ["1 2 3 4", "key_show"],
  ["Home End", "key_ends"], ["/", "key_find"], ["+ − 0 9", "key_zoom"], ["[ ]", "key_inputs"], ["P", "key_picture"], ["?", "key_help"],
];

export function openHelp() {
  openDialog(t("help"),
    h("p", {}, t("help_text")),
    h("dl.by-keys", {}, KEYS.map(([keys, text]) => [h("dt", {}, keys.split(" ").map((key) => [h("kbd", {}, key), " "]).flat()), h("dd", {}, t(text))]).flat()));
}
