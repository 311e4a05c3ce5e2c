// What a saved page can be asked, by the names and with the answers of the server's protocol.

import { RequestError } from "../core/connection.js";
import { takeApart, takeBack } from "./apart.js";
import { explainBackward, explainGradient } from "./backward.js";
import { explainForward } from "./forward.js";
import { asMaps, joined, kernelPictures, mapOf, robustLimit, tiles, OVERVIEW_TILES } from "./pictures.js";
import { page } from "./sums.js";
import { sheet } from "../lesson/sheet.js";
import { pictureCanvas } from "../draw/atlas.js";
import { placeOf } from "./tensor.js";

function picturesOf(session, name, quantity, rule) {
  const layer = session.layer(name);
  if (quantity === "activation") return asMaps(layer.y);
  const back = session.snapshot.back(quantity === "delta" ? rule : "plain").get(name);
  if (quantity === "delta") return back ? asMaps(back.delta) : null;
  const { weight } = layer.node.tensors;
  const found = quantity === "weight" ? weight : back?.gradients.weight;
  return weight && found ? kernelPictures(layer.node, found) : null;
}

function state(session) {
  const { snapshot } = session;
  return {
    version: snapshot.version, predicted: snapshot.predicted, target: snapshot.target, target_chosen: session.targetChosen,
    loss_name: session.lossName, loss: snapshot.loss, label: session.label, source: session.source,
    probabilities: snapshot.probabilities, logits: snapshot.logits, steps: session.stepper.steps,
  };
}

function frame(session, { quantity = "activation", rule = "plain", layers = [] }) {
  const shape = session.plan.hello.picture_shape;
  const described = [{ layer: "input", pixels: true, shape }];
  const parts = [session.pixels];
  for (const name of layers.length ? layers : session.network.nodes.map((node) => node.name)) {
    if (name === "input") continue;
    const maps = picturesOf(session, name, quantity, rule);
    if (!maps) {
      described.push({ layer: name, none: true });
      continue;
    }
    const found = tiles(maps, 0, maps.height * maps.width === 1 ? 4096 : OVERVIEW_TILES);
    described.push({ layer: name, ...found.described, part: parts.length });
    parts.push(found.data);
  }
  const back = quantity === "delta" ? session.snapshot.back(rule).get(session.network.output) : null;
  if (back) {
    const found = tiles(inputDelta(session, rule), 0, 1);
    described.push({ layer: "input", ...found.described, part: parts.length });
    parts.push(found.data);
  }
  const { bytes, offsets } = joined(parts);
  return { quantity, rule, output_delta: back ? [...back.delta.data] : null, tiles: described.map((each) => ({ ...each, offset: offsets[each.part ?? 0] })), ...state(session), bytes };
}

// What comes back to every pixel as one map: its channels moved together.
function inputDelta(session, rule) {
  const [, height, width] = session.plan.hello.picture_shape;
  const data = new Float64Array(height * width);
  session.snapshot.pass(rule).input.data.forEach((value, at) => (data[at % data.length] += value));
  return { count: 1, height, width, data };
}

function grid(session, { layer, quantity = "activation", rule = "plain", order = "index", start = 0, stop = 512, side = 28 }) {
  const maps = picturesOf(session, layer, quantity, rule);
  if (!maps) throw new RequestError("quantity", `${layer} has no ${quantity}`);
  const area = maps.height * maps.width;
  const sizes = Array.from({ length: maps.count }, (_, number) => {
    const each = maps.data.subarray(number * area, (number + 1) * area).map(Math.abs);
    return order === "largest" ? Math.max(...each) : each.reduce((sum, value) => sum + value, 0) / area;
  });
  const ranked = sizes.map((_, number) => number);
  if (order !== "index") ranked.sort((a, b) => sizes[b] - sizes[a] || a - b);
  const dead = ranked.filter((number) => maps.data.subarray(number * area, (number + 1) * area).every((value) => value === 0)).length;
  const found = tiles(maps, start, Math.min(stop, start + 4096), side, ranked);
  const { bytes } = joined([found.data]);
  return { layer, quantity, start, ranked: ranked.slice(start, stop), dead, ...found.described, version: session.version, bytes };
}

