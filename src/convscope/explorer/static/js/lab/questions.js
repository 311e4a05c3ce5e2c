// The lab's questions: each sets the lab, asks for a number, and tells the answer only when one was given.

import { convolve, outputSize, terms } from "./convolve.js";

const box = [[1, 1, 1], [1, 1, 1], [1, 1, 1]];
const edge = [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]];
const plain = { stride: 1, padding: 0, dilation: 1, groups: 1, transpose: false };

// settings(shape), the asked place, and answer(values, shape, settings)
export const QUESTIONS = [
  { key: "size", settings: () => ({ ...plain, kernel: box }), answer: (values, shape, settings) => outputSize(settings, shape[1], shape[2])[0] },
  { key: "same", settings: () => ({ ...plain, kernel: [...Array(5)].map(() => Array(5).fill(0.04)) }), answer: () => 2, after: (settings) => ({ ...settings, padding: 2 }) },
  { key: "stride", settings: () => ({ ...plain, kernel: box, stride: 2, padding: 1 }), answer: () => 5 },
  { key: "dilation", settings: () => ({ ...plain, kernel: box, dilation: 3 }), answer: () => 7 },
  {
    key: "sum", settings: () => ({ ...plain, kernel: edge }), place: (shape) => [0, Math.floor(shape[1] / 2) - 1, Math.floor(shape[2] / 2) - 1],
    answer: (values, shape, settings, place) => terms(values, shape, settings, ...place).reduce((sum, term) => sum + term[5] * term[6], 0),
  },
  { key: "transpose", settings: () => ({ ...plain, kernel: box, stride: 2, transpose: true }), answer: (values, shape, settings) => convolve(values, shape, settings).shape[1] },
];

export function isRight(given, answer) {
  return Number.isFinite(given) && Math.abs(given - answer) <= Math.max(1e-9, Math.abs(answer) * 0.01);
}
