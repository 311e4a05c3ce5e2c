// Where a lesson's step puts the explorer: weights, picture, class and loss, then the place and what is shown there.

import { fromBase64 } from "../offline/tensor.js";

export async function enter(app, state) {
  const { store } = app;
  await restore(app, state);
  await showPicture(app, state);
  await settleTarget(app, state);
  store.set({ tab: state.tab, show: state.show, rule: state.rule, pixel: state.pixel, weight: state.weight ?? null });
  app.selection.select(state.layer, state.map, state.unit);
  if (state.hover) store.set({ hover: { layer: state.hover.layer, map: state.hover.map, cell: state.hover.unit ? app.model.cellOf(state.hover.layer, state.hover.unit) : null, since: 0 } });
}

// The model's own weights, or those after the step's training; what the reader has changed meanwhile is taken back.
async function restore(app, { train }) {
  const { connection, model } = app;
  const wanted = train ?? null;
  if (model.can("edits") && (await connection.ask("edits")).edits.length) {
    await connection.ask("undo", { all: true });
    await app.frames.refresh();
  }
  const key = JSON.stringify(wanted);
  const steps = (await connection.ask("training")).training.steps;
  if (steps === (wanted?.steps ?? 0) && (steps === 0 || app.lessonTrained === key)) return;
  if (steps) await connection.ask("rewind");
  app.lessonTrained = key;
  if (wanted) {
    await connection.ask("configure", { rate: wanted.rate, momentum: wanted.momentum, decay: wanted.decay });
    await showPicture(app, wanted);
    await settleTarget(app, wanted);
    for (let step = 0; step < wanted.steps; step++) await connection.ask("step", {}, null, false);
  }
  await app.frames.refresh();
}

async function showPicture(app, { item, pixels }) {
  const { source } = app.store.get("frame");
  if (item !== undefined) {
    const index = app.connection.itemOf(item);
    if (source.kind === "data" && source.split === "test" && source.index === index && !source.edited) return;
    await app.frames.change("show_data", { split: "test", index });
    return;
  }
  const wanted = fromBase64(pixels);
  const now = app.frames.pixels;
  if (now.length === wanted.length && now.every((value, at) => value === wanted[at])) return;
  await app.frames.change("show_pixels", { kind: "lesson" }, wanted, "pixels");
}

// The class asked for, or what the network says itself; and the loss.
async function settleTarget(app, { target, loss }) {
  const { frame } = app.store.state;
  if (frame.loss === null) return;
  const same = target === null ? !frame.target_chosen && frame.label === null : frame.target === target;
  if (same && frame.loss_name === loss) return;
  await app.frames.change("ask", { target, loss });
}
