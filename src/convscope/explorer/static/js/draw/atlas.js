// Many small maps on one canvas: painted when the first of them comes into sight, drawn from ever after.

import { colours } from "./colour.js";

export class Atlas {
  // data: bytes about 128, tile after tile
  constructor(data, count, height, width, kind, columns = null) {
    this.count = count;
    this.height = height;
    this.width = width;
    this.columns = columns ?? Math.max(1, Math.ceil(Math.sqrt((count * height) / width)));
    this.rows = Math.max(1, Math.ceil(count / this.columns));
    this.data = data;
    this.kind = kind;
    this.painted = null;
    this.spare = null; // a canvas that nothing else draws from any more: making one takes longer than painting it
  }

  // The colours have changed: paint again at the next use.
  forget() {
    this.painted = null;
  }

  get canvas() {
    if (!this.painted) this.paint();
    return this.painted;
  }

  paint() {
    const { count, height, width, columns, rows, data } = this;
    const table = colours(this.kind);
    const fits = this.spare?.width === columns * width && this.spare.height === rows * height;
    this.painted = fits ? this.spare : document.createElement("canvas");
    this.spare = null;
    if (!fits) {
      this.painted.width = columns * width;
      this.painted.height = rows * height;
    }
    const context = this.painted.getContext("2d");
    const image = new ImageData(columns * width, rows * height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let tile = 0; tile < count; tile++) {
      const left = (tile % columns) * width;
      const top = Math.floor(tile / columns) * height;
      let at = tile * height * width;
      for (let row = 0; row < height; row++) {
        let to = (top + row) * columns * width + left;
        for (let column = 0; column < width; column++) pixels[to++] = table[data[at++]];
      }
    }
    context.putImageData(image, 0, 0);
  }

  place(tile) {
    const atlas = this;
    return {
      get canvas() {
        return atlas.canvas;
      },
      x: (tile % this.columns) * this.width,
      y: Math.floor(tile / this.columns) * this.height,
      w: this.width,
      h: this.height,
    };
  }

  whole() {
    const atlas = this;
    return {
      get canvas() {
        return atlas.canvas;
      },
      x: 0,
      y: 0,
      w: this.columns * this.width,
      h: this.rows * this.height,
    };
  }
}

const PIECE = 10; // milliseconds of painting at a time, so that a click never waits for a whole network's maps

export async function paintInPieces(atlases) {
  let began = performance.now();
  for (const atlas of atlases) {
    if (performance.now() - began > PIECE) {
      await new Promise((resume) => setTimeout(resume));
      began = performance.now();
    }
    void atlas.canvas;
  }
}

// A picture of floats, coloured about zero.
export function floatsAtlas(values, height, width, kind, limit) {
  const data = new Uint8Array(values.length);
  for (let at = 0; at < values.length; at++) {
    data[at] = Math.max(-127, Math.min(127, Math.round((values[at] / limit) * 127))) + 128;
  }
  return new Atlas(data, 1, height, width, kind, 1);
}

// The picture itself: one or three channels of bytes; of other numbers of channels the first.
// Into `spare` where that has its size.
export function pictureCanvas(pixels, [channels, height, width], spare = null) {
  const fits = spare?.width === width && spare.height === height;
  const canvas = fits ? spare : document.createElement("canvas");
  if (!fits) {
    canvas.width = width;
    canvas.height = height;
  }
  const image = new ImageData(width, height);
  const plane = height * width;
  for (let at = 0; at < plane; at++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[at * 4 + channel] = pixels[channels === 3 ? channel * plane + at : at];
    }
    image.data[at * 4 + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
