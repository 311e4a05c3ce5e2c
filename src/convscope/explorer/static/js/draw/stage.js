// The canvas: a scene is a list of pictures with places plus what is drawn under and over them, and what is `live`: it
// changes under a scene that stands. Between two scenes every picture moves from where it was to where it will be. Nothing
// is drawn while nothing changes; while only what is live changes, the rest is taken from a copy.

import { CanvasPainter, FONTS } from "./painter.js";

const MOVE = 500;
const FADE = 400;

export class Stage {
  constructor(canvas, board) {
    this.canvas = canvas;
    this.board = board;
    this.context = canvas.getContext("2d", { alpha: false });
    this.painter = new CanvasPainter(this.context);
    this.scene = null;
    this.from = new Map();
    this.started = 0;
    this.length = 0;
    this.speed = 1;
    this.frame = 0;
    this.drawn = 0;
    this.settled = null; // the scene that was drawn when nothing moved any more
    this.still = new Still();
    this.reduced = matchMedia("(prefers-reduced-motion: reduce)");
    const style = getComputedStyle(document.body);
    FONTS.sans = style.getPropertyValue("--sans").trim() || "sans-serif";
    FONTS.mono = style.getPropertyValue("--mono").trim() || "monospace";
    new ResizeObserver(() => this.resize()).observe(board);
    this.onresize = () => {};
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.board;
    if (!width || !height) return;
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    if (this.width === width && this.height === height && this.ratio === ratio) return;
    this.width = width;
    this.height = height;
    this.ratio = ratio;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.onresize();
  }

  // pictures: Map(id → {place, x, y, w, h, alpha, late, from})
  show(scene, animate = true) {
    const moving = animate && !this.reduced.matches && this.scene && this.speed > 0;
    if (moving) {
      const now = performance.now();
      this.from = new Map([...this.scene.pictures].map(([id, picture]) => [id, this.at(id, picture, now)]));
      this.started = now;
      this.length = (MOVE + (scene.late ? FADE : 0)) / this.speed;
    } else if (!this.running) {
      this.from = new Map();
      this.length = 0;
    }
    this.scene = scene;
    this.request();
  }

  get running() {
    return performance.now() < this.started + this.length;
  }

  request() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const now = performance.now();
      const moving = now < this.started + this.length;
      if (!moving && this.scene && this.scene === this.settled) this.drawLive();
      else {
        this.draw(this.painter, now, this.ratio);
        this.settled = moving ? null : this.scene;
      }
      this.drawn += 1;
      if (moving) this.request();
    });
  }

  // The same scene again: what stands still is drawn once more, into a copy, and is taken from there ever after.
  drawLive() {
    const { canvas, context, painter, ratio, scene, still } = this;
    if (still.scene !== scene || !still.fits(canvas)) {
      still.begin(canvas, scene);
      this.drawStill(still.painter, Infinity, ratio, still.painter.c);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.drawImage(still.canvas, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    painter.begin();
    scene.live?.(painter);
  }

  // How far things have moved (0…1), and how far what comes later has appeared.
  phases(now) {
    const move = this.length ? Math.min(1, ((now - this.started) * this.speed) / MOVE) : 1;
    const late = this.length ? Math.min(1, Math.max(0, ((now - this.started) * this.speed - MOVE) / FADE)) : 1;
    return { move: cubic(move), late: this.scene?.late ? late : 1 };
  }

  at(id, picture, now) {
    const { move, late } = this.phases(now);
    const before = this.from.get(id);
    const alpha = (picture.alpha ?? 1) * (picture.late ? late : 1);
    if (move >= 1 || (!before && !picture.from)) return { ...picture, alpha: before || move >= 1 || picture.late ? alpha : alpha * move };
    const start = before ?? { ...picture.from, alpha: 0 };
    const mix = (key) => start[key] + (picture[key] - start[key]) * move;
    return { ...picture, x: mix("x"), y: mix("y"), w: mix("w"), h: mix("h"), alpha: picture.late ? alpha : start.alpha + (alpha - start.alpha) * move };
  }

  draw(painter, now = Infinity, ratio = 0) {
    if (!this.scene) return;
    this.drawStill(painter, now, ratio, this.context);
    this.scene.live?.(painter);
  }

  drawStill(painter, now, ratio, context) {
    const { scene } = this;
    const phases = now === Infinity ? { move: 1, late: 1 } : this.phases(now);
    if (ratio) {
      painter.begin();
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.fillStyle = scene.background;
      context.fillRect(0, 0, this.width, this.height);
    }
    scene.under?.(painter, phases);
    const front = [];
    for (const [id, picture] of scene.pictures) {
      if (picture.front) {
        front.push([id, picture]);
        continue;
      }
      this.drawPicture(painter, id, picture, now, scene);
    }
    scene.between?.(painter, phases);
    for (const [id, picture] of front) this.drawPicture(painter, id, picture, now, scene);
    scene.over?.(painter, phases);
  }

  drawPicture(painter, id, picture, now, scene) {
    const place = now === Infinity ? picture : this.at(id, picture, now);
    if (place.x > this.width || place.x + place.w < 0 || place.alpha <= 0.01) return;
    if (picture.place) painter.image(picture.place, place.x, place.y, place.w, place.h, place.alpha);
    if (picture.frame !== null) {
      painter.rect(place.x, place.y, place.w, place.h, { stroke: picture.frame ?? scene.line, width: picture.strong ? 2 : 0.75, alpha: place.alpha });
    }
  }
}

// What of a scene stands still, drawn once.
class Still {
  constructor() {
    this.canvas = null;
    this.scene = null;
  }

  fits({ width, height }) {
    return this.canvas?.width === width && this.canvas.height === height;
  }

  begin(canvas, scene) {
    this.canvas ??= document.createElement("canvas");
    if (!this.fits(canvas)) {
      this.canvas.width = canvas.width;
      this.canvas.height = canvas.height;
      this.painter = new CanvasPainter(this.canvas.getContext("2d", { alpha: false }));
    }
    this.scene = scene;
  }
}

function cubic(t) {
  return t < 0.5 ? 4 * t ** 3 : 1 - (-2 * t + 2) ** 3 / 2;
}
