// What the page shows, in one object; views listen to the keys they draw. The address bar holds the part to come back to.

export class Store {
  constructor(initial) {
    this.state = initial;
    this.listeners = [];
    this.pending = new Set();
    this.held = new Set();
    this.scheduled = false;
  }

  get(key) {
    return this.state[key];
  }

  set(changes) {
    let changed = false;
    for (const [key, value] of Object.entries(changes)) {
      if (this.state[key] === value) continue;
      this.state[key] = value;
      this.pending.add(key);
      changed = true;
    }
    if (changed) this.schedule();
  }

  // Set without telling; the views are told when it is released.
  hold(changes) {
    for (const [key, value] of Object.entries(changes)) {
      if (this.state[key] === value) continue;
      this.state[key] = value;
      this.held.add(key);
    }
  }

  release() {
    if (!this.held.size) return;
    for (const key of this.held) this.pending.add(key);
    this.held.clear();
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      const keys = this.pending;
      this.pending = new Set();
      for (const { wanted, listener } of this.listeners) {
        if (wanted.some((key) => keys.has(key))) listener(this.state, keys);
      }
    });
  }

  on(wanted, listener) {
    this.listeners.push({ wanted, listener });
  }
}

const LEVELS = ["layer", "map", "unit"];
const PLAIN = ["tab", "show", "rule", "lang", "lab", "beside", "boxes"];

export function toAddress(state) {
  const parts = LEVELS.map((key) => state[key]).filter((value) => value !== null);
  const path = parts.map((part) => encodeURIComponent(Array.isArray(part) ? part.join(",") : part)).join("/");
  const query = new URLSearchParams();
  const defaults = { tab: "forward", show: "activation", rule: "plain", lang: state.defaultLang, lab: null, beside: null, boxes: null };
  for (const key of PLAIN) if (state[key] !== defaults[key]) query.set(key, state[key]);
  if (state.weight) query.set("weight", `${state.weight.parameter}:${state.weight.index.join(",")}`);
  if (state.pixel) query.set("pixel", state.pixel.join(","));
  if (state.unfolded.length) query.set("open", state.unfolded.join(","));
  const frame = state.frame;
  if (frame) {
    if (frame.source.kind === "data" && !frame.source.edited) query.set("item", `${frame.source.split}:${frame.source.index}`);
    else if (frame.source.text) {
      query.set("text", frame.source.text);
      if (frame.source.begun) query.set("begun", frame.source.begun);
    }
    else if (state.sharedPixels) query.set("px", state.sharedPixels);
    if (frame.target_chosen) query.set("target", frame.target);
    query.set("loss", frame.loss_name);
  }
  return `#/${path}?${query}`;
}

export function fromAddress(hash) {
  const found = { layer: null, map: null, unit: null, pixel: null, weight: null };
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  if (parts[0]) found.layer = parts[0];
  if (parts[1] && /^\d+$/.test(parts[1])) found.map = Number(parts[1]);
  if (parts[2] !== undefined && found.map !== null) found.unit = numbers(parts[2]);
  const values = new URLSearchParams(query ?? "");
  for (const key of PLAIN) if (values.has(key)) found[key] = values.get(key);
  if (values.has("weight")) {
    const [parameter, index] = values.get("weight").split(":");
    found.weight = { parameter, index: numbers(index ?? "") };
  }
  if (values.has("pixel")) found.pixel = numbers(values.get("pixel"));
  found.unfolded = values.get("open")?.split(",") ?? [];
  found.wanted = {
    item: values.get("item"),
    px: values.get("px"),
    text: values.get("text"),
    begun: values.get("begun") ?? "",
    model: values.get("model"),
    target: values.has("target") ? Number(values.get("target")) : null,
    loss: values.get("loss"),
  };
  return found;
}

function numbers(text) {
  return text.split(",").filter((part) => /^-?\d+$/.test(part)).map(Number);
}

export function packPixels(pixels) {
  let text = "";
  for (let start = 0; start < pixels.length; start += 4096) {
    text += String.fromCharCode(...pixels.subarray(start, start + 4096));
  }
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function unpackPixels(text) {
  const raw = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(raw, (character) => character.charCodeAt(0));
}
