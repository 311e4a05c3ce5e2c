// The bar at the top and the row over the board: breadcrumb, what is shown, language, light and dark, sharing, help.

import { $, h, replace, say } from "../core/dom.js";
import { LANGUAGES, setLanguage, t } from "../core/i18n.js";
import { count } from "../core/format.js";
import { recall, remember } from "../core/memory.js";
import { KINDS, setColours } from "../draw/colour.js";
import { readPalette } from "../draw/palette.js";
import { isVector } from "../draw/columns.js";
import { openHelp } from "./help.js";
import { openShare } from "./share.js";
import { startTour } from "./tour.js";

export function rememberedTheme() {
  return recall("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

export function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setColours(theme);
  readPalette();
}

export function mountTools(app) {
  const { store } = app;

  function bar() {
    const { model } = app.model;
    replace($("#model-name"), model.name, h("span.model-size", {}, ` · ${t("parameters_n", { count: count(model.parameters) })}`));
    $("#skip").textContent = t("skip_to_network");
    const dark = document.documentElement.dataset.theme === "dark";
    replace($("#tools"),
      !app.model.can("evidence") ? null : h("button", { type: "button", id: "tour-button", onclick: () => startTour(app) }, t("tour")),
      h("button", { type: "button", id: "share-button", "aria-haspopup": "menu", "aria-expanded": "false", onclick: (event) => openShare(app, event.currentTarget) }, t("share")),
      h("button", {
        type: "button", id: "language-button", lang: store.get("lang") === "zh" ? "en" : "zh-CN", "aria-label": store.get("lang") === "zh" ? "English" : "中文",
        onclick: () => changeLanguage(LANGUAGES.find((each) => each !== store.get("lang"))),
      }, store.get("lang") === "zh" ? "EN" : "中文"),
      h("button", { type: "button", id: "theme-button", "aria-label": dark ? t("light") : t("dark"), title: dark ? t("light") : t("dark"), onclick: () => changeTheme(dark ? "light" : "dark") }, dark ? "☀" : "☾"),
      h("button", { type: "button", id: "help-button", "aria-label": t("help"), title: t("help"), onclick: () => openHelp(app) }, "?"),
    );
  }

  function changeLanguage(language) {
    setLanguage(language);
    remember("lang", language);
    store.set({ lang: language });
    say(t("language_now"));
  }

  async function changeTheme(theme) {
    remember("theme", theme);
    applyTheme(theme);
    for (const atlas of app.frames.atlases.values()) atlas.forget();
    await app.frames.paint(app.frames.atlases);
    app.frames.strips.clear();
    for (const panel of app.selection.elastic?.panels ?? []) panel.atlas.forget();
    bar();
    app.ontheme?.();
    app.render(false);
  }

  function crumbs() {
    const { layer, map, unit } = store.state;
    const steps = [[t("overview"), () => app.selection.select(null)]];
    if (layer) steps.push([layer, () => app.selection.select(layer)]);
    if (layer && map !== null) steps.push([app.model.mapName(layer, map), () => app.selection.select(layer, map)]);
    const node = app.model.byName.get(layer);
    if (unit && node && !isVector(node.shape)) steps.push([`(${unit.slice(1).join(", ")})`, null]);
    const nav = $("#crumbs");
    nav.setAttribute("aria-label", t("where_you_are"));
    replace(nav, h("ol", {}, steps.map(([text, go], index) => {
      const last = index === steps.length - 1;
      return h("li", {}, h("button", { type: "button", onclick: go ?? (() => {}), "aria-current": last ? "location" : null }, text));
    })));
  }

  function stageTools() {
    const { show, rule, frame } = store.state;
    const segments = h("div.segments", { role: "group", "aria-label": t("show") }, KINDS.map((kind) =>
      h("button", { type: "button", "data-show": kind, "aria-pressed": String(show === kind), disabled: (kind === "delta" || kind === "gradient") && frame && frame.loss === null, onclick: () => store.set({ show: kind }) },
        h(`span.sample.${kind}`), t(`show_${kind}`))));
    const rules = show === "delta"
      ? h("label.row.small", {}, h("span.soft", {}, t("backward_rule")), h("select", { id: "rule", onchange: (event) => store.set({ rule: event.target.value }) },
        ["plain", "deconv", "guided"].map((each) => h("option", { value: each, selected: each === rule }, t(`rule_${each}`)))))
      : null;
    const up = store.get("layer") ? h("button.button.small", { type: "button", id: "up", onclick: () => app.selection.up() }, `← ${t("back")}`) : null;
    const speed = h("label.speed", {}, t("speed"), h("input", { type: "range", id: "speed", min: "0", max: "3", step: "0.25", value: String(store.get("speed")), oninput: (event) => {
      store.state.speed = Number(event.target.value);
      app.stage.speed = Number(event.target.value);
    } }));
    const fold = store.get("unfolded").length ? h("button.button.small", { type: "button", id: "fold", onclick: () => app.unfold([]).then(() => app.frames.refresh()) }, t("fold")) : null;
    replace($("#stage-tools"), segments, rules, fold, h("span.spring"), speed, up);
    $("#stage").setAttribute("aria-label", t("network"));
    $("#board").setAttribute("aria-label", t("board_label"));
    $("#board").setAttribute("role", "group");
  }

  function all() {
    document.title = `${app.model.model.name} · convscope`;
    bar();
    crumbs();
    stageTools();
  }
  store.on(["lang"], all);
  store.on(["layer", "map", "unit"], () => {
    crumbs();
    stageTools();
  });
  store.on(["show", "rule", "unfolded"], stageTools);
  let asks = null;
  store.on(["frame"], ({ frame }) => {
    if (asks !== (frame.loss === null)) stageTools();
    asks = frame.loss === null;
  });
  all();
}
