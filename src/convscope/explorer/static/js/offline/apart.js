// One map taken apart as pictures: what comes in, the weights, the partial results, what goes out; forward and backward.

import { KINDS, linksOf } from "./kinds.js";
import { fitted, joined, mapOf, robustLimit, shrunk, vectorPicture } from "./pictures.js";

const ROWS = 8;
const EXACT_SIDE = 64;

export function takeApart(snapshot, name, number, start = 0, kernel = null) {
  const layer = snapshot.layers.get(name);
  const { node } = layer;
  const after = snapshot.network.activationAfter(name);
  const { panels, count, first = start } = sources(layer, number, start, kernel);
  const shown = ofMany(first, panels, count);
  panels.push(panel("out", 0, "activation", name, number, mapOf(layer.y, number)));
  if (after) panels.push(panel("activation", 0, "activation", after, number, mapOf(snapshot.layers.get(after).y, number)));
  const bias = ["conv", "linear"].includes(node.family) && node.tensors.bias ? node.tensors.bias.data[number] : null;
  return packed(panels, { layer: name, map: number, family: node.family, direction: "forward", ...shown, flip: Boolean(node.op.flip), bias, activation: after, window: node.shape.length === 3 ? node.window : null });
}

function panel(role, row, kind, layer, map, picture, extra = {}) {
  return { role, row, kind, layer, map, picture, unfold: false, place: [], ...extra };
}

function packed(panels, header) {
  const values = panels.map(({ picture }) => {
    const [height, width] = fitted(picture.height, picture.width, EXACT_SIDE);
    return { height, width, data: Float32Array.from(shrunk(picture, height, width)) };
  });
  const { bytes, offsets } = joined(values.map(({ data }) => data));
  const described = panels.map(({ picture, ...rest }, at) => ({
    ...rest, height: values[at].height, width: values[at].width, full: [picture.height, picture.width], ...robustLimit(picture.data), offset: offsets[at],
  }));
  return { ...header, panels: described, bytes };
}

// Which of the sources are drawn: as many as fit, from place `first` of them by size.
function ofMany(first, panels, count) {
  return { first, count, rows: ROWS, more: count - panels.filter(({ role }) => role === "source").length };
}

const kindOf = (node) => (node.sources[0] === "input" ? "input" : "activation");

function sources(layer, number, start, kernel) {
  const { node, inputs } = layer;
  if (node.family === "conv") return convolution(layer, number, start, kernel);
  if (node.family === "linear" || node.family === "rbf") {
    const x = inputs[0].data;
    const all = (node.tensors.weight ?? node.tensors.codes).data;
    const row = all.subarray(number * x.length, (number + 1) * x.length);
    const products = x.map((value, at) => (node.family === "rbf" ? (value - row[at]) ** 2 : value * row[at]));
    const vector = (role, values, kind, extra = {}) => panel(role, 0, kind, node.sources[0], 0, vectorPicture(values, node.unfold), { unfold: true, ...extra });
    return { panels: [vector("source", x, kindOf(node)), vector("kernel", row, "weight", { place: [number] }), vector("partial", products, "activation")], count: 1 };
  }
  if (node.family === "softmax" || node.family === "reshape") {
    return { panels: [panel("source", 0, "activation", node.sources[0], 0, vectorPicture(inputs[0].data, node.unfold), { unfold: true })], count: 1 };
  }
  const shown = inputs.map((_, at) => at).slice(start, start + ROWS);
  return { panels: shown.map((at, row) => panel("source", row, kindOf(node), node.sources[at], number, mapOf(inputs[at], number))), count: inputs.length };
}

// The rows that matter most, in their order; what the others add up to is one picture.
function chosenRows(order, start) {
  return order.slice(start, start + ROWS).sort((a, b) => a - b);
}

function bySize(partials) {
  const sizes = partials.map(({ data }, at) => [data.reduce((sum, value) => sum + Math.abs(value), 0), at]);
  return sizes.sort((a, b) => b[0] - a[0] || a[1] - b[1]).map(([, at]) => at);
}

function summed(pictures, { height, width }) {
  const data = new Float64Array(height * width);
  for (const each of pictures) each.data.forEach((value, at) => (data[at] += value));
  return { height, width, data };
}

// One kernel in the order in which it lies on the picture.
function kernelOf(node, { at }, rotated = false) {
  const [height, width] = node.window.kernel;
  const data = node.tensors.weight.data.slice(at, at + height * width);
  return { height, width, data: Boolean(node.op.flip) === rotated ? data : data.reverse() };
}

// A convolution with one kernel alone.
function alone(node, link, outShape) {
  return { ...node, shape: outShape, op: { ...node.op, groups: 1, table: null }, links: [{ ...link, out: 0, source: 0 }], tensors: { weight: node.tensors.weight } };
}

