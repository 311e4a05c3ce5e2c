// The receptive field of the chosen unit, box and gradient; or, for a chosen pixel, the units that it reaches.

import { h, num, replace } from "../core/dom.js";
import { floats } from "../core/connection.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { cameBack } from "../frames.js";
import { where } from "./arithmetic.js";
import { copyButton, sumTable } from "./sum.js";

export async function showField(app, body) {
  const { layer, map, unit, pixel } = app.store.state;
  if (layer || pixel) app.keptField = null;
  if (unit) await ofUnit(app, body, layer, unit, map);
  else if (app.keptField) {
    app.store.set({ field: app.keptField });
    replace(body, h("p", {}, t(app.keptField.text ?? "field_text")), boxes(app.keptField), controls(app));
  }
  else if (pixel && !layer) await ofPixel(app, body, pixel);
  else {
    replace(body, h("p", {}, t("field_choose")), controls(app));
    app.store.set({ field: null });
  }
}

async function ofUnit(app, body, layer, unit) {
  const found = await app.connection.ask("field", { layer, index: unit });
  app.store.set({ field: found });
  const box = found.boxes.input;
  replace(body,
    h("p", {}, t("field_text")),
    h("dl.pairs", { id: "field-box" },
      pair(t("field_size"), found.size.join(" × ")),
      found.jump ? pair(t("field_jump"), found.jump.join(" × ")) : null,
      box ? pair(t("field_rows"), `${box[0][0]} … ${box[0][1] - 1}`, box[0].join(",")) : null,
      box?.[1] ? pair(t("field_columns"), `${box[1][0]} … ${box[1][1] - 1}`, box[1].join(",")) : null),
    found.padded && JSON.stringify(found.padded) !== JSON.stringify(box) ? h("p.note", {}, t("field_padded", { rows: `${found.padded[0][0]} … ${found.padded[0][1] - 1}`, columns: found.padded[1] ? `${found.padded[1][0]} … ${found.padded[1][1] - 1}` : "" })) : null,
    h("div.more", {}, h("button.button", { type: "button", id: "effective", onclick: () => effective(app, layer, unit) }, t("effective")),
      h("button.button", { type: "button", id: "field-overview", onclick: () => overviewWith(app, found) }, t("field_in_overview"))),
    h("p.note", {}, t("effective_text")),
    boxes(found),
  );
}

async function ofPixel(app, body, pixel) {
  const wanted = pixel.slice(-(app.model.input_shape.length - 1));
  const found = await app.connection.ask("field", { layer: "input", index: wanted });
  app.store.set({ field: found });
  replace(body, h("p", {}, t("pixel_reaches", { place: pixel.join(", ") })), boxes(found), controls(app), ...(await sentBack(app, wanted)));
}

// ∂J/∂x of the pixel as the sum of what its readers send back, for every channel; a saved page does not tell it.
async function sentBack(app, place) {
  if (app.model.answers || app.store.get("frame").loss === null || app.model.input_shape.length !== 3) return [];
  const channels = Array.from({ length: app.model.input_shape[0] }, (_, channel) => channel);
  const pages = await Promise.all(channels.map((channel) => app.connection.ask("explain", { layer: "input", index: [channel, ...place], direction: "backward", rule: app.store.get("rule"), limit: 12 })));
  const name = cameBack(app.store.get("rule"));
  return [h("h3", {}, t("pixel_delta")), ...pages.map((page, channel) => h("div", { id: `pixel-delta-${channel}` },
    h("div.result", {}, h("span.soft", {}, pages.length > 1 ? `${name} · ${channel} =` : `${name} =`), num(page.value, { text: short(page.value, 6), kind: "delta" })),
    h("div.formula", {}, page.formula),
    sumTable(page, { where: (row) => where(app, page, row), valueKind: "delta" }),
    copyButton(app, { kind: "delta", layer: "input", index: [channel, ...place], rule: app.store.get("rule") })))];
}

function controls(app) {
  const [, rows, columns] = app.model.picture_shape;
  const row = h("input", { type: "number", id: "pixel-row", min: "0", max: String(rows - 1), value: String(app.store.get("pixel")?.[0] ?? Math.floor(rows / 2)) });
  const column = h("input", { type: "number", id: "pixel-column", min: "0", max: String(columns - 1), value: String(app.store.get("pixel")?.[1] ?? Math.floor(columns / 2)) });
  return h("div.row", {}, h("label.field", {}, t("axis_row"), row), h("label.field", {}, t("axis_column"), column),
    h("button.button", { type: "button", id: "pixel-go", onclick: () => app.store.set({ layer: null, map: null, unit: null, pixel: [Number(row.value), Number(column.value)] }) }, t("what_it_reaches")));
}

async function effective(app, layer, unit) {
  const answer = await app.connection.askLatest("effective", "effective", { layer, index: unit });
  app.store.set({ evidence: { method: "effective", values: floats(answer), shape: answer.shape, limit: answer.limit, kind: "gradient", box: answer.box } });
}

export function overviewWith(app, found) {
  app.keptField = found;
  app.store.set({ layer: null, map: null, unit: null, pixel: null, tab: "field" });
}

function boxes(found) {
  const entries = Object.entries(found.boxes);
  const rows = entries.map(([name, box]) => h("tr.term", {}, h("td", {}, name === "input" ? t("input") : name), box.map((side) => h("td.num", { "data-exact": side.join(",") }, side[1] > side[0] ? `${side[0]} … ${side[1] - 1}` : "–"))));
  return h("table.sum", { id: "field-boxes" }, h("thead", {}, h("tr", {}, h("th", {}, t("layer")), h("th", {}, t("field_rows")), entries[0]?.[1].length > 1 ? h("th", {}, t("field_columns")) : null)), h("tbody", {}, rows));
}

function pair(name, text, exactly = null) {
  return [h("dt", {}, name), h("dd.num", exactly === null ? {} : { "data-exact": exactly }, text)];
}

export { num };
