// What went wrong, in the page's language. The server's sentences are English; the page's texts that begin with "told_"
// are those sentences with their blanks: what fits one is said as the other language has it, its blanks likewise.

import { keysOf, language, t, textOf } from "./i18n.js";

const BLANK = /\{(\w)\}/g;
let table = null;

// Longest first: "at most 5 bytes" is not "at most {a}".
function patterns() {
  table ??= keysOf("told_").map((key) => {
    const english = textOf(key, "en");
    const literal = english.split(BLANK).map((part, at) => (at % 2 ? "(.+)" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")));
    return { name: key.slice("told_".length), blanks: [...english.matchAll(BLANK)].map((found) => found[1]), wanted: new RegExp(`^${literal.join("")}$`, "s"), length: english.replace(BLANK, "").length };
  }).sort((one, other) => other.length - one.length);
  return table;
}

export function phrase(english) {
  if (language() === "en") return english;
  for (const { name, blanks, wanted } of patterns()) {
    const found = wanted.exec(english);
    if (found) return t(`told_${name}`, Object.fromEntries(blanks.map((blank, at) => [blank, found[at + 1] === english ? english : phrase(found[at + 1])])));
  }
  return english;
}

// ``error`` is what the server sends: kind, message, and for a refusal its parts.
export function told({ kind, message, parts }) {
  if (kind === "lost") return t("server_gone");
  if (language() === "en") return message;
  if (!parts) {
    const said = phrase(message);
    return kind === "internal" && said === message ? t("server_internal", { text: message }) : said;
  }
  const { argument, got, wanted, path, problem, hint } = parts;
  const first = argument ? t("refused", { argument, got: phrase(got), wanted: phrase(wanted) }) : `${path}：${phrase(problem)}`;
  return hint ? `${first}。${phrase(hint)}` : first;
}
