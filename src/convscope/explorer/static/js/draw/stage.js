// The canvas: a scene is a list of pictures with places plus what is drawn under and over them. Between two scenes every
// picture moves from where it was to where it will be. Nothing is drawn while nothing changes.

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
      this.draw(this.painter, now, this.ratio);
      this.drawn += 1;
      if (now < this.started + this.length) this.request();
    });
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
    const { scene } = this;
    if (!scene) return;
    const phases = now === Infinity ? { move: 1, late: 1 } : this.phases(now);
    if (ratio) {
      painter.begin();
      this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.context.fillStyle = scene.background;
      this.context.fillRect(0, 0, this.width, this.height);
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

function cubic(t) {
  return t < 0.5 ? 4 * t ** 3 : 1 - (-2 * t + 2) ** 3 / 2;
}
