// Below the board of a long network: find a layer, the whole network in small (which is also the scrollbar), its size.
// And on the board, where a map has more inputs than are drawn: which of them are.

import { $, h, replace, say } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { palette } from "../draw/palette.js";

const HEIGHT = 30;
const THUMB = 5; // the bar below the small network

export function mountTravel(app) {
  const { camera, store } = app;
  const row = $("#travel");
  const canvas = h("canvas", { "aria-hidden": "true" });
  const small = h("div.minimap", { id: "minimap", role: "scrollbar", tabIndex: 0, "aria-controls": "board", "aria-orientation": "horizontal", "aria-valuemin": "0", onkeydown: keys }, canvas);
  const size = h("output", { id: "zoom-now" });
  let list = [];
  let chosen = 0;

  // ---- the network in small ---------------------------------------------------------------------------------------
  function drawSmall() {
    const width = small.clientWidth;
    if (row.hidden || !width || !camera.layout) return;
    const ratio = Math.min(3, devicePixelRatio || 1);
    canvas.width = Math.round(width * ratio);
    canvas.height = HEIGHT * ratio;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { base, zoom } = camera;
    const sx = width / base.width;
    const sy = (HEIGHT - THUMB - 3) / base.height;
    const found = new Set(list);
    for (const box of base.boxes.values()) {
      const { shows, members } = box.item;
      const marked = shows === store.get("layer");
      context.globalAlpha = marked || members.some((name) => found.has(name)) ? 1 : 0.45;
      context.fillStyle = marked ? palette.accent : members.some((name) => found.has(name)) ? palette.warn : box.kind === "tiles" ? palette.activation : palette.soft;
      context.fillRect(box.x * sx, box.y * sy, Math.max(1.5, box.width * sx), Math.max(2, box.height * sy));
    }
    context.globalAlpha = 1;
    const from = (camera.x / zoom) * sx;
    const wide = Math.min(width, (app.stage.width / zoom) * sx);
    context.fillStyle = palette.lineStrong;
    context.fillRect(0, HEIGHT - THUMB, width, THUMB);
    context.fillStyle = palette.accent;
    context.fillRect(from, HEIGHT - THUMB, Math.max(10, wide), THUMB);
    context.strokeStyle = palette.accent;
    context.strokeRect(from + 0.5, 0.5, Math.max(9, wide - 1), HEIGHT - THUMB - 1);
  }

  function update() {
    if (!camera.layout) return;
    const { reach } = camera;
    if (reach.x > 1 || camera.zoom !== 1) row.hidden = false; // and it stays: the board is not to jump
    const seen = [...camera.layout.boxes.values()].filter((box) => camera.onBoard(box)).map((box) => (box.item.shows === "input" ? t("input") : box.item.name));
    small.setAttribute("aria-valuemax", String(Math.round(reach.x)));
    small.setAttribute("aria-valuenow", String(Math.round(camera.x)));
    small.setAttribute("aria-valuetext", t("in_sight", { first: seen[0] ?? "", last: seen.at(-1) ?? "" }));
    size.textContent = `${Math.round(camera.zoom * 100)} %`;
    $("#board").style.touchAction = reach.y > 0 ? "none" : "";
    drawSmall();
  }

  function moveTo(event) {
    const { left, width } = small.getBoundingClientRect();
    const middle = ((event.clientX - left) / width) * camera.layout.width;
    camera.move(middle - app.stage.width / 2 - camera.x);
    app.render(false);
  }
  small.addEventListener("pointerdown", (event) => {
    small.setPointerCapture?.(event.pointerId);
    moveTo(event);
  });
  small.addEventListener("pointermove", (event) => event.buttons && moveTo(event));

  function keys(event) {
    const page = app.stage.width * 0.9;
    const by = { ArrowLeft: -80, ArrowRight: 80, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    camera.move(by);
    app.render(false);
  }

  // ---- find a layer -----------------------------------------------------------------------------------------------
  const options = h("ul", { id: "found-layers", role: "listbox", hidden: true });
  const field = h("input", { type: "search", id: "find-layer", role: "combobox", autocomplete: "off", spellcheck: false, "aria-autocomplete": "list", "aria-controls": "found-layers", "aria-expanded": "false", oninput: search, onkeydown: choose, onblur: () => setTimeout(() => document.activeElement !== field && close(), 150) });

  function search() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    list = !words.length ? [] : app.model.nodes.filter((node) => {
      const text = `${node.name} ${node.kind} ${node.family} ${app.model.familyName(node)}`.toLowerCase();
      return words.every((word) => text.includes(word));
    }).map((node) => node.name);
    const named = (name) => words.every((word) => name.toLowerCase().includes(word));
    list.sort((one, other) => named(other) - named(one)); // "conv2" is a name before it is a part of "Conv2d"
    chosen = 0;
    if (words.length) say(t("found_n", { count: list.length }));
    offer(words.length > 0);
  }

  function offer(open) {
    options.hidden = !open;
    field.setAttribute("aria-expanded", String(open));
    field.setAttribute("aria-activedescendant", open && list.length ? `found-${chosen}` : "");
    replace(options, list.length ? list.map((name, at) => {
      const node = app.model.byName.get(name);
      return h("li", { id: `found-${at}`, role: "option", "aria-selected": String(at === chosen), onpointerdown: (event) => {
        event.preventDefault();
        go(name);
      } }, h("b", {}, name), h("span.soft", {}, ` ${app.model.familyName(node)} · ${app.model.shapeText(node.shape)}`));
    }) : h("li.soft", { role: "option", "aria-disabled": "true", "aria-selected": "false" }, t("found_n", { count: 0 })));
    options.children[chosen]?.scrollIntoView({ block: "nearest" });
    drawSmall();
  }

  function choose(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && list.length) {
      event.preventDefault();
      chosen = (chosen + by + list.length) % list.length;
      offer(true);
    } else if (event.key === "Enter" && list.length) {
      event.preventDefault();
      go(list[chosen]);
    } else if (event.key === "Escape") {
      field.value = "";
      close();
      $("#heads button[tabindex='0']")?.focus();
    }
  }

  function close() {
    list = [];
    options.hidden = true;
    field.setAttribute("aria-expanded", "false");
    drawSmall();
  }

  // A layer inside a folded block is found too: the block opens.
  async function go(name) {
    close();
    if (!camera.boxOf(name)) {
      const block = app.graph.items.find((item) => item.members.includes(name) && item.members.length > 1);
      if (block) await app.toggleBlock(block.name);
    }
    app.selection.select(name);
    app.render(false);
    app.focusHead(name);
  }

  // ---- which inputs of a map are drawn ----------------------------------------------------------------------------
  const pager = $("#pager");
  function inputs() {
    const apart = app.selection.current;
    const shown = apart ? apart.count - apart.more : 0;
    pager.hidden = !apart || !(apart.count > shown);
    if (pager.hidden) return;
    const turn = (by, id, text, off) => h("button.button.small", { type: "button", id, disabled: off, "aria-label": t(text), title: t(text), onclick: () => app.selection.turn(by) }, by < 0 ? "◂" : "▸");
    const where = t("inputs_shown", app.selection.inputs);
    const focused = pager.contains(document.activeElement) ? document.activeElement.id : null;
    replace(pager, turn(-1, "inputs-before", "inputs_before", apart.first === 0), h("span", { id: "inputs-shown" }, where), turn(1, "inputs-after", "inputs_after", apart.first + shown >= apart.count));
    if (focused) ($(`#${focused}:not(:disabled)`) ?? $("#pager button:not(:disabled)"))?.focus();
    if (apart.first !== inputs.said) say(where);
    inputs.said = apart.first;
  }

  // ---- together ---------------------------------------------------------------------------------------------------
  function texts() {
    field.placeholder = t("find_layer");
    field.setAttribute("aria-label", t("find_layer"));
    small.setAttribute("aria-label", t("whole_network"));
    options.setAttribute("aria-label", t("layers"));
    const button = (id, label, text, onclick) => h("button.button.small", { type: "button", id, "aria-label": t(label), title: t(label), onclick }, text);
    replace(row, h("div.find", {}, field, options), small, h("div.row.tight", {},
      button("zoom-out", "zoom_out", "−", () => camera.zoomBy(-1)), size, button("zoom-in", "zoom_in", "+", () => camera.zoomBy(1)), button("zoom-fit", "zoom_fit", "⤢", () => camera.fit())));
    update();
    inputs();
  }
  const onlayout = app.onlayout;
  app.onlayout = () => {
    onlayout?.();
    update();
  };
  const onselection = app.onselection;
  app.onselection = () => {
    inputs();
    return onselection?.();
  };
  const ontheme = app.ontheme;
  app.ontheme = () => {
    ontheme?.();
    drawSmall();
  };
  app.find = () => {
    row.hidden = false;
    field.focus();
    field.select();
  };
  new ResizeObserver(drawSmall).observe(small);
  store.on(["lang"], texts);
  store.on(["layer", "map", "unfolded"], () => queueMicrotask(() => {
    if (!app.selection.current) pager.hidden = true;
    drawSmall();
  }));
  texts();
}
