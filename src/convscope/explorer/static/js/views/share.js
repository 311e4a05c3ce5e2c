// Taking something home: the address, the picture as PNG or SVG, a page that works without the server.

import { RequestError } from "../core/connection.js";
import { $, h, notice } from "../core/dom.js";
import { percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { told } from "../core/told.js";
import { palette } from "../draw/palette.js";
import { SvgPainter } from "../draw/painter.js";

export function openShare(app, button) {
  const old = $(".menu");
  if (old) {
    close();
    return;
  }
  const entry = (id, text, act) => h("button", { type: "button", role: "menuitem", id, onclick: () => {
    close();
    act();
  } }, text);
  const served = app.model.can("upload"); // a page saved to a file is one already, and has no files beside it
  const menu = h("div.menu", { role: "menu", "aria-label": t("share") },
    entry("share-link", t("copy_link"), () => copyLink(app)),
    entry("share-png", t("save_png"), () => savePng(app)),
    entry("share-svg", t("save_svg"), () => save(new Blob([svg(app)], { type: "image/svg+xml" }), "convscope.svg")),
    served && entry("share-html", t("save_html"), () => saveHtml(app)),
    served && entry("share-npy", t("save_npy"), () => download(app, "/input.npy", "input.npy")),
    served && entry("share-model", t("save_model"), () => download(app, "/model.safetensors", "model.safetensors")),
    served && entry("share-input", t("save_input"), () => download(app, "/input.png", "input.png")),
  );
  function close() {
    $(".menu")?.remove();
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", away);
    button.focus();
  }
  function away(event) {
    if (!menu.contains(event.target) && event.target !== button) close();
  }
  menu.addEventListener("keydown", (event) => {
    const stops = [...menu.children];
    const at = stops.indexOf(document.activeElement);
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    }
    if (event.key === "ArrowDown") stops[(at + 1) % stops.length].focus();
    if (event.key === "ArrowUp") stops[(at - 1 + stops.length) % stops.length].focus();
  });
  document.body.append(menu);
  button.setAttribute("aria-expanded", "true");
  document.addEventListener("pointerdown", away);
  menu.firstChild.focus();
}

export async function copyText(text, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  notice(done);
}

// The address says which model it is of, by its name and the fingerprint of its weights.
async function copyLink(app) {
  app.address.write(false);
  const { name, hash } = await app.connection.ask("fingerprint");
  await copyText(`${location.href}&model=${encodeURIComponent(`${name}@${hash}`)}`, t("link_copied"));
}

const STRIP = 76; // below the board: the picture, the model, what it says

export function svg(app) {
  const painter = new SvgPainter(app.stage.width, app.stage.height + STRIP, palette.paper);
  app.stage.draw(painter);
  strip(app, painter);
  return painter.toString();
}

// What a view taken home belongs to: the picture, the model, the answer, and where the view is.
function strip(app, painter) {
  const { frame, layer, map, unit } = app.store.state;
  const { width, height } = app.stage;
  painter.rect(0, height, width, STRIP, { fill: palette.surface, stroke: palette.line });
  const { picture } = app.frames;
  const scale = (STRIP - 16) / Math.max(picture.width, picture.height);
  painter.image({ canvas: picture, x: 0, y: 0, w: picture.width, h: picture.height }, 12, height + 8, picture.width * scale, picture.height * scale);
  const x = 24 + picture.width * scale;
  const place = [layer, map, unit && `(${unit.join(", ")})`].filter((part) => part !== null && part !== undefined).join(" · ");
  const lines = [[app.model.model.name, place].filter(Boolean).join(" — "), said(app), frame.loss === null ? "" : `${t("target")}: ${app.model.className(frame.target)}   J = ${short(frame.loss, 5)}`];
  lines.forEach((line, row) => painter.text(line, x, height + 18 + row * 20, { size: 13, weight: row === 1 ? 650 : 400, colour: palette.ink }));
}

function said(app) {
  const { frame } = app.store.state;
  if (!frame.probabilities) return "";
  const order = frame.probabilities.map((p, index) => [p, index]).sort((a, b) => b[0] - a[0]).slice(0, 4);
  return `${t("network_says")}: ${order.map(([p, index]) => `${app.model.className(index)} ${percent(p)}`).join(",  ")}`;
}

function savePng(app) {
  const { stage } = app;
  const scale = 3;
  const canvas = document.createElement("canvas");
  canvas.width = stage.width * scale;
  canvas.height = (stage.height + STRIP) * scale;
  const shown = { context: stage.context, painter: stage.painter.c };
  stage.context = stage.painter.c = canvas.getContext("2d");
  stage.draw(stage.painter, Infinity, scale);
  strip(app, stage.painter);
  stage.context = shown.context;
  stage.painter.c = shown.painter;
  canvas.toBlob((blob) => save(blob, "convscope.png"));
}

const escaped = (text) => text.replace(/[&<>"]/g, (mark) => `&#${mark.charCodeAt(0)};`);

async function saveHtml(app) {
  const sheets = await Promise.all(["base", "page", "detail"].map(async (name) => (await fetched(`/styles/${name}.css`)).text()));
  const detail = $("#detail").cloneNode(true);
  detail.querySelectorAll("button, input, select, canvas, .tabs, .segments").forEach((each) => each.remove());
  const verdict = $("#verdict .said-box")?.cloneNode(true);
  const title = escaped(document.title);
  const page = `<!doctype html><html lang="${document.documentElement.lang}" data-theme="${document.documentElement.dataset.theme}"><meta charset="utf-8"><title>${title}</title><style>${sheets.join("\n")}
body{overflow:auto;height:auto;padding:20px;gap:16px}.saved{display:flex;gap:20px;flex-wrap:wrap}.detail,.verdict{border:1px solid var(--line);border-radius:12px;max-width:420px;padding:12px}</style><body><h1>${title}</h1><p class="soft">${escaped(location.hash)}</p><div class="saved"><div>${svg(app)}</div><div class="verdict">${verdict?.outerHTML ?? ""}</div>${detail.outerHTML}</div></body></html>`;
  save(new Blob([page], { type: "text/html" }), "convscope.html");
}

function fetched(path) {
  return fetch(path).catch(() => {
    throw new RequestError("lost", "connection lost");
  });
}

async function download(app, path, name) {
  const answer = await fetched(`${path}?version=${app.store.get("frame").version}`);
  if (!answer.ok) {
    const { error } = await answer.json();
    if (error.kind === "moved") await app.connection.ask("newest");
    else notice(told(error));
    return;
  }
  save(await answer.blob(), name);
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
