// The picture: draw on it, erase, set one pixel, load a file, use the camera, take the next item; and what the network says.

import { $, h, notice, num, replace, setNum, setText } from "../core/dom.js";
import { percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { told } from "../core/told.js";
import { bytes, floats } from "../core/connection.js";
import { pictureCanvas } from "../draw/atlas.js";
import { colours } from "../draw/colour.js";
import { KeyPen, draws } from "./pen.js";
import { Running } from "./running.js";
import { sentenceBox, showWords, unknownNote } from "./sentence.js";

const PAD = 404;
const VECTORS = 120; // height of a sentence's word vectors

export function mountInput(app) {
  const { store } = app;
  const side = $("#input-side");
  const canvas = h("canvas", { id: "pad", role: app.model.sentences ? "img" : "application", tabIndex: app.model.sentences ? -1 : 0 });
  let tool = "draw";
  let drawing = false;
  let pixels = null;
  let camera = null;
  let choice = null;
  let working = new Running(app);
  let asked = 0; // how often evidence was asked for
  let asking = Promise.resolve();
  let sought = "";

  function size() {
    const [, height, width] = app.model.picture_shape;
    const scale = PAD / Math.max(height, width);
    return app.model.sentences ? { height, width, down: VECTORS / height, across: PAD / width } : { height, width, down: scale, across: scale };
  }

  function paint() {
    if (!app.frames.picture) return;
    const { height, width, down, across } = size();
    canvas.width = Math.round(width * across);
    canvas.height = Math.round(height * down);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(app.frames.picture, 0, 0, canvas.width, canvas.height);
    const { evidence, field, pixel } = store.state;
    if (evidence) overlay(context, evidence);
    if (field?.boxes.input?.length === 2) {
      const [rows, columns] = field.boxes.input;
      context.strokeStyle = "#f5a83c";
      context.lineWidth = 4;
      context.strokeRect(columns[0] * across, rows[0] * down, (columns[1] - columns[0]) * across, (rows[1] - rows[0]) * down);
    }
    if (pixel) {
      context.strokeStyle = "#f5a83c";
      context.lineWidth = 3;
      context.strokeRect(pixel[1] * across, pixel[0] * down, across, down);
    }
    keys.paint(context, across, down);
    canvas.setAttribute("aria-label", t(app.model.sentences ? "vectors_label" : "pad_label"));
  }

  // an attribution, or the effective field, over the picture
  function overlay(context, found) {
    const { values, shape, limit, kind } = found;
    const layer = document.createElement("canvas");
    [layer.height, layer.width] = shape;
    const image = new ImageData(shape[1], shape[0]);
    const table = colours(kind);
    for (let at = 0; at < values.length; at++) {
      const size = Math.min(1, Math.abs(values[at]) / limit);
      const packed = table[Math.max(1, Math.min(255, Math.round((values[at] / limit) * 127) + 128))];
      image.data.set([packed & 255, (packed >> 8) & 255, (packed >> 16) & 255, 255 * Math.min(0.94, 0.1 + size * 1.5)], at * 4);
    }
    layer.getContext("2d").putImageData(image, 0, 0);
    context.fillStyle = "rgb(128 128 128 / 55%)";
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    context.drawImage(layer, 0, 0, context.canvas.width, context.canvas.height);
  }

  function at(event) {
    const rect = canvas.getBoundingClientRect();
    const { height, width } = size();
    return { x: ((event.clientX - rect.left) / rect.width) * width, y: ((event.clientY - rect.top) / rect.height) * height };
  }

  function stroke(from, to) {
    draws(pixels, app.model.picture_shape, from, to, tool === "erase");
    app.frames.picture = pictureCanvas(pixels, app.model.picture_shape);
    paint();
    sent = app.frames.change("show_pixels", { kind: "drawn" }, pixels.slice(), "pixels").catch(() => {});
  }

  function begin(place) {
    pixels = Uint8Array.from(app.frames.pixels);
    drawing = true;
    stroke(place, place);
  }

  // What the tool does to one pixel; nothing where it is a pen.
  function once(cell) {
    if (tool === "poke") return poke(cell);
    if (tool === "look") return store.set({ pixel: cell, tab: "field" }) ?? Promise.resolve();
    return null;
  }

  let sent = Promise.resolve();
  let last = null;
  const keys = new KeyPen(app, canvas, {
    size: () => app.model.picture_shape.slice(1), begin, stroke, once, paint,
    end: () => {
      drawing = false;
      return sent;
    },
    value: ([row, column]) => {
      const [channels, height, width] = app.model.picture_shape;
      return Array.from({ length: channels }, (_, channel) => (drawing ? pixels : app.frames.pixels)[(channel * height + row) * width + column]).join(", ");
    },
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (app.model.sentences) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    store.set({ evidence: null });
    last = at(event);
    if (!once([Math.floor(last.y), Math.floor(last.x)])) begin(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    const now = at(event);
    stroke(last, now);
    last = now;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drawing = false));

  function poke([row, column]) {
    const value = Number($("#poke-value").value);
    store.set({ pixel: [row, column] });
    return app.frames.change("poke", { channel: 0, row, column, value }, null, "poke");
  }

  async function upload(file, kind = "upload") {
    try {
      const answer = await fetch(`/upload?kind=${kind}&window=${app.model.window}`, { method: "POST", body: file });
      const result = await answer.json();
      if (!result.ok) {
        notice(told(result.error));
        return;
      }
    } catch {
      notice(t("upload_failed"));
      return;
    }
    await app.frames.refresh();
  }

  async function toggleCamera() {
    if (camera) {
      stopCamera();
      return;
    }
    try {
      camera = await navigator.mediaDevices.getUserMedia({ video: { width: 480, height: 480 } });
    } catch (error) {
      notice(t("camera_failed", { reason: error.message }));
      return;
    }
    const video = h("video", { id: "video", autoplay: true, muted: true, playsInline: true, "aria-label": t("camera") });
    video.srcObject = camera;
    $("#camera-box").replaceChildren(video, h("div.row", {}, h("button.button", { type: "button", id: "snap", onclick: () => snap(video) }, t("snap")), h("button.button", { type: "button", onclick: stopCamera }, t("stop"))));
  }

  function snap(video) {
    const side = Math.min(video.videoWidth, video.videoHeight);
    const shot = document.createElement("canvas");
    shot.width = shot.height = Math.min(side, 480);
    shot.getContext("2d").drawImage(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side, 0, 0, shot.width, shot.height);
    shot.toBlob((blob) => upload(blob, "camera"), "image/png");
  }

  function stopCamera() {
    camera?.getTracks().forEach((track) => track.stop());
    camera = null;
    $("#camera-box")?.replaceChildren();
  }

  function item(by) {
    const { source } = store.get("frame");
    const total = app.model.data[source.split ?? "test"];
    const index = source.kind === "data" ? (source.index + by + total) % total : 0;
    return app.frames.change("show_data", { split: source.split ?? "test", index });
  }

  function draw() {
    const button = (id, label, act, pressed = null) => h("button.button", { type: "button", id, onclick: act, "aria-pressed": pressed === null ? null : String(pressed) }, label);
    const pick = (name) => button(`tool-${name}`, t(`tool_${name}`), () => {
      tool = name;
      draw();
    }, tool === name);
    const file = h("input", { type: "file", id: "file", accept: "image/*", className: "unseen", tabIndex: -1, "aria-label": t("upload"), onchange: (event) => event.target.files[0] && upload(event.target.files[0]) });
    const { data, picture_shape: shape, sentences } = app.model;
    const focused = side.contains(document.activeElement) ? document.activeElement.id : "";
    replace(side,
      h("div.pad-box", {},
        h("div.side-title", {}, h("h2", {}, t(sentences ? "sentence" : "picture")), h("span.small.soft", { id: "input-shape" }, shape.join("×"))),
        sentences ? sentenceBox(app) : null,
        h("div.pad", {}, canvas)),
      sentences ? null : h("div.row.pad-tools", { role: "group", "aria-label": t("tools") }, pick("draw"), pick("erase"), pick("poke"), pick("look"),
        button("clear", t("clear"), () => app.frames.change("show_pixels", { kind: "blank" }, new Uint8Array(shape[0] * shape[1] * shape[2]), "pixels")),
        tool === "poke" ? h("label.field", {}, t("poke_value"), h("input", { type: "range", id: "poke-value", min: "0", max: "255", value: "255" })) : null),
      app.model.can("upload") ? h("div.row", {}, button("upload", t("upload"), () => file.click()), button("camera", t("camera"), toggleCamera), file) : null,
      h("div", { id: "camera-box" }),
      data ? h("div.row", { role: "group", "aria-label": t("data_item") },
        button("previous", "‹", () => item(-1)), button("next", "›", () => item(1)),
        button("random", t("random"), () => app.frames.change("show_data", { split: "test", index: Math.floor(Math.random() * data.test) })),
        h("label.field", {}, h("span.unseen", {}, t("next_of_class")), h("select", { id: "of-class", onchange: (event) => {
          const { source } = store.get("frame");
          if (event.target.value !== "") app.frames.change("show_data", { split: "test", class: Number(event.target.value), index: source.kind === "data" ? source.index : 0 });
        } }, h("option", { value: "" }, t("next_of_class")), data.classes.map((name, index) => h("option", { value: String(index) }, name))))) : null,
      h("div.verdict", { id: "verdict" }),
      sentences ? null : h("details", { id: "stages-box", ontoggle: (event) => event.target.open && stages() }, h("summary", {}, t("preprocessing")), h("ol.stages", { id: "stages" })),
    );
    if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
    $("#previous")?.setAttribute("aria-label", t("previous_item"));
    $("#next")?.setAttribute("aria-label", t("next_item"));
    side.setAttribute("aria-label", t(sentences ? "sentence" : "picture"));
    if (sentences) showWords(app);
    paint();
    verdict();
  }

  function verdict() {
    const { frame } = store.state;
    const box = $("#verdict");
    if (!frame || !box) return;
    if (!frame.probabilities) {
      replace(box, h("p.note", {}, t("no_classes")));
      delete box.dataset.kind;
      return;
    }
    // What can be chosen stays where it is, with the focus in it, when numbers change.
    const kind = `${store.get("lang")} ${frame.loss !== null}`;
    const standing = box.dataset.kind === kind && box.querySelector(".said-box");
    box.dataset.kind = kind;
    if (standing) {
      tellAnswer(standing, frame);
      if (frame.loss === null) return;
      targets(frame);
      $("#loss").value = frame.loss_name;
      setNum(box.querySelector(".loss .num"), frame.loss, short(frame.loss, 5));
      return;
    }
    replace(box, answerBox(frame),
    h("div.asked-box", {},
      frame.loss !== null ? h("div.choices", {},
        h("label.field", {}, t("target"), targets(frame)),
        h("label.field", {}, t("loss"), h("select", { id: "loss", onchange: (event) => app.frames.change("ask", { target: frame.target_chosen ? frame.target : null, loss: event.target.value }) },
          app.model.losses.map((name) => h("option", { value: name, selected: name === frame.loss_name }, t(`loss_${name}`)))))) : null,
      frame.loss !== null ? h("p.small.loss", {}, ...lossOf(frame)) : null,
      !app.model.can("evidence") ? null : h("div.row", { role: "group", "aria-label": t("which_strokes") }, h("span.small.soft.full", {}, t("which_strokes")),
        h("label.field", {}, t("attribution"), methods()), working.box),
      app.model.model.known_from === "model" ? null : h("p.note.warn", {}, t(`normalised_by_${app.model.model.known_from}`)),
    ));
  }

  // What the network says: made once, and told anew for every frame.
  function answerBox(frame) {
    const rows = frame.probabilities.slice(0, 4).flatMap(() => [h("span.name"), h("span.track", {}, h("span.fill")), num(0)]);
    const box = h("div.said-box", {}, h("h2", {}, t("network_says")), h("p.verdict-word", { id: "said" }), h("div.bars", {}, rows), h("p.small.soft.origin"), h("div.unknown-box"));
    tellAnswer(box, frame);
    return box;
  }

  function tellAnswer(box, frame) {
    const { source, probabilities, predicted } = frame;
    const find = (selector) => box.querySelector(selector);
    const origin = source.kind === "data" ? t("source_data", { split: t(`split_${source.split}`), index: source.index, name: source.class }) : t(`source_${source.kind}`);
    setText(find("#said"), app.model.className(predicted));
    setText(find(".origin"), origin + (source.edited ? ` · ${t("edited")}` : ""));
    const cells = find(".bars").children;
    probabilities.map((value, index) => [value, index]).sort((a, b) => b[0] - a[0]).slice(0, 4).forEach(([p, index], row) => {
      const [name, track, number] = [cells[3 * row], cells[3 * row + 1], cells[3 * row + 2]];
      setText(name, app.model.className(index));
      name.title = app.model.className(index);
      name.classList.toggle("said", index === predicted);
      track.firstChild.style.transform = `scaleX(${Number.isFinite(p) ? p.toFixed(4) : 0})`; // moves nothing else, unlike a width
      setNum(number, p, percent(p));
    });
    const note = unknownNote(source);
    if (find(".unknown-box").textContent !== (note?.textContent ?? "")) replace(find(".unknown-box"), note);
  }

  function lossOf(frame) {
    return ["J = ", num(frame.loss, { text: short(frame.loss, 5) })];
  }

  // The classes to choose from; a thousand of them are made once, not for every new picture.
  function targets(frame) {
    if (choice?.classes !== app.model.classes) {
      const select = h("select", { id: "target", onchange: (event) => app.frames.change("ask", { target: event.target.value === "" ? null : Number(event.target.value) }) },
        h("option", { value: "" }), app.model.classes.slice(0, 1000).map((name, index) => h("option", { value: String(index) }, name)));
      choice = { classes: app.model.classes, select };
    }
    const { select } = choice;
    setText(select.options[0], `${t("automatic")} (${app.model.className(frame.target)})`);
    select.value = frame.target_chosen ? String(frame.target) : "";
    return select;
  }

  // What can be asked of the picture; the first entry shows the picture alone.
  function methods() {
    const chosen = working.active ? sought : (store.get("evidence")?.method ?? "");
    return h("select", { id: "attribution", onchange: (event) => evidence(event.target.value) },
      h("option", { value: "" }, t("attribution_none")),
      app.model.attributions.map((name) => h("option", { value: name, selected: name === chosen }, t(`attribution_${name}`))));
  }

  // It takes minutes on a large network: how long it has run is told, it can be ended, and another choice ends it.
  async function evidence(method) {
    const mine = ++asked;
    working.cancel();
    await asking;
    if (mine !== asked) return;
    store.set({ evidence: null });
    if (!method) return;
    sought = method;
    if (!working.box.isConnected) verdict();
    const work = working.run(async () => {
      const answer = await working.ask("evidence", { method });
      if (mine === asked) store.set({ evidence: { method, values: floats(answer), shape: answer.shape, limit: answer.limit, kind: "activation" } });
    });
    asking = work.catch(() => {});
    await work.finally(chosenMethod);
  }

  function chosenMethod() {
    const select = $("#attribution");
    const method = store.get("evidence")?.method;
    if (select) select.value = app.model.attributions.includes(method) ? method : "";
  }
  app.showEvidence = evidence;
  app.setTool = (name) => {
    tool = name;
    draw();
  };

  async function stages() {
    if (!$("#stages-box")?.open) return;
    const answer = await app.connection.ask("stages");
    const list = answer.stages.map((stage, index) => {
      const [channels, height, width] = stage.shape;
      const picture = pictureCanvas(bytes(answer, stage.offset, channels * height * width), stage.shape);
      picture.setAttribute("aria-hidden", "true");
      const { values } = stage;
      const text = {
        original: () => t("stage_original", { shape: values.shape.join("×") }),
        on_black: () => t("stage_on_black"),
        inverted: () => t("stage_inverted"),
        centred: () => t("stage_centred"),
        channels: () => t("stage_channels", { channels: values.channels }),
        size: () => t("stage_size", { fit: t(`fit_${values.fit}`), size: values.size.join("×") }),
        normalise: () => t("stage_normalise", { mean: values.mean.join(", "), std: values.std.join(", "), low: short(values.low, 3), high: short(values.high, 3) }),
      }[stage.name]();
      return h("li", {}, picture, h("span", {}, `${index + 1}. ${text}`));
    });
    replace($("#stages"), list);
  }

  side.addEventListener("dragover", (event) => {
    event.preventDefault();
    side.classList.add("drop");
  });
  side.addEventListener("dragleave", () => side.classList.remove("drop"));
  side.addEventListener("drop", (event) => {
    event.preventDefault();
    side.classList.remove("drop");
    if (event.dataTransfer.files[0] && app.model.can("upload")) upload(event.dataTransfer.files[0]);
  });

  store.on(["lang"], () => {
    if (!working.active) working = new Running(app); // its words are of the language that it was made in
    draw();
  });
  store.on(["frame"], () => {
    if (app.model.sentences) showWords(app);
    if (!drawing) paint();
    verdict();
    stages();
  });
  store.on(["evidence", "field", "pixel"], paint);
  store.on(["evidence"], () => working.active || chosenMethod());
  draw();
}
