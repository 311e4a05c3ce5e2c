// The complete sum of one unit's value, by kind of layer.

import { functionOf } from "./functions.js";
import { linksOf, normaliser } from "./kinds.js";
import { line } from "./sums.js";
import { indexOf, placeOf } from "./tensor.js";
import { pooled, read, winner } from "./windows.js";

const WX = ["w", "x", "w·x"];

const at = (x, index) => x.data[placeOf(x.shape, index)];

export function explainForward(layer, index) {
  const { node } = layer;
  const found = WRITERS[node.family](layer, index);
  return { layer: node.name, direction: "forward", family: node.family, index, value: at(layer.y, index), origins: node.sources, ...found };
}

function ended(symbol, layer, index) {
  return line("=", symbol, at(layer.y, index));
}

function bias(node, map) {
  return node.tensors.bias ? [line("+", "b", node.tensors.bias.data[map])] : [];
}

export function kernelPlace(node, link, place) {
  const [rows, columns] = node.window.kernel;
  const [y, x] = node.op.flip ? [rows - 1 - place[0], columns - 1 - place[1]] : place;
  return { weight: [...link.leading, y, x], value: node.tensors.weight.data[link.at + y * columns + x] };
}

function conv(layer, index) {
  const { node, inputs: [x] } = layer;
  const positions = read(node.window, index.slice(1), x.shape.slice(1));
  const terms = [];
  for (const link of linksOf(node)) {
    if (link.out !== index[0]) continue;
    for (const { place, at: [row, column], inside } of positions) {
      const value = inside ? at(x, [link.source, row, column]) : 0;
      const { weight, value: coefficient } = kernelPlace(node, link, place);
      terms.push({ coefficient, value, product: coefficient * value, source: [link.source, row, column], weight, padding: !inside });
    }
  }
  return { formula: "z = Σ w·x + b", headings: WX, terms, steps: [...bias(node, index[0]), ended("z", layer, index)] };
}

function linear(layer, [unit]) {
  const { node, inputs: [x] } = layer;
  const width = x.data.length;
  const terms = Array.from(x.data, (value, i) => {
    const coefficient = node.tensors.weight.data[unit * width + i];
    return { coefficient, value, product: coefficient * value, source: [i], weight: [unit, i] };
  });
  return { formula: "z = Σ w·x + b", headings: WX, terms, steps: [...bias(node, unit), ended("z", layer, [unit])] };
}

// The values of a pooling's window and the coefficient of each.
export function poolTerms({ node, inputs: [x] }, index) {
  const { positions, share } = pooled(node, index.slice(1), x.shape.slice(1));
  const values = positions.map(({ at: place, inside }) => (inside ? at(x, [index[0], ...place]) : 0));
  const extreme = node.facts.picks !== "";
  const best = extreme ? winner(values, positions.map(({ inside }) => inside), node.facts.picks === "smallest") : -1;
  return positions.map(({ at: place, inside }, k) => {
    const coefficient = extreme ? (k === best ? 1 : 0) : share;
    return { coefficient, value: values[k], product: coefficient * values[k], source: [index[0], ...place], padding: !inside };
  });
}

function pool(layer, index) {
  const { node, u } = layer;
  const steps = [ended("y", layer, index)];
  let formula = { max_pool: "y = max(x)", min_pool: "y = min(x)", sum_pool: "y = Σ x", subsample: "y = f(β·Σ x + b)" }[node.family] ?? "y = Σ x / n";
  if (node.family === "subsample") {
    const { weight, bias: shift } = node.tensors;
    steps.splice(0, 1, line("×", "β", weight.data[index[0]]), line("+", "b", shift.data[index[0]]), line("=", "u", at(u, index)), line("f", node.op.label, at(layer.y, index)));
  }
  return { formula, headings: ["c", "x", "c·x"], terms: poolTerms(layer, index), steps };
}

function batchNorm(layer, index) {
  const { node } = layer;
  const { mean, deviation, gain, shift } = normaliser(node, index[0]);
  const steps = [line("−", "μ", mean), line("÷", "√(σ²+ε)", deviation)];
  if (node.tensors.weight) steps.push(line("×", "γ", gain), line("+", "β", shift));
  return { formula: "y = γ·(x − μ)/√(σ²+ε) + β", headings: ["c", "x", "c·x"], terms: [itself(layer, index)], steps: [...steps, ended("y", layer, index)] };
}

function itself({ inputs: [x] }, index) {
  const value = at(x, index);
  return { value, product: value, source: index };
}

function softmax(layer, index) {
  const { inputs: [x] } = layer;
  const top = Math.max(...x.data);
  const terms = Array.from(x.data, (value, i) => ({ value, product: Math.exp(value - top), source: [i] }));
  const steps = [line("^", "−1", -1), line("×", "exp(z − max)", Math.exp(at(x, index) - top)), ended("p", layer, index)];
  return { formula: "p = exp(z − max) / Σ exp(z − max)", headings: ["", "z", "exp(z − max)"], terms, steps };
}

function rbf(layer, [unit]) {
  const { node, inputs: [x] } = layer;
  const terms = Array.from(x.data, (value, i) => {
    const coefficient = node.tensors.codes.data[unit * x.data.length + i];
    return { coefficient, value, product: (value - coefficient) ** 2, source: [i], weight: [unit, i] };
  });
  return { formula: "y = Σ (x − w)²", headings: ["w", "x", "(x − w)²"], terms, steps: [ended("y", layer, [unit])] };
}

function activation(layer, index) {
  const { node } = layer;
  const y = functionOf(node.op.activation).f(at(layer.u, index));
  return { formula: node.op.formula, headings: ["", "u", "u"], terms: [itself(layer, index)], steps: [line("f", node.kind, y), line("=", "y", y)] };
}

function reshape(layer, index) {
  const { node, inputs: [x] } = layer;
  const place = placeOf(node.shape, index);
  const value = x.data[place];
  return { formula: "y = x", headings: ["", "x", "x"], terms: [{ value, product: value, source: indexOf(x.shape, place) }], steps: [ended("y", layer, index)] };
}

function add(layer, index) {
  const terms = layer.inputs.map((x, origin) => ({ value: at(x, index), product: at(x, index), source: index, origin }));
  return { formula: "y = Σ x", headings: ["", "x", "x"], terms, steps: [ended("y", layer, index)] };
}

const WRITERS = {
  conv, linear, rbf, softmax, activation, add, reshape,
  identity: reshape, batch_norm: batchNorm, subsample: pool,
  max_pool: pool, min_pool: pool, mean_pool: pool, sum_pool: pool, adaptive_mean_pool: pool,
};
