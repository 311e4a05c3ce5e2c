// The same drawing calls on a canvas and as SVG, so that what is exported is what is seen.

export class CanvasPainter {
  constructor(context) {
    this.c = context;
  }

  rect(x, y, w, h, { fill, stroke, width = 1, radius = 0, alpha = 1, dash } = {}) {
    const { c } = this;
    c.globalAlpha = alpha;
    c.beginPath();
    if (radius) c.roundRect(x, y, w, h, radius);
    else c.rect(x, y, w, h);
    this.#paint({ fill, stroke, width, dash });
  }

  // The outline that stands ready, filled and stroked.
  #paint({ fill, stroke, width, dash }) {
    const { c } = this;
    if (fill) {
      c.fillStyle = fill;
      c.fill();
    }
    if (stroke) {
      c.setLineDash(dash ?? []);
      c.strokeStyle = stroke;
      c.lineWidth = width;
      c.stroke();
      if (dash) c.setLineDash([]);
    }
    c.globalAlpha = 1;
  }

  // segments: [x, y] moves first, then lines; [x1, y1, x2, y2, x, y] is a curve
  path(segments, { stroke, width = 1, alpha = 1, dash, fill } = {}) {
    const { c } = this;
    c.globalAlpha = alpha;
    c.beginPath();
    segments.forEach((segment, index) => {
      if (segment.length === 6) c.bezierCurveTo(...segment);
      else if (index === 0) c.moveTo(...segment);
      else c.lineTo(...segment);
    });
    this.#paint({ fill, stroke, width, dash });
  }

  image(place, x, y, w, h, alpha = 1) {
    const { c } = this;
    c.globalAlpha = alpha;
    c.imageSmoothingEnabled = place.w > w * 1.01;
    c.drawImage(place.canvas, place.x, place.y, place.w, place.h, x, y, w, h);
    c.globalAlpha = 1;
  }

  // At the beginning of a picture: the canvas may have been made anew.
  begin() {
    this.font = null;
  }

  text(text, x, y, { size = 12, weight = 400, colour, align = "left", base = "middle", mono = false, alpha = 1 } = {}) {
    const { c } = this;
    c.globalAlpha = alpha;
    const font = `${weight} ${size}px ${mono ? FONTS.mono : FONTS.sans}`;
    if (font !== this.font) c.font = this.font = font; // the page's styles are worked out each time that it is set
    c.fillStyle = colour;
    c.textAlign = align;
    c.textBaseline = base;
    c.fillText(text, x, y);
    c.globalAlpha = 1;
  }
}

export const FONTS = { sans: "sans-serif", mono: "monospace" };

export class SvgPainter {
  constructor(width, height, background) {
    this.width = width;
    this.height = height;
    this.parts = [`<rect width="${width}" height="${height}" fill="${background}"/>`];
  }

  rect(x, y, w, h, { fill, stroke, width = 1, radius = 0, alpha = 1, dash } = {}) {
    this.parts.push(
      `<rect x="${r(x)}" y="${r(y)}" width="${r(w)}" height="${r(h)}"${radius ? ` rx="${r(radius)}"` : ""}${paint(fill, stroke, width, alpha, dash)}/>`,
    );
  }

  path(segments, { stroke, width = 1, alpha = 1, dash, fill } = {}) {
    const d = segments.map((part, index) => `${part.length === 6 ? "C" : index ? "L" : "M"}${part.map(r).join(" ")}`).join("");
    this.parts.push(`<path d="${d}"${paint(fill, stroke, width, alpha, dash)}/>`);
  }

  image(place, x, y, w, h, alpha = 1) {
    const cut = document.createElement("canvas");
    cut.width = Math.max(1, place.w);
    cut.height = Math.max(1, place.h);
    cut.getContext("2d").drawImage(place.canvas, place.x, place.y, place.w, place.h, 0, 0, place.w, place.h);
    this.parts.push(
      `<image x="${r(x)}" y="${r(y)}" width="${r(w)}" height="${r(h)}" preserveAspectRatio="none" image-rendering="pixelated"${alpha < 1 ? ` opacity="${r(alpha)}"` : ""} href="${cut.toDataURL()}"/>`,
    );
  }

  text(text, x, y, { size = 12, weight = 400, colour, align = "left", base = "middle", mono = false, alpha = 1 } = {}) {
    const anchor = { left: "start", center: "middle", right: "end" }[align];
    const family = (mono ? FONTS.mono : FONTS.sans).replaceAll('"', "'");
    const escaped = String(text).replace(/[&<>"]/g, (mark) => `&#${mark.charCodeAt(0)};`);
    this.parts.push(
      `<text x="${r(x)}" y="${r(y)}" font-family="${family}" font-size="${size}" font-weight="${weight}" fill="${colour}" text-anchor="${anchor}"${base === "middle" ? ' dominant-baseline="central"' : ""}${alpha < 1 ? ` opacity="${r(alpha)}"` : ""}>${escaped}</text>`,
    );
  }

  toString() {
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${this.width} ${this.height}" width="${this.width}" height="${this.height}">${this.parts.join("")}</svg>`;
  }
}

function r(value) {
  return Math.round(value * 100) / 100;
}

function paint(fill, stroke, width, alpha, dash) {
  return `${fill ? ` fill="${fill}"` : ' fill="none"'}${stroke ? ` stroke="${stroke}" stroke-width="${r(width)}"` : ""}${alpha < 1 ? ` opacity="${r(alpha)}"` : ""}${dash ? ` stroke-dasharray="${dash.join(" ")}"` : ""}`;
}
