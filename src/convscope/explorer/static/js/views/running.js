// A long job on the server: a line that tells how long it has run, and a button that ends it.

import { h } from "../core/dom.js";
import { t } from "../core/i18n.js";

export class Running {
  constructor(app) {
    this.app = app;
    this.active = false;
    this.stopped = false;
    this.time = h("span.num", { "aria-hidden": "true" });
    this.box = h("p.row.small.running", { hidden: true, role: "status" }, h("span", {}, t("working")), this.time,
      h("button.button.small", { type: "button", "data-cancel": "", onclick: () => this.cancel() }, t("cancel")));
  }

  // Does the work unless some is under way; true when it came to its end.
  async run(work) {
    if (this.active) return false;
    this.active = true;
    this.stopped = false;
    this.box.hidden = false;
    const began = performance.now();
    const tick = setInterval(() => (this.time.textContent = `${((performance.now() - began) / 1000).toFixed(0)} s`), 500);
    this.time.textContent = "";
    try {
      await work();
      return !this.stopped;
    } catch (error) {
      if (error.kind !== "cancelled") throw error;
      return false;
    } finally {
      clearInterval(tick);
      this.active = false;
      this.box.hidden = true;
    }
  }

  // One question of a long row. What had to give way to other work is asked again behind it.
  async ask(op, args) {
    for (;;) {
      if (this.stopped) throw Object.assign(new Error("cancelled"), { kind: "cancelled" });
      try {
        return await this.app.connection.ask(op, args);
      } catch (error) {
        if (error.kind !== "cancelled" || this.stopped) throw error;
      }
    }
  }

  cancel() {
    if (!this.active) return; // what runs is another window's
    this.stopped = true;
    this.app.connection.ask("cancel").catch(() => {});
  }
}
