// The convolution lab: the picture shown, a kernel of one's own, and every setting; the sum behind each output cell; and
// questions that let one predict before they reveal.

import { $, byKeys, h, num, replace, say } from "../core/dom.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { floatsAtlas, pictureCanvas } from "../draw/atlas.js";
import { palette } from "../draw/palette.js";
import { LIMITS, convolve, terms, wrong } from "../lab/convolve.js";
import { QUESTIONS, isRight } from "../lab/questions.js";

const KERNELS = {
  box: [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
  edge: [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
  sharpen: [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
  laplace: [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
};
const state = { kernel: KERNELS.edge, stride: 1, padding: 1, dilation: 1, groups: 1, transpose: false, cell: null, question: null, reveal: null };
const MOST = 64; // pixels a side: what the eye can follow, and a page can work out at once

// "stride,padding,dilation,groups,transpose;kernel", as the address has it.
function packed({ stride, padding, dilation, groups, transpose, kernel }) {
  return `${[stride, padding, dilation, groups, Number(transpose)]};${kernel.flat()}`;
}

function unpack(text) {
  const [places, weights] = text.split(";").map((part) => part.split(",").map(Number));
  const size = Math.sqrt(weights?.length ?? 0);
  if (places.length !== 5 || size > LIMITS.size || !Number.isInteger(size) || ![...places, ...weights].every(Number.isFinite)) return {};
  const [stride, padding, dilation, groups, transpose] = places;
  return { stride, padding, dilation, groups, transpose: transpose === 1, kernel: [...Array(size)].map((_, row) => weights.slice(row * size, (row + 1) * size)) };
}

export async function showLab(app, body) {
  const set = app.store.get("lab");
  if (set && set !== packed(state)) Object.assign(state, unpack(set));
  const picture = input(app);
  const out = h("div", { id: "lab-out" });
  const sum = h("div", { id: "lab-sum" });
  const asked = h("div", { id: "lab-question" });
  const settings = () => ({ kernel: state.kernel, stride: state.stride, padding: state.padding, dilation: state.dilation, groups: state.groups, transpose: state.transpose });
  const draw = () => {
    const hidden = state.question !== null && state.reveal === null;
    const problem = wrong(settings(), picture.shape);
    app.lab = { settings: settings(), shape: picture.shape, values: picture.values, result: null };
    if (problem) replace(out, h("p.note.warn", { id: "lab-wrong" }, told(problem)));
    else if (hidden) replace(out, h("p.note", {}, t("lab_hidden")));
    else {
      app.lab.result = convolve(picture.values, picture.shape, settings());
      replace(out, result(app.lab.result));
    }
    if (problem || hidden) replace(sum);
    else cellSum();
  };
  const result = ({ values, shape }) => {
    const [maps, rows, columns] = shape;
    const limit = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
    return [
      h("p.small", { id: "lab-size" }, `${state.transpose ? "(n − 1)·s − 2p + d·(k − 1) + 1" : "⌊(n + 2p − d·(k − 1) − 1) / s⌋ + 1"} = `, num(rows, { text: String(rows) }), " × ", num(columns, { text: String(columns) })),
      h("div.grid3", {}, [...Array(maps)].map((_, map) => {
        const canvas = h("canvas.atlas.lab-map", { width: columns, height: rows, tabIndex: 0, role: "img", "aria-label": t("lab_map", { map }) });
        const paint = () => {
          const context = canvas.getContext("2d");
          context.drawImage(floatsAtlas(values.subarray(map * rows * columns, (map + 1) * rows * columns), rows, columns, "activation", limit).canvas, 0, 0);
          if (state.cell?.[0] === map) {
            context.fillStyle = palette.warn;
            context.globalAlpha = 0.6;
            context.fillRect(state.cell[2], state.cell[1], 1, 1);
            context.globalAlpha = 1;
          }
        };
        const go = (cell) => {
          state.cell = cell;
          paint();
          cellSum();
        };
        canvas.addEventListener("pointermove", (event) => {
          const rect = canvas.getBoundingClientRect();
          go([map, Math.min(rows - 1, Math.floor(((event.clientY - rect.top) / rect.height) * rows)), Math.min(columns - 1, Math.floor(((event.clientX - rect.left) / rect.width) * columns))]);
        });
        canvas.addEventListener("keydown", (event) => {
          const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
          if (!step) return;
          event.preventDefault();
          event.stopPropagation();
          const [, row, column] = state.cell ?? [0, 0, 0];
          go([map, (row + step[0] + rows) % rows, (column + step[1] + columns) % columns]);
          say(`${state.cell[1]}, ${state.cell[2]}: ${short(values[(map * rows + state.cell[1]) * columns + state.cell[2]])}`);
        });
        paint();
        return canvas;
      })),
      h("p.small.soft", {}, `± ${short(limit, 3)}`),
    ];
  };
  const cellSum = () => {
    const shape = app.lab.result?.shape;
    if (!shape) return;
    const [map, row, column] = state.cell && state.cell[0] < shape[0] && state.cell[1] < shape[1] && state.cell[2] < shape[2] ? state.cell : [0, Math.floor(shape[1] / 2), Math.floor(shape[2] / 2)];
    const parts = terms(picture.values, picture.shape, settings(), map, row, column);
    const total = parts.reduce((all, term) => all + term[5] * term[6], 0);
    replace(sum,
      h("p", {}, `y[${map}, ${row}, ${column}] = `, num(total, { text: short(total, 5) })),
      h("p.num.small.lab-terms", {}, parts.length ? parts.slice(0, 49).map((term) => `${short(term[5], 3)}·${short(term[6], 3)}`).join(" + ") : t("lab_no_terms")));
  };
  const change = (values) => {
    Object.assign(state, values);
    app.store.set({ lab: packed(state) });
    showLab(app, body);
  };
  const number = (name, low, high) => h("label.field", {}, t(`lab_${name}`), h("input", { type: "number", id: `lab-${name}`, min: String(low), max: String(high), value: String(state[name]), onchange: (event) => change({ [name]: Number(event.target.value) }) }));
  const size = state.kernel.length;
  replace(body,
    h("p", {}, t("lab_text", { shape: picture.shape.join("×") }), byKeys(t("lab_keys"))),
    h("div.grid2", {}, h("figure", {}, picture.canvas), kernelEditor(size, change)),
    h("div.indices", {}, number("stride", 1, LIMITS.stride), number("padding", 0, LIMITS.padding), number("dilation", 1, LIMITS.dilation), number("groups", 1, picture.shape[0])),
    h("label.row.small", {}, h("input", { type: "checkbox", id: "lab-transpose", checked: state.transpose, onchange: (event) => change({ transpose: event.target.checked }) }), t("lab_transpose")),
    out, sum,
    h("h2", {}, t("lab_questions")), asked,
    h("p.note", {}, t("lab_note")));
  draw();
  ask(app, asked, picture, settings, change);
}

// Why these settings cannot be, in the page's language; a setting is called as its field is.
function told({ key, values }) {
  return t(key, values.name ? { ...values, name: t(`lab_${values.name}`) } : values);
}

// The picture shown, 0 … 1, shrunk to what can be worked out at once.
function input(app) {
  const [channels, height, width] = app.model.picture_shape;
  const step = Math.ceil(Math.max(height, width) / MOST);
  const rows = Math.floor(height / step);
  const columns = Math.floor(width / step);
  const values = new Float64Array(channels * rows * columns);
  const shown = new Uint8Array(values.length);
  for (let channel = 0, at = 0; channel < channels; channel++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, at++) {
        shown[at] = app.frames.pixels[(channel * height + row * step) * width + column * step];
        values[at] = shown[at] / 255;
      }
    }
  }
  const canvas = pictureCanvas(shown, [channels, rows, columns]);
  canvas.className = "atlas";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", t("picture"));
  return { values, shape: [channels, rows, columns], canvas };
}

function kernelEditor(size, change) {
  const cells = state.kernel.flatMap((row, u) => row.map((value, v) => h("input", {
    type: "number", step: "any", className: "lab-weight", value: String(value), "aria-label": `w[${u}, ${v}]`,
    onchange: (event) => change({ kernel: state.kernel.map((line, r) => line.map((each, c) => (r === u && c === v ? Number(event.target.value) || 0 : each))) }),
  })));
  const grid = h("div.lab-kernel", { role: "group", "aria-label": t("lab_kernel") }, cells);
  grid.style.gridTemplateColumns = `repeat(${size}, minmax(0, 1fr))`;
  return h("div", {},
    h("div.row.tight", {},
      h("label.field", {}, t("lab_size"), h("input", { type: "number", id: "lab-size-k", min: "1", max: String(LIMITS.size), value: String(size), onchange: (event) => {
        const k = Math.min(LIMITS.size, Math.max(1, Math.round(Number(event.target.value) || 1)));
        change({ kernel: [...Array(k)].map((_, u) => [...Array(k)].map((__, v) => state.kernel[u]?.[v] ?? 0)) });
      } })),
      h("label.field", {}, t("lab_kernel"), h("select", { id: "lab-known", onchange: (event) => KERNELS[event.target.value] && change({ kernel: KERNELS[event.target.value] }) },
        h("option", { value: "" }, t("lab_own")), Object.keys(KERNELS).map((name) => h("option", { value: name, selected: JSON.stringify(KERNELS[name]) === JSON.stringify(state.kernel) }, t(`lab_kernel_${name}`)))))),
    grid);
}

function ask(app, box, picture, settings, change) {
  if (state.question === null) {
    replace(box, h("button.button.primary", { type: "button", id: "lab-begin", onclick: () => begin(0) }, t("lab_begin")));
    return;
  }
  const question = QUESTIONS[state.question];
  const place = question.place?.(picture.shape) ?? null;
  const answer = question.answer(picture.values, picture.shape, settings(), place);
  const given = h("input", { type: "number", step: "any", id: "lab-answer", "aria-label": t("lab_answer"), onkeydown: (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // or the same Enter would press the button that is focused next
    reveal();
  } });
  const reveal = () => {
    if (given.value === "") return;
    const right = isRight(Number(given.value), answer);
    state.reveal = { right, answer, given: given.value };
    if (place) state.cell = place;
    say(t(right ? "lab_right" : "lab_not_right", { answer: short(answer, 4) }));
    change(question.after?.(settings()) ?? {});
  };
  const last = state.question === QUESTIONS.length - 1;
  const blanks = { side: picture.shape[1], row: place?.[1] ?? 0, column: place?.[2] ?? 0 };
  replace(box,
    h("p.small.soft", {}, `${state.question + 1} / ${QUESTIONS.length}`),
    h("p", { id: "lab-asked" }, t(`lab_ask_${question.key}`, blanks)),
    state.reveal === null
      ? h("div.row", {}, given, h("button.button.primary", { type: "button", id: "lab-reveal", onclick: reveal }, t("lab_reveal")))
      : [h(`p.note${state.reveal.right ? "" : ".warn"}`, { id: "lab-verdict", "data-right": String(state.reveal.right) }, t(state.reveal.right ? "lab_right" : "lab_not_right", { answer: short(answer, 4) }), " ", t(`lab_why_${question.key}`, blanks)),
        h("button.button.primary", { type: "button", id: "lab-next", onclick: () => (last ? finish() : begin(state.question + 1)) }, last ? t("lab_finish") : t("next"))]);
  (state.reveal === null ? given : $("#lab-next"))?.focus({ preventScroll: true });

  function finish() {
    state.question = state.reveal = null;
    change({});
  }
  function begin(number) {
    state.question = number;
    state.reveal = null;
    change(QUESTIONS[number].settings());
  }
}

