// The page's texts: one file a language, the same keys in both; {name} is filled in.

const tables = {};
let current = "en";

export const LANGUAGES = ["en", "zh"];

export async function loadLanguages() {
  await Promise.all(
    LANGUAGES.map(async (language) => {
      const inside = document.getElementById(`convscope-texts-${language}`); // a saved page brings its own
      tables[language] = inside ? JSON.parse(inside.textContent) : await (await fetch(`/locales/${language}.json`)).json();
    }),
  );
}

export function setLanguage(language) {
  current = LANGUAGES.includes(language) ? language : "en";
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
}

export function language() {
  return current;
}

export function t(key, values = {}) {
  const text = tables[current]?.[key];
  if (text === undefined) {
    console.error(`no text for ${key} in ${current}`);
    return key;
  }
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? `{${name}}`));
}

export function keysOf(prefix) {
  return Object.keys(tables[current]).filter((key) => key.startsWith(prefix));
}

export function textOf(key, language) {
  return tables[language][key];
}
