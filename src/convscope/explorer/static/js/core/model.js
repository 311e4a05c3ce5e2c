// The model as the server describes it, and where its units and maps stand: indices ↔ cells of a picture.

import { isVector, mapCount, mapSize } from "../draw/columns.js";
import { t } from "./i18n.js";

export class Model {
  constructor(hello) {
    Object.assign(this, hello);
    this.byName = new Map(hello.nodes.map((node) => [node.name, node]));
  }

  // Whether the data source answers a question; a server answers all, a page saved to a file those that it can compute.
  can(question) {
    return !this.answers || this.answers.includes(question);
  }

  // What is true of every layer of a family, from the server's own table.
  facts(family) {
    return this.families[family] ?? this.families.other;
  }

  sizeOf(name) {
    return name === "input" ? this.picture_shape.slice(1) : mapSize(this.byName.get(name).shape);
  }

  countOf(name) {
    return name === "input" ? 1 : mapCount(this.byName.get(name).shape);
  }

  // A unit's index in the layer's output ↔ its cell in a map.
  unitOf(name, map, cell) {
    const { shape } = this.byName.get(name);
    if (shape.length <= 1) return shape.length ? [map] : [];
    if (shape.length === 2) return [map, cell[1]];
    if (shape.length === 3) return [map, cell[0], cell[1]];
    return [map, Math.floor(cell[0] / shape[2]), cell[0] % shape[2], cell[1]];
  }

  cellOf(name, unit) {
    const { shape } = this.byName.get(name);
    if (shape.length <= 1) return [0, 0];
    if (shape.length === 2) return [0, unit[1]];
    if (shape.length === 3) return [unit[1], unit[2]];
    return [unit[1] * shape[2] + unit[2], unit[3]];
  }

  // Where unit k of a vector stands in the picture that it is laid out as.
  unfolded(name, k) {
    const unfold = this.byName.get(name).unfold ?? { columns: 1, tile: [1, 1] };
    const [h, w] = unfold.tile;
    const tile = Math.floor(k / (h * w));
    const inside = k % (h * w);
    return [Math.floor(tile / unfold.columns) * h + Math.floor(inside / w), (tile % unfold.columns) * w + (inside % w)];
  }

  folded(name, row, column) {
    const unfold = this.byName.get(name).unfold ?? { columns: 1, tile: [1, 1] };
    const [h, w] = unfold.tile;
    const tile = Math.floor(row / h) * unfold.columns + Math.floor(column / w);
    return tile * h * w + (row % h) * w + (column % w);
  }

  className(number) {
    return this.classes[number] ?? String(number);
  }

  mapName(layer, map) {
    if (layer === "input") return "";
    const node = this.byName.get(layer);
    if (layer === this.output && isVector(node.shape)) return this.className(map);
    return isVector(node.shape) ? t("unit_n", { n: map }) : t("map_n", { n: map });
  }

  familyName(node) {
    return t(`family_${node.family}`);
  }

  shapeText(shape) {
    return shape.join("×") || "1";
  }
}
