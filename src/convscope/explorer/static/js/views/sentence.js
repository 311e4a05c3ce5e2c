// A sentence instead of a picture: typed, its words a column each, those that the model does not know marked.

import { $, h, notice, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";

const SOURCE = /^(encoder|positions$|dropout$)/;
const PADDING = "∅"; // where a filter reads before the first word or after the last
const TARGET = /^(decoder|target_)/;

export function sentenceBox(app) {
  const text = h("textarea", { id: "sentence", rows: 3, maxLength: 1000, "aria-label": t("sentence"), onkeydown: (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    read(app);
  } });
  return [
    text,
    app.model.translates ? h("textarea", { id: "begun", rows: 2, maxLength: 1000, "aria-label": t("begun"), placeholder: t("begun"), title: t("begun") }) : null,
    h("div.row", {}, h("button.button", { type: "button", id: "read", onclick: () => read(app) }, t("read_sentence")),
      app.model.translates ? h("button.button", { type: "button", id: "next-token", onclick: () => app.frames.change("next_token").catch(() => {}) }, t("next_token")) : null),
    h("div.words", { id: "words", role: "list", "aria-label": t("words") }),
  ];
}

function read(app) {
  const text = $("#sentence").value.trim();
  if (!text) notice(t("no_sentence"));
  else app.frames.change("show_sentence", { text, begun: $("#begun")?.value.trim() ?? "" }).catch(() => {});
}

export function showWords(app) {
  const box = $("#words");
  const { frame } = app.store.state;
  if (!box || !frame) return;
  const { words, unknown, text, begun, parts } = frame.source;
  if (begun !== undefined && document.activeElement !== $("#begun")) $("#begun").value = begun;
  $("#input-shape").textContent = app.model.input_shape.join("×");
  if (document.activeElement !== $("#sentence")) $("#sentence").value = text;
  replace(box, words.map((word, column) => h(`span.word${unknown.includes(column) ? ".unknown" : ""}${column === parts?.[0] ? ".first" : ""}`, { role: "listitem", title: unknown.includes(column) ? t("unknown_word", { word }) : word }, word)));
  box.style.gridTemplateColumns = `repeat(${words.length}, 1fr)`;
}

// What is said below the answer of words that the model does not know.
export function unknownNote(source) {
  if (!source.unknown?.length) return null;
  return h("p.note.warn", { id: "unknown-words" }, t("unknown_words", { words: source.unknown.map((column) => source.words[column]).join(", ") }));
}

// The words that a place of a layer is about: of the input its own, of a filter's answers those that the filter reads;
// in a translator a row of the encoder is of a word of the source, one of the decoder of a word of the translation.
export function wordsAt(app, layer, index) {
  const { words, parts } = app.store.get("frame")?.source ?? {};
  if (!words) return "";
  const place = index.at(-1);
  if (layer === "input") return words[place] ?? "";
  if (parts) return SOURCE.test(layer) ? (words[index[0]] ?? "") : TARGET.test(layer) && app.model.byName.get(layer)?.shape.length === 2 ? (words[parts[0] + index[0]] ?? "") : "";
  const nodes = app.model.byName;
  let node = nodes.get(layer);
  while (node && !node.window && node.sources.length === 1 && node.shape.length === 2) node = nodes.get(node.sources[0]);
  if (!node?.window || node.sources[0] !== "input") return "";
  const { kernel, padding, stride } = node.window;
  const first = place * (stride?.[0] ?? 1) - (padding?.[0] ?? 0);
  return [...Array(kernel[0]).keys()].map((k) => words[first + k] ?? PADDING).join(" ");
}
