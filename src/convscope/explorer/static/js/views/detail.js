// The docked panel: what is selected, and one tab for each question about it.

import { $, byKeys, h, replace } from "../core/dom.js";
import { count, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { isVector } from "../draw/columns.js";
import { showField } from "./field.js";
import { showGradient } from "./gradient.js";
import { showLab } from "./lab.js";
import { showLayer } from "./layer.js";
import { wordsAt } from "./sentence.js";
import { showArithmetic } from "./arithmetic.js";
import { showBeside } from "./beside.js";
import { showBench } from "./bench.js";
import { showBoxes } from "./boxes.js";
import { showHealth } from "./health.js";
import { showLikes } from "./likes.js";
import { showSurgery } from "./surgery.js";
import { mountTraining, refreshTraining, showTraining } from "./training.js";

const TABS = ["boxes", "forward", "backward", "gradient", "field", "training", "bench", "likes", "surgery", "beside", "health", "lab"];
const NEEDS = { training: "preview", bench: "evidence", likes: "likes", surgery: "edits", beside: "besides", health: "health" };
const WHOLE = { training: showTraining, field: showField, bench: showBench, likes: showLikes, surgery: showSurgery, beside: showBeside, health: showHealth, lab: showLab, boxes: showBoxes };

const PATIENCE = 400; // ms; what takes longer is announced

export function tabsOf(app) {
  return TABS.filter((name) => (name === "boxes" ? app.model.detector : name === "lab" ? !app.model.sentences : !NEEDS[name] || app.model.can(NEEDS[name])));
}

export function mountDetail(app) {
  const { store } = app;
  const detail = $("#detail");
  let turn = 0;
  let shown = null; // the tab that stands
  let filled = false; // whether there is anything in it
  let version = null; // of the frame whose numbers it has
  mountTraining(app);

  function head() {
    const { layer, map, unit } = store.state;
    const node = app.model.byName.get(layer);
    if (!node) return h("div.detail-head", {}, h("h2", {}, t("look_inside")), h("p", {}, t("look_inside_text")));
    const parameters = Object.values(node.parameters).reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const parts = [node.name];
    if (map !== null) parts.push(app.model.mapName(layer, map));
    const words = app.model.sentences && node.shape.length === 2 ? wordsAt(app, layer, unit ?? [map]) : "";
    if (words && (unit || node.sources[0] !== "input")) parts.push(words);
    if (unit && !isVector(node.shape)) parts.push(`(${unit.slice(1).join(", ")})`);
    return h("div.detail-head", {}, h("h2", {}, parts.join(" · ")),
      h("p", {}, `${app.model.familyName(node)} · ${app.model.shapeText(node.shape)}${parameters ? ` · ${t("parameters_n", { count: count(parameters) })}` : ""}`),
      h("p.num.small", {}, node.text.length > 160 ? `${node.text.slice(0, 160)}…` : node.text));
  }

  function tabs() {
    const { tab } = store.state;
    const names = tabsOf(app);
    const buttons = names.map((name) => h("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-selected": String(tab === name), "aria-controls": "tab-body", tabIndex: tab === name ? 0 : -1,
      onclick: () => store.set({ tab: name }),
    }, t(`tab_${name}`)));
    return h("div.tabs", { role: "tablist", "aria-label": t("details"), onkeydown: (event) => {
      const at = names.indexOf(store.get("tab"));
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      store.set({ tab: names[(to + names.length) % names.length] });
      queueMicrotask(() => queueMicrotask(() => $(`#tab-${store.get("tab")}`)?.focus()));
    } }, buttons);
  }

  // A press that is under way belongs to the buttons as they are: they are made anew after it.
  let pressed = false;
  let missed = false;
  detail.addEventListener("pointerdown", () => (pressed = true));
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, () => {
      pressed = false;
      if (missed) setTimeout(draw);
      missed = false;
    });
  }

  function panel(tab, ...content) {
    return h("div.tab-body", { id: "tab-body", role: "tabpanel", "aria-labelledby": `tab-${tab}`, tabIndex: 0 }, content);
  }

  // What the panel is about: tab, layer, map and unit.
  function placeOf() {
    const { tab, layer, map, unit } = store.state;
    return [tab, layer, map, (unit ?? []).join(",")].join("/");
  }

  // Put it there; the focus stays where it was.
  function stand(body) {
    const focused = detail.contains(document.activeElement) ? document.activeElement.id : "";
    replace(detail, head(), tabs(), body);
    if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  async function draw() {
    if (store.get("tab") === "training" && shown === "training" && refreshTraining(app)) return;
    if (pressed) {
      missed = true;
      return;
    }
    const mine = ++turn;
    const asked = store.get("frame")?.version;
    const place = placeOf();
    detail.toggleAttribute("data-stale", filled && version !== asked);
    detail.setAttribute("aria-label", t("details"));
    const { tab } = store.state;
    if (tab !== "field") store.set({ field: null });
    const body = panel(tab);
    const scroll = detail.scrollTop;
    const waiting = setTimeout(() => {
      if (mine !== turn || pressed || (shown === tab && filled)) return; // what stands says more than this
      stand(panel(tab, h("p.note", { id: "working", role: "status" }, t("working"))));
    }, PATIENCE);
    try {
      await fill(body, tab);
    } catch (error) {
      if (error.kind === "superseded" || error.kind === "lost") return;
      replace(body, h("p.note.warn", {}, error.message));
    } finally {
      clearTimeout(waiting);
    }
    if (mine !== turn || place !== placeOf()) return; // what is chosen by now is drawn as soon as its map is here
    if (pressed) {
      missed = true;
      return;
    }
    detail.removeAttribute("data-stale");
    version = asked;
    shown = tab;
    filled = body.childElementCount > 0;
    stand(body);
    detail.scrollTop = scroll;
    document.body.dataset.shown = `${asked}/${place}`;
  }

  async function fill(body, tab) {
    const { layer, unit, map } = store.state;
    if (!store.get("frame")) return;
    if (WHOLE[tab]) return void (await WHOLE[tab](app, body));
    if (!layer) {
      replace(body, h("p", {}, t("choose_map")), h("p.note.by-keys", {}, t("choose_map_keys")));
      return;
    }
    if (tab === "gradient") return void (await showGradient(app, body));
    if (map === null) return void (await showLayer(app, body));
    if (!unit) {
      replace(body, h("p", {}, t("choose_unit"), byKeys(t("choose_unit_keys"))), summary(app), h("p.note", {}, t("linked_windows")));
      return;
    }
    await showArithmetic(app, body, tab);
  }

  app.onselection = () => (app.drawing = draw());
  app.ondetail = draw;
  store.on(["tab", "lang", "weight", "rule", "pixel", "training"], draw);
  draw();
}

function summary(app) {
  const apart = app.selection.current;
  const out = apart?.panels.find((panel) => panel.role === "out");
  if (!out) return null;
  const row = (name, value) => [h("dt", {}, name), h("dd.num", { "data-exact": String(value) }, short(value))];
  return h("dl.pairs", {}, row(t("smallest"), out.low), row(t("largest"), out.high), apart.bias === null ? null : row("b", apart.bias));
}