function values(session, { layer, quantity = "activation", map = 0, rule = "plain", parameter = "weight" }) {
  const answer = (shape, data) => ({ layer, quantity, map, shape, dtype: data instanceof Float64Array ? "f8" : "f4", version: session.version, bytes: joined([data]).bytes });
  if (quantity === "weight" || quantity === "gradient") {
    const { node } = session.layer(layer);
    const found = quantity === "weight" ? node.tensors[parameter] : session.snapshot.back("plain").get(layer)?.gradients[parameter];
    if (!found || !node.parameters[parameter]) throw new RequestError("parameter", `${layer} has no ${parameter}`);
    const size = found.data.length / found.shape[0];
    return answer([1, ...found.shape.slice(1)], Float32Array.from(found.data.subarray(map * size, (map + 1) * size)));
  }
  const shape = session.plan.hello.picture_shape;
  let whole;
  if (layer === "input") whole = quantity === "delta" ? { shape: [1, ...shape.slice(1)], data: inputDelta(session, rule).data } : { shape, data: session.snapshot.x.data };
  else if (quantity === "delta") whole = session.snapshot.back(rule).get(layer)?.delta;
  else whole = quantity === "u" ? session.layer(layer).u : session.layer(layer).y;
  if (!whole) throw new RequestError("quantity", `${layer} has no ${quantity}`);
  const found = mapOf(whole, map);
  return answer([found.height, found.width], found.data.slice());
}

function explain(session, { layer, index, direction = "forward", rule = "plain", parameter = "weight", offset = 0, limit = 24 }) {
  const { snapshot } = session;
  let found;
  if (direction === "gradient") {
    const known = session.layer(layer).node.parameters[parameter];
    if (!known) throw new RequestError("parameter", `${layer} has no ${parameter}`);
    if (index.length !== known.length || index.some((at, d) => !(at >= 0 && at < known[d]))) throw new RequestError("index", `${parameter} of ${layer} is ${known.join("×")}`);
    found = page(explainGradient(snapshot, layer, parameter, index), offset, limit);
  } else {
    session.place(layer, index);
    found = page(direction === "forward" ? explainForward(session.layer(layer), index) : explainBackward(snapshot, layer, index, rule), offset, limit);
  }
  const after = direction === "forward" ? session.network.activationAfter(layer) : null;
  if (after) {
    const { y, node } = snapshot.layers.get(after);
    found.activation = { layer: after, kind: node.kind, value: y.data[placeOf(y.shape, index)] };
  }
  return { ...found, shape: session.layer(layer).node.shape, version: session.version };
}

// The sheet to fill in of one number, as the server writes it.
function handSheet(session, { layer, index, direction = "forward", rule = "plain", parameter = "weight", terms = 12, lang }) {
  const found = explain(session, { layer, index, direction, rule, parameter, limit: terms });
  const place = [direction === "gradient" ? `${layer}.${parameter}` : layer, ...index].join("/");
  const { hello } = session.plan;
  const about = { model: hello.model.name, class: session.snapshot.loss === null ? "" : hello.classes[session.snapshot.target] };
  const shell = JSON.parse(document.getElementById("convscope-sheet").textContent);
  const picture = pictureCanvas(session.pixels, hello.picture_shape).toDataURL("image/png");
  return { html: sheet(found, place, about, picture, shell, lang === "zh" ? "zh-CN" : "en") };
}

function item(session, args) {
  const { items } = session;
  let index = args.index ?? 0;
  if (args.class !== undefined) {
    const places = items.map((each, at) => [each.label, at]).filter(([label]) => label === args.class).map(([, at]) => at);
    if (!places.length) throw new RequestError("class", `none of the ${items.length} pictures in this page is of that class`);
    index = places.find((at) => at > index) ?? places[0];
  }
  const found = items[index];
  if (!found) throw new RequestError("index", `0…${items.length - 1}, a picture in this page`);
  session.show(found.pixels, { kind: "data", split: "test", index, class: found.class }, found.label);
  return frame(session, args);
}

function pixels(session, args, payload) {
  if (payload.length !== session.pixels.length) throw new RequestError("pixels", `${payload.length} bytes for a picture of ${session.pixels.length}`);
  session.show(Uint8Array.from(payload), { kind: args.kind ?? "drawn" });
  return frame(session, args);
}

function poke(session, args) {
  const [, height, width] = session.plan.hello.picture_shape;
  const changed = Uint8Array.from(session.pixels);
  changed[(args.channel * height + args.row) * width + args.column] = args.value;
  session.show(changed, { ...session.source, edited: true }, session.label);
  return frame(session, args);
}

