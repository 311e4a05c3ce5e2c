// Numbers as pictures: maps, kernels as mosaics, 8-bit tiles about zero, panels of a layer taken apart.

import { linksOf } from "./kinds.js";
import { nearSquare } from "./tensor.js";

const TILE = 28;
export const OVERVIEW_TILES = 64;
const MOSAIC = 64;

// A layer's output as pictures: {count, height, width, data}; units of a vector are maps of one cell.
export function asMaps({ shape, data }) {
  const [count, height, width] = shape.length === 3 ? shape : shape.length === 2 ? [shape[0], 1, shape[1]] : [data.length, 1, 1];
  return { count, height, width, data };
}

export function mapOf(x, number) {
  const { height, width, data } = asMaps(x);
  return { height, width, data: data.subarray(number * height * width, (number + 1) * height * width) };
}

// A vector as one picture: tiles of (height, width) in columns, as the page unfolds it.
export function vectorPicture(values, unfold = null) {
  const { columns, tile: [h, w] } = unfold ?? { columns: nearSquare(values.length)[1], tile: [1, 1] };
  const rows = Math.ceil(values.length / (h * w) / columns);
  const data = new Float64Array(rows * h * columns * w);
  for (let k = 0; k < values.length; k++) {
    const tile = Math.floor(k / (h * w));
    const row = Math.floor(tile / columns) * h + Math.floor((k % (h * w)) / w);
    data[row * columns * w + (tile % columns) * w + (k % w)] = values[k];
  }
  return { height: rows * h, width: columns * w, data };
}

// A weight, or its gradient, as one picture for each output map.
export function kernelPictures(node, { shape, data }) {
  if (shape.length === 1) return { count: shape[0], height: 1, width: 1, data };
  const pictures = [];
  if (shape.length === 2) {
    for (let row = 0; row < Math.min(shape[0], OVERVIEW_TILES); row++) pictures.push(vectorPicture(data.subarray(row * shape[1], (row + 1) * shape[1]), node.unfold));
  } else {
    const [h, w] = node.window.kernel;
    const inputs = node.op.table ? node.op.in_channels : shape[1];
    const values = Array.from({ length: node.shape[0] }, () => new Float64Array(inputs * h * w));
    for (const { out, source, at, leading } of linksOf(node)) values[out].set(data.subarray(at, at + h * w), (leading.length > 1 ? leading[1] : source) * h * w);
    for (const each of values) {
      const tiles = each.subarray(0, Math.min(inputs, MOSAIC) * h * w);
      pictures.push(vectorPicture(tiles, { columns: nearSquare(tiles.length / (h * w))[1], tile: [h, w] }));
    }
  }
  const [{ height, width }] = pictures;
  const all = new Float64Array(pictures.length * height * width);
  pictures.forEach((picture, number) => all.set(picture.data, number * height * width));
  return { count: pictures.length, height, width, data: all };
}

// The 99.5th percentile of |value|, the smallest, the largest.
export function robustLimit(values) {
  if (!values.length) return { limit: 1, low: 0, high: 0 };
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const step = Math.max(1, Math.floor(values.length / 16384));
  const sizes = [];
  for (let at = 0; at < values.length; at += step) if (Number.isFinite(values[at])) sizes.push(Math.abs(values[at]));
  const sorted = Float64Array.from(sizes).sort();
  let limit = sorted.length ? sorted[Math.floor(0.995 * (sorted.length - 1))] : 1;
  const largest = Math.max(Math.abs(low), Math.abs(high));
  if (limit < largest * 1e-3 && Number.isFinite(largest)) limit = largest;
  return { limit: limit > 0 && Number.isFinite(limit) ? limit : 1, low, high };
}

// Area means, as an adaptive pooling makes them.
export function shrunk({ height, width, data }, rows, columns) {
  if (rows === height && columns === width) return data;
  const found = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const [top, bottom] = [Math.floor((r * height) / rows), Math.ceil(((r + 1) * height) / rows)];
      const [left, right] = [Math.floor((c * width) / columns), Math.ceil(((c + 1) * width) / columns)];
      let sum = 0;
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += data[y * width + x];
      found[r * columns + c] = sum / ((bottom - top) * (right - left));
    }
  }
  return found;
}

export function fitted(height, width, side) {
  const longest = Math.max(height, width);
  if (longest <= side) return [height, width];
  return [Math.max(1, Math.round((height * side) / longest)), Math.max(1, Math.round((width * side) / longest))];
}

export function tiles(maps, start = 0, stop = OVERVIEW_TILES, side = TILE, order = null) {
  const { limit, low, high } = robustLimit(maps.data);
  const [rows, columns] = fitted(maps.height, maps.width, side);
  const chosen = (order ?? Array.from({ length: maps.count }, (_, at) => at)).slice(start, stop);
  const data = new Uint8Array(chosen.length * rows * columns);
  const area = maps.height * maps.width;
  chosen.forEach((number, place) => {
    const picture = { height: maps.height, width: maps.width, data: maps.data.subarray(number * area, (number + 1) * area) };
    shrunk(picture, rows, columns).forEach((value, at) => {
      data[place * rows * columns + at] = 128 + Math.min(127, Math.max(-127, Math.round((value / limit) * 127) || 0));
    });
  });
  return { data, described: { count: chosen.length, total: maps.count, height: rows, width: columns, full: [maps.height, maps.width], limit, low, high } };
}

// Parts one behind another in one buffer, as an answer carries them.
export function joined(parts) {
  const lengths = parts.map((part) => part.byteLength);
  const buffer = new ArrayBuffer(lengths.reduce((sum, length) => sum + length, 0));
  const offsets = [];
  let offset = 0;
  parts.forEach((part, at) => {
    new Uint8Array(buffer).set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), offset);
    offsets.push(offset);
    offset += lengths[at];
  });
  return { bytes: { buffer, start: 0 }, offsets };
}

