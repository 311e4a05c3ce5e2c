// The names above the columns: buttons, so that every layer is reached by keys and read by a screen reader. One of them
// is in the tab order; the arrow keys move it.

import { $, h, replace } from "../core/dom.js";
import { FONTS } from "../draw/painter.js";

export function mountHeads(app) {
  const list = $("#heads");
  let current = "input";
  const buttons = new Map();

  function draw() {
    list.setAttribute("aria-label", app.t("layers"));
    buttons.clear();
    const entries = [...app.camera.layout.boxes.values()].sort((a, b) => a.item.rank - b.item.rank || a.item.lane - b.item.lane);
    if (!entries.some((box) => box.item.shows === current)) current = "input";
    replace(list, entries.map((box) => head(box)));
    place();
  }

  function head(box) {
    const { item } = box;
    const name = item.shows;
    const node = app.model.byName.get(name);
    const folded = item.members.length > 1;
    const label = name === "input" ? app.frames.inputName : folded ? item.name : shortName(node);
    const sizes = name === "input" ? app.model.input_shape : node.shape;
    const shape = app.model.shapeText(sizes);
    const maps = sizes.length === 3 && sizes[1] * sizes[2] > 1;
    const weight = ofWeights() ? node?.parameters.weight : null;
    const brief = weight?.length > 2 && box.alone ? [`${weight[0]}×${weight[1]} ×`, weight.slice(2).join("×")] : weight?.length === 2 ? [`${weight[0]} ×`, weight[1]] : weight ? [weight.join("×")] : maps && box.alone ? [`${sizes[0]} ×`, `${sizes[1]}×${sizes[2]}`] : [shape.replace(/(×1)+$/, "")]; // maps × rows × columns
    const full = name === "input" ? app.t("input") : folded ? app.t("block_of", { name: item.name, count: item.members.length }) : `${name}, ${app.model.familyName(node)}`;
    const button = h("button", {
      type: "button", "data-layer": name, tabIndex: name === current ? 0 : -1,
      "aria-label": `${full}, ${shape}`, title: `${full} · ${shape}`,
      onclick: () => (name === "input" ? app.store.set({ layer: null, map: null, unit: null, tab: "field" }) : open(item)),
      onfocus: () => {
        current = name;
        for (const [each, other] of buttons) other.tabIndex = each === name ? 0 : -1;
        app.camera.reveal(name);
        app.store.set({ hover: { layer: name, map: null, cell: null, since: 0 } });
        if (!app.apart) app.render(false); // the board may have been moved
      },
      onkeydown: (event) => keys(event, name),
    }, h("b", {}, folded ? `▸ ${label}` : label), brief.map((line) => h("span", {}, line)));
    buttons.set(name, button);
    return h("li", {}, button);
  }

  // Whether kernels stand below the names, not maps: then the sizes are theirs.
  function ofWeights() {
    return ["weight", "gradient"].includes(app.store.get("show"));
  }

  function open(item) {
    if (item.members.length > 1) app.toggleBlock(item.name);
    else app.selection.select(item.shows);
  }

  function keys(event, name) {
    const order = [...buttons.keys()];
    const at = order.indexOf(name);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    app.focusHead(order[Math.min(order.length - 1, Math.max(0, to))]);
  }

  // A name out of sight is hidden, and what is hidden cannot have the focus: the board is moved there first.
  app.focusHead = (name) => {
    app.camera.reveal(name);
    buttons.get(name)?.focus();
  };

  function place() {
    const away = app.store.get("layer") && app.apart;
    list.classList.toggle("away", Boolean(away));
    list.classList.toggle("tight", app.camera.layout.gap < 12);
    if (away) return;
    for (const box of app.camera.layout.boxes.values()) {
      const button = buttons.get(box.item.shows);
      if (!button) continue;
      const own = box.alone ? box.columnWidth : box.width;
      const width = Math.max(own, Math.min(96, own + app.camera.layout.gap - 1));
      const x = box.x + box.width / 2 - width / 2 - app.camera.x;
      const li = button.parentElement;
      const y = box.alone ? 4 : box.y - 34;
      li.style.transform = `translate(${x.toFixed(1)}px, ${y}px)`;
      li.style.width = `${width}px`;
      fitName(button.firstChild, width);
      li.hidden = (x > app.stage.width || x + width < 0 || y < 0) && button !== document.activeElement; // what is hidden loses the focus
      li.classList.toggle("slim", width < 22);
    }
  }

  app.onlayout = () => {
    if (app.graph !== draw.graph || draw.lang !== app.store.get("lang") || draw.model !== app.model) {
      draw.graph = app.graph;
      draw.model = app.model;
      draw.lang = app.store.get("lang");
      draw();
    } else place();
  };
  app.store.on(["lang", "frame"], (_, keys) => {
    const moves = app.frames.atlases.has("input") && app.store.get("rule");
    if (!keys.has("lang") && draw.moves === moves && draw.weights === ofWeights()) return;
    draw.moves = moves;
    draw.weights = ofWeights();
    draw.lang = app.store.get("lang");
    draw();
  });
  app.store.on(["layer", "map"], () => queueMicrotask(place));
  const before = app.render.bind(app);
  app.render = (animate) => {
    before(animate);
    place();
  };
}

// A name that is too long for its column is set smaller, as far as it can be read; then its first parts are left out, for
// its end tells it from its neighbours.
const NAME = 12.5;
const LEAST = 8;
const EDGE = 5; // the button's borders, and what a name measures more when it is drawn
const ruler = document.createElement("canvas").getContext("2d");
function fitName(name, width) {
  if (name.fitted === width) return;
  name.fitted = width;
  name.whole ??= name.textContent;
  ruler.font = `600 ${NAME}px ${FONTS.sans}`;
  const sizeOf = (text) => (NAME * (width - EDGE)) / ruler.measureText(text).width;
  const text = shorter(name.whole).find((each) => sizeOf(each) >= LEAST) ?? name.whole;
  const size = Math.max(LEAST, Math.min(NAME, sizeOf(text)));
  if (name.textContent !== text) name.textContent = text;
  name.style.fontSize = size < NAME ? `${size.toFixed(1)}px` : "";
}

// "backbone.24", "…24"
function shorter(name) {
  const parts = name.split(/[._]/);
  return [name, ...parts.slice(1).map((_, at) => `…${name.slice(parts.slice(0, at + 1).join(".").length + 1)}`)];
}

// Activations are known by what they do; long paths by their end.
export function shortName(node) {
  if (node.family === "activation" && node.name.length > 7) return node.kind;
  if (node.name.length <= 12) return node.name;
  return `…${node.name.slice(-10).replace(/^[._]+/, "")}`;
}
