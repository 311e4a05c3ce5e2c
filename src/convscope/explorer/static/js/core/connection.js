// The socket to the server: requests with answers, binary frames, and coming back after the server has gone.

import { told } from "./told.js";

// ``parts``: what a refusal is made of; its message is put together in the language that the page has when it is read.
export class RequestError extends Error {
  constructor(kind, message, parts = null, moved = {}) {
    super();
    this.kind = kind;
    this.english = message;
    this.parts = parts;
    this.version = moved.version;
    this.mine = moved.mine;
  }

  get message() {
    return told({ kind: this.kind, message: this.english, parts: this.parts });
  }
}

export class Connection {
  constructor() {
    this.waiting = new Map();
    this.next = 1;
    this.listeners = { open: [], lost: [], version: [] };
    this.delay = 300;
    this.latest = new Map();
    this.shown = () => null; // the version of the frame on the page, and what is done when the server has another
    this.moved = () => Promise.resolve(false);
  }

  on(event, listener) {
    this.listeners[event].push(listener);
  }

  connect() {
    const socket = new WebSocket(`ws://${location.host}/socket`, ["convscope.v1"]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.delay = 300;
      this.listeners.open.forEach((listener) => listener());
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => {
      for (const { reject } of this.waiting.values()) reject(new RequestError("lost", "connection lost"));
      this.waiting.clear();
      this.latest.clear();
      this.listeners.lost.forEach((listener) => listener());
      setTimeout(() => this.connect(), this.delay);
      this.delay = Math.min(this.delay * 1.6, 4000);
    };
  }

  // Which number the data set's item has here; a saved page holds some of them only.
  itemOf(number) {
    return number;
  }

  receive(data) {
    let header;
    let bytes = null;
    if (typeof data === "string") header = JSON.parse(data);
    else {
      const length = new DataView(data).getUint32(0, true);
      header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      bytes = { buffer: data, start: 4 + length };
    }
    const waiting = this.waiting.get(header.id);
    if (!waiting) return;
    this.waiting.delete(header.id);
    if (header.ok && header.result.version !== undefined && !header.result.tiles) this.listeners.version.forEach((listener) => listener(header.result.version));
    if (header.ok) waiting.resolve({ ...header.result, bytes });
    else waiting.reject(new RequestError(header.error.kind, header.error.message, header.error.parts, header.error));
  }

  // A question is about the frame on the page, and is answered for that or not at all: with one that this page is about
  // to show it is asked again, with another window's it is dropped. `about`: false for one about whatever stands.
  async ask(op, args = {}, payload = null, about = true) {
    for (;;) {
      try {
        return await this.send(op, args, payload, about ? this.shown() : null);
      } catch (error) {
        if (error.kind !== "moved") throw error;
        if (!(await this.moved(error))) throw new RequestError("superseded", "superseded");
      }
    }
  }

  send(op, args, payload, version) {
    if (!this.socket || this.socket.readyState !== WebSocket.OPEN) {
      return Promise.reject(new RequestError("lost", "connection lost"));
    }
    const id = this.next++;
    const text = JSON.stringify({ id, op, args, version });
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      if (!payload) {
        this.socket.send(text);
        return;
      }
      const header = new TextEncoder().encode(text);
      const frame = new Uint8Array(4 + header.length + payload.length);
      new DataView(frame.buffer).setUint32(0, header.length, true);
      frame.set(header, 4);
      frame.set(payload, 4 + header.length);
      this.socket.send(frame);
    });
  }

  // At most one request of a kind under way; while it runs only the newest of the others is kept.
  askLatest(kind, op, args, payload = null) {
    const state = this.latest.get(kind) ?? { busy: false, queued: null };
    this.latest.set(kind, state);
    return new Promise((resolve, reject) => {
      const entry = { op, args, payload, resolve, reject };
      if (state.busy) {
        state.queued?.reject(new RequestError("superseded", "superseded"));
        state.queued = entry;
      } else this.run(state, entry);
    });
  }

  async run(state, entry) {
    state.busy = true;
    try {
      entry.resolve(await this.ask(entry.op, entry.args, entry.payload));
    } catch (error) {
      entry.reject(error);
    }
    state.busy = false;
    if (state.queued) {
      const next = state.queued;
      state.queued = null;
      this.run(state, next);
    }
  }
}

export function floats(answer, offset = 0, count = null, wide = false) {
  const Kind = wide ? Float64Array : Float32Array;
  const start = answer.bytes.start + offset;
  const rest = Math.floor((answer.bytes.buffer.byteLength - start) / Kind.BYTES_PER_ELEMENT);
  return new Kind(answer.bytes.buffer, start, count ?? rest);
}

export function bytes(answer, offset, count) {
  return new Uint8Array(answer.bytes.buffer, answer.bytes.start + offset, count);
}
