// One training step in slow motion: forward, loss, backward, gradient, momentum, decay, new weight; and all the way back.

import { $, h, num, replace, say } from "../core/dom.js";
import { percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { chosenWeight } from "./gradient.js";
import { attachLive, learns, livePanel, refreshLive } from "./live.js";

const BEATS = ["forward", "loss", "backward", "gradient", "decay", "momentum", "weight"];
const show = { beat: -1, result: null, playing: false, outlook: null, version: null };

export function mountTraining(app) {
  app.training = show;
}

export async function showTraining(app, body) {
  const { frame } = app.store.state;
  if (frame.loss === null) {
    replace(body, h("p.note", {}, t("no_loss")));
    return;
  }
  await attachLive(app);
  if (learns()) {
    await showLearning(app, body);
    return;
  }
  const weight = selected(app);
  const asked = weight ? { parameter: weight.full, index: weight.index } : {};
  if (show.version !== frame.version && !show.playing) {
    show.beat = -1;
    show.result = null;
  }
  const [{ training }, outlook] = await Promise.all([app.connection.ask("training"), app.connection.ask("preview", asked)]);
  show.outlook = outlook;
  replace(body,
    h("p", {}, t("training_text")),
    settings(app, body, training),
    h("div.row", {},
      h("button.button.primary", { type: "button", id: "sgd-step", onclick: () => step(app, body, asked) }, t("step")),
      h("button.button", { type: "button", id: "sgd-rewind", disabled: training.steps === 0, onclick: () => rewind(app, body) }, t("rewind")),
      h("span.small.soft", { id: "sgd-steps" }, t("steps_made", { count: training.steps })),
      h("span.hash", { id: "sgd-hash", title: t("hash_text") }, `# ${training.hash}`)),
    beats(app, outlook, weight),
    h("h2", {}, t("would_change")),
    compare(app, outlook),
    h("p.small", {}, "J ", num(outlook.loss_before, { text: short(outlook.loss_before, 5) }), " → ", num(outlook.loss_after, { text: short(outlook.loss_after, 5) })),
    h("p.note", {}, t("one_input_note")),
    show.result ? moved(show.result) : null,
    livePanel(app),
  );
}

function settings(app, body, training) {
  const setting = (name, step) => h("label.field", {}, t(name), h("input", {
    type: "number", id: `sgd-${name}`, min: "0", step, value: String(training[name]),
    onchange: async (event) => {
      await app.connection.ask("configure", { [name]: Number(event.target.value) });
      await showTraining(app, body);
    },
  }));
  return h("div.grid3", {}, setting("rate", "0.01"), setting("momentum", "0.1"), setting("decay", "0.0001"));
}

// While the model learns from the data: the step on one picture is away, since its numbers would be of weights gone by.
async function showLearning(app, body) {
  const { training } = await app.connection.ask("training");
  replace(body, settings(app, body, training), livePanel(app));
}

// Whether the panel that stands shows the learning, and has its newest numbers now: nothing is to be made anew.
export function refreshTraining(app) {
  return learns() && !$("#sgd-step") && refreshLive(app);
}

function selected(app) {
  const { layer } = app.store.state;
  const node = app.model.byName.get(layer) ?? app.model.nodes.find((each) => Object.keys(each.parameters).length);
  if (!node || !Object.keys(node.parameters).length) return null;
  const weight = chosenWeight(app, node);
  return { ...weight, node, full: `${node.name.split(":")[0]}.${weight.parameter}` };
}

function beats(app, outlook, weight) {
  const w = show.result?.weight ?? outlook.weight;
  const value = {
    forward: () => [app.model.className(app.store.get("frame").predicted)],
    loss: () => ["J = ", num(show.result?.loss_before ?? outlook.loss_before, { text: short(show.result?.loss_before ?? outlook.loss_before, 5) })],
    backward: () => ["δ = ∂J/∂u"],
    gradient: () => (w ? ["g = ", num(w.g, { kind: "gradient" })] : []),
    decay: () => (w ? ["λ·w = ", num(w.decay_term)] : []),
    momentum: () => (w ? ["μ·v = ", num(w.momentum_term), "  v = ", num(w.v)] : []),
    weight: () => (w ? [num(w.w, { kind: "weight" }), ` − η·v = `, num(w.new_w, { kind: "weight", text: short(w.new_w, 6) })] : []),
  };
  const list = BEATS.map((name, index) => h(`li${index === show.beat ? ".now" : ""}${index <= show.beat ? ".done" : ""}`, { "data-beat": name, "aria-current": index === show.beat ? "step" : null },
    h("span.mark", { "aria-hidden": "true" }, index < show.beat || (index === show.beat && !show.playing) ? "✓" : "·"), h("span", {}, t(`beat_${name}`)), h("span.small", {}, value[name]())));
  return h("div", {}, h("p.small.soft", {}, weight ? t("beats_of", { weight: `${weight.full}[${weight.index.join(", ")}]` }) : ""), h("ol.beats", { id: "beats" }, list));
}

function compare(app, outlook) {
  const both = outlook.probabilities_before.map((was, index) => [index, was, outlook.probabilities_after[index]]);
  both.sort((a, b) => Math.max(b[1], b[2]) - Math.max(a[1], a[2]));
  return h("div.compare", { id: "compare" }, both.slice(0, 4).flatMap(([index, was, will]) => {
    const a = h("span.was");
    const b = h("span.will");
    a.style.width = `${was * 100}%`;
    b.style.width = `${will * 100}%`;
    return [h("span", {}, app.model.className(index) + (index === outlook.target ? " ◂" : "")), h("span.track", {}, a, b), num(was, { text: percent(was) }), num(will, { text: `→ ${percent(will)}`, kind: "delta" })];
  }));
}

function moved(result) {
  return h("details", {}, h("summary", {}, t("how_far")), h("table.sum", {},
    h("thead", {}, h("tr", {}, h("th", {}, t("parameter")), h("th", {}, "‖g‖"), h("th", {}, "‖Δw‖/‖w‖"))),
    h("tbody", {}, result.moved.map((each) => h("tr.term", {}, h("td.where", {}, each.parameter), h("td", {}, num(each.gradient, { text: short(each.gradient, 3) })), h("td", {}, num(each.change / (each.weight || 1), { text: short(each.change / (each.weight || 1), 3) })))))));
}

async function step(app, body, asked) {
  if (show.playing) return;
  show.playing = true;
  try {
    show.result = await app.connection.ask("step", asked);
    const pause = app.stage.reduced.matches || app.store.get("speed") === 0 ? 0 : 420 / app.store.get("speed");
    for (let beat = 0; beat < BEATS.length; beat++) {
      show.beat = beat;
      const list = body.querySelector("#beats");
      if (list) list.replaceWith(beats(app, show.outlook, selected(app)).querySelector("#beats"));
      sweep(app, BEATS[beat]);
      if (pause) await new Promise((done) => setTimeout(done, pause));
    }
    await app.frames.refresh();
    show.version = app.store.get("frame").version;
  } finally {
    show.playing = false;
  }
  await app.ondetail();
  if (show.result) say(t("say_step", { before: short(show.result.loss_before), after: short(show.result.loss_after) }));
}

// The layer heads light up in the order in which the pass reaches them.
function sweep(app, beat) {
  const heads = [...document.querySelectorAll("#heads button")];
  if (!heads.length || app.stage.reduced.matches) return;
  if (beat !== "forward" && beat !== "backward") return;
  const order = beat === "forward" ? heads : heads.reverse();
  const pause = 380 / order.length / Math.max(0.25, app.store.get("speed"));
  order.forEach((head, index) => setTimeout(() => {
    head.setAttribute("aria-pressed", "true");
    setTimeout(() => head.removeAttribute("aria-pressed"), 160);
  }, index * pause));
}

async function rewind(app, body) {
  await app.connection.ask("rewind");
  await attachLive(app);
  show.beat = -1;
  show.result = null;
  await app.frames.refresh();
  await showTraining(app, body);
  await app.ondetail();
}
