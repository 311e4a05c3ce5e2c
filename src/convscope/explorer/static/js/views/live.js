// Learning from the data set while the page looks on. The server learns and knows whether it does; the page asks for its
// newest weights, draws them, and asks again: at its own pace, which no step waits for. Pictures move 20 times a second;
// numbers, which nobody reads as fast, five times: every change of words is laid out and painted anew.

import { $, h, notice, num, replace, say, setNum, setText } from "../core/dom.js";
import { percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { palette } from "../draw/palette.js";
import { Pace } from "./pace.js";

const WORDS = 200; // ms from one change of the numbers to the next
const KEPT = 2000;
const FEW_CLASSES = 40; // above, the picture of what was mixed up would be all lines
const live = { now: null, losses: [], batch: 32, watching: false };

// Whether the server learns, or is about to end.
export function learns() {
  return live.now !== null && live.now.state !== "idle";
}

// After the page was opened, or came back to its server: what was begun goes on.
export async function attachLive(app) {
  if (!app.model.can("learn") || !app.model.data) return;
  take((await app.connection.ask("learning", asked())).learning);
  if (learns()) watch(app);
}

export function livePanel(app) {
  if (!app.model.can("learn")) return null;
  if (!app.model.data) return h("p.note", {}, t("live_none"));
  const section = h("section.learning", { id: "learning" },
    h("h2", {}, t("live")), h("p.small", {}, t("live_text")),
    h("div.row", {},
      h("button.button", { type: "button", id: "live-run", onclick: () => press(app) }),
      h("button.button", { type: "button", id: "live-one", onclick: () => once(app) }, t("live_one")),
      h("label.field", {}, t("live_batch"), h("input", { type: "number", id: "live-batch", min: "1", max: "1024", value: String(live.batch), onchange: (event) => (live.batch = Math.min(1024, Math.max(1, Math.round(Number(event.target.value)) || 32))) })),
      h("a.button", { id: "live-save", href: "/model.safetensors", download: "model.safetensors" }, t("save_model"))),
    h("p.small", { id: "live-now" }),
    h("canvas", { id: "live-curve", width: 640, height: 140, role: "img" }),
    h("div.mixed", { id: "live-mixed" }));
  fill(app, section);
  return section;
}

// The numbers of a panel that stands; false when there is none.
export function refreshLive(app) {
  const section = $("#learning");
  if (section) fill(app, section);
  return section !== null;
}

function fill(app, section) {
  const { now } = live;
  const find = (id) => section.querySelector(`#${id}`);
  setText(find("live-run"), t({ running: "live_pause", ending: "live_ending" }[now?.state] ?? "live_start"));
  find("live-run").disabled = now?.state === "ending";
  find("live-one").disabled = learns();
  if (!now) return;
  const last = live.losses.at(-1);
  tell(find("live-now"), now, last);
  find("live-curve").setAttribute("aria-label", t("live_curve", { count: live.losses.length }));
  curve(find("live-curve"), live.losses);
  mixed(app, find("live-mixed"), now);
}

// The step's number and loss, and the share of its pictures that was said right.
function tell(line, now, last) {
  if (last === undefined) {
    replace(line);
    return;
  }
  const words = [`${t("live_now", { step: now.total, epoch: now.epoch + 1 })} = `, ` · ${t("live_right")} `];
  if (!line.firstChild) replace(line, h("span"), num(last), h("span"), num(now.right));
  const [step, loss, right, share] = line.children;
  setText(step, words[0]);
  setNum(loss, last, short(last, 4));
  setText(right, words[1]);
  setNum(share, now.right, percent(now.right));
}

// Answers may overlap, and come in another order than they were made in.
function take(now) {
  const before = live.now?.run === now.run ? live.now : null;
  if (now.failed && now.failed !== before?.failed) notice(t("live_failed", { reason: now.failed }));
  if (before && (now.brief || now.steps < before.steps)) {
    live.now = { ...before, state: now.state };
    return;
  }
  const fresh = !before || now.first > before.steps;
  live.losses = fresh ? now.losses : [...live.losses, ...now.losses.slice(before.steps - now.first)].slice(-KEPT);
  live.now = now;
}

function asked() {
  return { since: live.now?.steps ?? 0, run: live.now?.run ?? -1 };
}

// One question whose answer may hold a frame. `brief`: the pictures are enough, while it goes on. → ms of the server's time
async function ask(app, op, args = {}) {
  const answer = await app.connection.ask(op, { ...args, ...asked(), ...app.frames.wanted() });
  await released();
  const was = learns();
  const words = !answer.learning.brief;
  take(answer.learning);
  if (answer.tiles) await app.frames.take(answer, words);
  if (was && !learns()) await app.ondetail(); // the single step comes back
  else if (words) refreshLive(app);
  return answer.took ?? 0;
}

// A press that is under way belongs to what stands on the page: nothing is made anew before it has ended.
let pressed = false;
const waiting = [];
window.addEventListener("pointerdown", () => (pressed = true));
for (const end of ["pointerup", "pointercancel", "blur"]) {
  window.addEventListener(end, () => setTimeout(() => {
    pressed = false;
    waiting.splice(0).forEach((go) => go());
  }));
}

function released() {
  return pressed ? new Promise((go) => waiting.push(go)) : null;
}

async function watch(app) {
  if (live.watching) return;
  live.watching = true;
  try {
    let told = 0; // when the numbers were last new
    const pace = new Pace(performance.now());
    while (learns()) {
      const began = performance.now();
      const brief = began - told < WORDS;
      if (!brief) told = began;
      const took = await ask(app, "look", { brief });
      await app.drawing; // else a panel that takes longer than a look would never stand
      const rest = pace.rest(began, performance.now(), took);
      await new Promise((done) => setTimeout(done, rest));
    }
    const last = live.losses.at(-1);
    if (last !== undefined) say(`${t("live_now", { step: live.now.total, epoch: live.now.epoch + 1 })} = ${short(last, 4)}`);
  } catch (error) {
    if (error.kind !== "lost") throw error; // else it is attached again when the server is back
    app.frames.standStill();
  } finally {
    live.watching = false;
  }
}

async function press(app) {
  take((await app.connection.ask(live.now?.state === "running" ? "pause" : "learn", { batch: live.batch, ...asked() })).learning);
  await app.ondetail();
  watch(app);
}

function once(app) {
  return ask(app, "learn_once", { batch: live.batch });
}

function curve(canvas, losses) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (losses.length < 2) return;
  const most = Math.max(...losses, 1e-12);
  context.strokeStyle = palette.delta;
  context.lineWidth = 2;
  context.beginPath();
  losses.forEach((loss, at) => context.lineTo((at / (losses.length - 1)) * width, height - 4 - (loss / most) * (height - 8)));
  context.stroke();
}

