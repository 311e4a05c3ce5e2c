// Taking something home: the address, the picture as PNG or SVG, a page that works without the server.

import { $, h, notice } from "../core/dom.js";
import { t } from "../core/i18n.js";
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
  const menu = h("div.menu", { role: "menu", "aria-label": t("share") },
    entry("share-link", t("copy_link"), () => copyText(app.store.get("sharedPixels") || app.store.get("frame").source.kind === "data" ? location.href : location.href, t("link_copied"))),
    entry("share-png", t("save_png"), () => savePng(app)),
    entry("share-svg", t("save_svg"), () => save(new Blob([svg(app)], { type: "image/svg+xml" }), "convscope.svg")),
    entry("share-html", t("save_html"), () => saveHtml(app)),
    entry("share-npy", t("save_npy"), () => download("/input.npy", "input.npy")),
    entry("share-model", t("save_model"), () => download("/model.safetensors", "model.safetensors")),
    entry("share-input", t("save_input"), () => download("/input.png", "input.png")),
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

export function svg(app) {
  const painter = new SvgPainter(app.stage.width, app.stage.height, palette.paper);
  app.stage.draw(painter);
  return painter.toString();
}

function savePng(app) {
  const { stage } = app;
  const scale = 3;
  const canvas = document.createElement("canvas");
  canvas.width = stage.width * scale;
  canvas.height = stage.height * scale;
  const shown = { context: stage.context, painter: stage.painter.c };
  stage.context = stage.painter.c = canvas.getContext("2d");
  stage.draw(stage.painter, Infinity, scale);
  stage.context = shown.context;
  stage.painter.c = shown.painter;
  canvas.toBlob((blob) => save(blob, "convscope.png"));
}

async function saveHtml(app) {
  const sheets = await Promise.all(["base", "page", "detail"].map(async (name) => (await fetch(`/styles/${name}.css`)).text()));
  const detail = $("#detail").cloneNode(true);
  detail.querySelectorAll("button, input, select, canvas").forEach((each) => each.remove());
  const title = document.title.replace(/[<&]/g, "");
  const page = `<!doctype html><html lang="${document.documentElement.lang}" data-theme="${document.documentElement.dataset.theme}"><meta charset="utf-8"><title>${title}</title><style>${sheets.join("\n")}
body{overflow:auto;height:auto;padding:20px;gap:16px}.saved{display:flex;gap:20px;flex-wrap:wrap}.detail{border:1px solid var(--line);border-radius:12px;max-width:420px}</style><body><h1>${title}</h1><p class="soft">${location.hash.replace(/[<&]/g, "")}</p><div class="saved"><div>${svg(app)}</div>${detail.outerHTML}</div></body></html>`;
  save(new Blob([page], { type: "text/html" }), "convscope.html");
}

async function download(path, name) {
  const answer = await fetch(path);
  if (!answer.ok) {
    notice(await answer.text());
    return;
  }
  save(await answer.blob(), name);
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
