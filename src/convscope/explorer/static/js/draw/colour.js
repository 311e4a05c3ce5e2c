// One zero-centred colour map for each kind of number, all with the same zero. The hue pairs are ColorBrewer's RdBu,
// BrBG, PuOr and PiYG, which stay apart under every common colour-vision deficiency.

const PAIRS = {
  light: {
    zero: [246, 244, 239],
    activation: { minus: ["#f0a48c", "#b2261f"], plus: ["#8fbfe0", "#1a539c"] },
    weight: { minus: ["#dfba74", "#8a520c"], plus: ["#7fcabf", "#0d665c"] },
    delta: { minus: ["#f7ba6c", "#b45806"], plus: ["#b4a8d4", "#54278f"] },
    gradient: { minus: ["#b3d987", "#3f7d16"], plus: ["#eeb0d5", "#b31b78"] },
  },
  dark: {
    zero: [33, 37, 44],
    activation: { minus: ["#a8483c", "#ff9d8a"], plus: ["#3470b0", "#9cccff"] },
    weight: { minus: ["#8a6426", "#eec27a"], plus: ["#217a6d", "#86e6d5"] },
    delta: { minus: ["#a5631b", "#ffbe70"], plus: ["#6a4fa8", "#cbb6ff"] },
    gradient: { minus: ["#54822b", "#b5e67f"], plus: ["#a03a78", "#ffa5d8"] },
  },
};

export const KINDS = ["activation", "delta", "weight", "gradient"];

let theme = "light";
let tables = build("light");

export function setColours(name) {
  theme = name;
  tables = build(name);
}

export function colours(kind) {
  return tables[kind] ?? tables.activation;
}

export function ends(kind) {
  const pair = PAIRS[theme][kind] ?? PAIRS[theme].activation;
  return { minus: pair.minus[1], plus: pair.plus[1] };
}

export function colourAt(kind, value, limit) {
  const level = Math.max(-127, Math.min(127, Math.round((value / limit) * 127))) + 128;
  const packed = colours(kind)[level];
  return `rgb(${packed & 255} ${(packed >> 8) & 255} ${(packed >> 16) & 255})`;
}

// Ink that can be read on a cell of this value.
export function inkOn(kind, value, limit) {
  const level = Math.max(-127, Math.min(127, Math.round((value / limit) * 127))) + 128;
  const packed = colours(kind)[level];
  const light = 0.299 * (packed & 255) + 0.587 * ((packed >> 8) & 255) + 0.114 * ((packed >> 16) & 255);
  return light > 140 ? "#16191d" : "#ffffff";
}

function build(name) {
  const found = {};
  const { zero } = PAIRS[name];
  for (const kind of KINDS) {
    const table = new Uint32Array(256);
    for (let level = 0; level < 256; level++) {
      const size = Math.min(127, Math.abs(level - 128)) / 127;
      const [middle, end] = PAIRS[name][kind][level < 128 ? "minus" : "plus"].map(parse);
      const colour = size < 0.5 ? mix(zero, middle, size * 2) : mix(middle, end, size * 2 - 1);
      table[level] = 0xff000000 | (colour[2] << 16) | (colour[1] << 8) | colour[0];
    }
    found[kind] = table;
  }
  return found;
}

function parse(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

function mix(from, to, part) {
  return from.map((value, index) => Math.round(value + (to[index] - value) * part));
}