// What was said of the latest pictures: rows are the classes, columns the answers; and the mistakes made most often.
function mixed(app, box, now) {
  const classes = app.model.classes.length;
  if (!now.recent || classes > FEW_CLASSES) {
    replace(box);
    return;
  }
  let canvas = box.querySelector("canvas");
  if (!canvas) {
    canvas = h("canvas", { id: "live-matrix", width: 160, height: 160, role: "img" });
    replace(box, canvas, h("div.small", {}, h("p", {}), h("ul", {})));
  }
  const wrong = now.mixed.filter(([was, said]) => was !== said);
  const text = t("live_mixed", { count: now.recent });
  canvas.setAttribute("aria-label", text);
  setText(box.querySelector("p"), wrong.length ? `${text} ${t("live_mistakes")}` : text);
  const list = box.querySelector("ul");
  const often = wrong.slice(0, 4);
  if (list.dataset.shown !== `${often}`) {
    list.dataset.shown = `${often}`;
    replace(list, often.map(([was, said, times]) => h("li", {}, `${app.model.className(was)} → ${app.model.className(said)} · `, num(times, { text: String(times) }))));
  }
  const context = canvas.getContext("2d");
  const side = canvas.width / classes;
  context.clearRect(0, 0, canvas.width, canvas.height);
  const most = Math.max(...now.mixed.map(([, , times]) => times));
  for (const [was, said, times] of now.mixed) {
    context.globalAlpha = Math.sqrt(times / most);
    context.fillStyle = was === said ? palette.activation : palette.delta;
    context.fillRect(said * side, was * side, side, side);
  }
  context.globalAlpha = 1;
}
