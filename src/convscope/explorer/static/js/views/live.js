// Learning from the data set while the page looks on: start, pause, one step, save; the loss of every step as a curve.

import { $, h, num, say } from "../core/dom.js";
import { percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { palette } from "../draw/palette.js";

const BUSY = 40; // ms of learning between two looks at the page
const live = { running: false, batch: 32, steps: 1, now: null, turn: 0 };

export async function livePanel(app) {
  if (!app.model.can("learn")) return null;
  if (!app.model.data) return h("p.note", {}, t("live_none"));
  // After a reload, and where another window has gone on, it is asked how far the model is.
  if (!live.now || (!live.running && live.now.version !== app.store.get("frame").version)) live.now = await app.connection.ask("learn", { steps: 0 });
  const { now } = live;
  const curve = h("canvas", { id: "live-curve", width: 640, height: 140, role: "img", "aria-label": t("live_curve", { count: now.losses.length }) });
  draw(curve, now.losses);
  let pressed = false; // the panel is made anew at every step: a press counts, not the click that may miss it
  const toggle = () => (live.running ? pause() : start(app));
  return h("section", { id: "live" },
    h("h2", {}, t("live")), h("p.small", {}, t("live_text")),
    h("div.row", {},
      h("button.button", { type: "button", id: "live-run", onpointerdown: () => {
        pressed = live.running;
        if (pressed) pause();
      }, onclick: () => {
        if (!pressed) toggle();
        pressed = false;
      } }, t(live.running ? "live_pause" : "live_start")),
      h("button.button", { type: "button", id: "live-one", disabled: live.running, onclick: () => once(app) }, t("live_one")),
      h("label.field", {}, t("live_batch"), h("input", { type: "number", id: "live-batch", min: "1", max: "1024", value: String(live.batch), onchange: (event) => (live.batch = Math.min(1024, Math.max(1, Math.round(Number(event.target.value)) || 32))) })),
      h("a.button", { id: "live-save", href: "/model.safetensors", download: "model.safetensors" }, t("save_model"))),
    now.losses.length ? h("p.small", {}, t("live_now", { step: now.steps, epoch: now.epoch + 1 }), " = ", num(now.losses.at(-1), { text: short(now.losses.at(-1), 4) }), ` · ${t("live_right")} `, num(now.right, { text: percent(now.right) })) : null,
    curve);
}

async function once(app) {
  const began = performance.now();
  const { turn, steps } = live;
  const answer = await app.connection.ask("learn", { steps, batch: live.batch });
  if (turn === live.turn) live.now = answer; // else it was rewound meanwhile
  const taken = (performance.now() - began) / steps;
  const focused = document.activeElement?.id;
  await app.frames.refresh();
  if (focused && document.activeElement === document.body) $(`#${focused}`)?.focus();
  return taken;
}

async function start(app) {
  live.running = true;
  try {
    while (live.running) {
      const taken = await once(app);
      live.steps = Math.min(50, Math.max(1, Math.round(BUSY / taken)));
    }
  } finally {
    live.running = false;
    live.steps = 1;
    ready();
    await app.ondetail();
    ready(); // a panel whose numbers were superseded on their way is not drawn anew
  }
  if (live.now) say(`${t("live_now", { step: live.now.steps, epoch: live.now.epoch + 1 })} = ${short(live.now.losses.at(-1), 4)}`);
}

function pause() {
  live.running = false;
}

// The buttons as they are while nothing runs.
function ready() {
  if (live.running || !$("#live-run")) return;
  $("#live-run").textContent = t("live_start");
  $("#live-one").disabled = false;
}

export function forgetLive() {
  live.running = false;
  live.now = null;
  live.turn += 1;
}

function draw(canvas, losses) {
  if (losses.length < 2) return;
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const most = Math.max(...losses, 1e-12);
  context.strokeStyle = palette.delta;
  context.lineWidth = 2;
  context.beginPath();
  losses.forEach((loss, at) => context.lineTo((at / (losses.length - 1)) * width, height - 4 - (loss / most) * (height - 8)));
  context.stroke();
}