function convolution({ node, inputs: [x] }, number, start, kernel) {
  const links = linksOf(node).filter(({ out }) => out === number);
  const [, height, width] = node.shape;
  const partials = links.map((link) => ({ height, width, data: KINDS.conv.run(alone(node, link, [1, height, width]), [oneMap(x, link.source)]).y.data }));
  const order = bySize(partials);
  const rank = kernel ? order.findIndex((at) => links[at].leading.join() === kernel.join()) : -1;
  const first = rank < 0 ? start : Math.floor(rank / ROWS) * ROWS;
  const chosen = chosenRows(order, first);
  const panels = chosen.flatMap((at, row) => [
    panel("source", row, kindOf(node), node.sources[0], links[at].source, mapOf(x, links[at].source)),
    panel("kernel", row, "weight", node.name, number, kernelOf(node, links[at]), { place: links[at].leading }),
    panel("partial", row, "activation", node.name, number, partials[at]),
  ]);
  const left = partials.filter((_, at) => !chosen.includes(at));
  if (left.length) panels.push(panel("rest", chosen.length, "activation", node.name, number, summed(left, partials[0])));
  return { panels, count: links.length, first };
}

function oneMap(x, number) {
  const { height, width, data } = mapOf(x, number);
  return { shape: [1, height, width], data };
}

export function takeBack(snapshot, name, number, rule, start = 0) {
  const back = snapshot.back(rule);
  const { network, layers } = snapshot;
  const layer = layers.get(name);
  const own = layer.node.facts.slope;
  const through = own ? name : network.activationAfter(name);
  const following = network.readers.get(through ?? name);
  const [first] = following;
  let found = { panels: [], count: following.length, window: null, family: following.length > 1 ? "add" : "other" };
  const alonereader = following.length === 1 ? layers.get(first[0]) : null;
  if (alonereader?.node.family === "conv") found = throughConv(alonereader, layer, number, back.get(first[0]).delta, start);
  else if (alonereader?.node.family === "linear" && layer.node.shape.length === 1) found = throughLinear(alonereader, number, back.get(first[0]).delta);
  else found.panels = following.slice(start, start + ROWS).map(([reader], row) => readerPanel(reader, row, number, back.get(reader).delta));
  const shown = ofMany(start, found.panels, found.count);
  const { delta } = back.get(name);
  if (through && rule === "plain") {
    found.panels.push(panel("out", 0, "delta", through, number, mapOf(back.get(through).upstream, number)));
    found.panels.push(panel("activation", 0, "delta", name, number, mapOf(delta, number)));
  } else found.panels.push(panel("out", 0, "delta", name, number, mapOf(delta, number)));
  return packed(found.panels, { layer: name, map: number, family: found.family, direction: "backward", ...shown, flip: true, bias: null, activation: through, window: found.window });
}

function readerPanel(reader, row, number, delta) {
  if (delta.shape.length === 1) return panel("source", row, "delta", reader, 0, vectorPicture(delta.data), { unfold: true });
  const at = number < delta.shape[0] ? number : 0;
  return panel("source", row, "delta", reader, at, mapOf(delta, at));
}

function throughLinear({ node, inputs: [x] }, number, delta) {
  const column = delta.data.map((_, unit) => node.tensors.weight.data[unit * x.data.length + number]);
  const vector = (role, kind, values) => panel(role, 0, kind, node.name, 0, vectorPicture(values), { unfold: true });
  return { panels: [vector("source", "delta", delta.data), vector("kernel", "weight", column), vector("partial", "delta", delta.data.map((value, at) => value * column[at]))], count: 1, window: null, family: "linear" };
}

function throughConv({ node, inputs: [x] }, layer, number, delta, start) {
  const links = linksOf(node).filter(({ source }) => source === number);
  const [, height, width] = x.shape;
  const [, outRows, outColumns] = node.shape;
  const partials = links.map((link) => {
    const single = { node: alone(node, link, [1, outRows, outColumns]), inputs: [oneMap(x, number)] };
    return { height, width, data: KINDS.conv.back(single, oneMap(delta, link.out)).inputs[0].data };
  });
  const chosen = chosenRows(bySize(partials), start);
  const panels = chosen.flatMap((at, row) => [
    panel("source", row, "delta", node.name, links[at].out, mapOf(delta, links[at].out)),
    panel("kernel", row, "weight", node.name, links[at].out, kernelOf(node, links[at], true), { place: links[at].leading }),
    panel("partial", row, "delta", layer.node.name, number, partials[at]),
  ]);
  const left = partials.filter((_, at) => !chosen.includes(at));
  if (left.length) panels.push(panel("rest", chosen.length, "delta", layer.node.name, number, summed(left, partials[0])));
  const { kernel, stride, padding, dilation } = node.window;
  const window = stride.every((step) => step === 1) ? { kernel, stride: [1, 1], padding: kernel.map((k, d) => dilation[d] * (k - 1) - padding[d]), dilation } : null;
  return { panels, count: links.length, window, family: "conv" };
}