function ask(session, args) {
  const loss = args.loss ?? session.lossName;
  if (!session.plan.hello.losses.includes(loss)) throw new RequestError("loss", `one of ${session.plan.hello.losses.join(", ")}`);
  const target = args.target ?? null;
  if (target !== null && !(target >= 0 && target < session.snapshot.logits.length)) throw new RequestError("target", `one of the ${session.snapshot.logits.length} classes`);
  Object.assign(session, { target, targetChosen: target !== null, lossName: loss });
  session.again();
  return frame(session, args);
}

function field(session, { layer, index }) {
  if (layer === "input") return session.reach.ofPixel(index);
  session.place(layer, index);
  return session.reach.ofUnit(layer, index);
}

function effective(session, { layer, index }) {
  const [, height, width] = session.plan.hello.picture_shape;
  const gradient = session.snapshot.gradientOf(layer, session.place(layer, index));
  const found = new Float32Array(height * width);
  gradient.data.forEach((value, at) => (found[at % found.length] += Math.abs(value)));
  const hit = Array.from(found, (value, at) => [value, Math.floor(at / width), at % width]).filter(([value]) => value !== 0);
  const box = hit.length ? [1, 2].map((d) => [Math.min(...hit.map((each) => each[d])), Math.max(...hit.map((each) => each[d])) + 1]) : null;
  return { layer, index, shape: [height, width], box, ...robustLimit(found), bytes: joined([found]).bytes };
}

function nudge(session, { layer, parameter = "weight", index, epsilon = 1e-3 }) {
  const { data, shape } = session.layer(layer).node.tensors[parameter];
  const place = placeOf(shape, index);
  const g = session.snapshot.back("plain").get(layer).gradients[parameter].data[place];
  const before = session.judged().loss;
  const w = data[place];
  data[place] = w + epsilon;
  const after = session.judged().loss;
  data[place] = w;
  return { before, after, change: after - before, predicted: g * epsilon, gradient: g, epsilon };
}

function preview(session, args) {
  const { snapshot, stepper } = session;
  const gradients = snapshot.gradients();
  const found = args.parameter ? { weight: stepper.preview(gradients, args.parameter, args.index) } : {};
  const after = stepper.foresee(gradients, () => session.judged());
  return { ...found, loss_before: snapshot.loss, loss_after: after.loss, probabilities_before: snapshot.probabilities, probabilities_after: after.probabilities, target: snapshot.target };
}

function step(session, args) {
  const { snapshot, stepper } = session;
  const gradients = snapshot.gradients();
  const weight = args.parameter ? stepper.preview(gradients, args.parameter, args.index) : null;
  const moved = stepper.step(gradients);
  session.again();
  return { weight, moved, loss_before: snapshot.loss, loss_after: session.snapshot.loss, training: stepper.describe() };
}

function configure(session, args) {
  for (const name of ["rate", "momentum", "decay"]) {
    if (args[name] === undefined) continue;
    if (!(args[name] >= 0 && args[name] <= (name === "momentum" ? 1 : 1e4))) throw new RequestError(name, `${name} = ${args[name]}`);
    session.stepper.settings[name] = args[name];
  }
  return { training: session.stepper.describe() };
}

function rewind(session) {
  session.stepper.rewind();
  session.again();
  return { training: session.stepper.describe() };
}

function stages(session) {
  const { mean, std, hello } = session.plan;
  const { x } = session.snapshot;
  const values = { mean: mean.map((each) => Number(each.toFixed(4))), std: std.map((each) => Number(each.toFixed(4))), low: Math.min(...x.data), high: Math.max(...x.data) };
  return { stages: [{ name: "normalise", values, shape: hello.picture_shape, offset: 0 }], source: session.source, bytes: joined([session.pixels]).bytes };
}

export const QUESTIONS = {
  hello: ({ plan }) => ({ ...plan.hello, answers: Object.keys(QUESTIONS) }),
  layout: ({ plan }) => ({ layout: plan.hello.layout }),
  sheet: handSheet,
  frame, grid, values, explain, field, effective, nudge, preview, step, configure, rewind, stages, ask, poke,
  fingerprint: ({ plan, stepper }) => ({ name: plan.hello.model.name, hash: stepper.hash() }),
  training: ({ stepper }) => ({ training: stepper.describe() }),
  show_data: item,
  show_pixels: pixels,
  elastic: (session, { layer, map = 0, direction = "forward", rule = "plain", start = 0, kernel = null }) => {
    session.layer(layer);
    const found = direction === "backward" ? takeBack(session.snapshot, layer, map, rule, start) : takeApart(session.snapshot, layer, map, start, kernel);
    return { ...found, version: session.version };
  },
};
