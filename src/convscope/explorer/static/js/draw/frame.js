// What the server answers for a picture: its pixels, the maps of every layer, and the state that goes with them.

import { bytes } from "../core/connection.js";
import { Atlas } from "./atlas.js";

export function readFrame(answer) {
  const { tiles, bytes: _, ...state } = answer;
  const atlases = new Map();
  let pixels = null;
  for (const tile of tiles) {
    if (tile.none) continue;
    if (tile.pixels) {
      const [channels, height, width] = tile.shape;
      pixels = { data: bytes(answer, tile.offset, channels * height * width), shape: tile.shape };
      continue;
    }
    const data = bytes(answer, tile.offset, tile.count * tile.height * tile.width);
    const atlas = new Atlas(data, tile.count, tile.height, tile.width, answer.quantity);
    atlases.set(tile.layer, Object.assign(atlas, { limit: tile.limit, low: tile.low, high: tile.high }));
  }
  return { state, pixels, atlases };
}
