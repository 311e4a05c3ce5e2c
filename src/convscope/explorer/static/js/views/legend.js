// The key to the colours, with the limits in numbers; and how fast things move.

import { $, h, num, replace } from "../core/dom.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { colours, KINDS } from "../draw/colour.js";

export function mountLegend(app) {
  const { store } = app;
  let standing = "";

  function ramp(kind) {
    const canvas = h("canvas", { width: 127, height: 1, "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    const image = new ImageData(127, 1);
    const pixels = new Uint32Array(image.data.buffer);
    for (let at = 0; at < 127; at++) pixels[at] = colours(kind)[2 + at * 2];
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // What is drawn: one quantity of every layer, or what a map that is taken apart consists of.
  function drawn() {
    const apart = app.apart?.panels.map((panel) => (panel.kind === "input" ? "activation" : panel.kind));
    return new Set(apart ?? [store.get("show")]);
  }

  // The scale of the layer looked at, where the rest of the key stands already; a map taken apart has one below each column.
  function limit() {
    if (app.apart) return [];
    const atlas = app.frames.atlases.get(store.get("layer") ?? store.get("hover")?.layer);
    return atlas ? ["± ", num(atlas.limit, { text: short(atlas.limit, 3) })] : [];
  }

  function draw() {
    const { show } = store.state;
    const kinds = drawn();
    standing = [...kinds].join();
    replace($("#legend"),
      KINDS.map((kind) => h(`div.scale${kinds.has(kind) ? "" : ".off"}`, {}, h(`span.${kind}`, {}, t(`short_${kind}`)), h("span", {}, "−"), ramp(kind), h("span", {}, "+"),
        kind === show ? h("span", { id: "legend-limit" }, limit()) : null)),
      h("span", {}, h("span.delta", {}, "▏"), t("target_mark")),
    );
    $("#legend").setAttribute("aria-label", t("legend"));
    $("#legend").setAttribute("role", "group");
  }
  store.on(["lang", "show"], draw);
  store.on(["layer", "frame"], () => replace($("#legend-limit"), limit()));
  const before = app.onselection;
  app.onselection = () => {
    const drawing = before?.();
    if ([...drawn()].join() !== standing) draw();
    else replace($("#legend-limit"), limit());
    return drawing;
  };
  const theme = app.ontheme;
  app.ontheme = () => {
    theme?.();
    draw();
  };
  draw();
}
