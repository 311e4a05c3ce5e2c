// The address line: it holds the state, so that a link, a reload and the browser's Back restore it.

import { notice } from "./core/dom.js";
import { t } from "./core/i18n.js";
import { fromAddress, toAddress, unpackPixels } from "./core/store.js";

export class Address {
  constructor(app) {
    this.app = app;
    this.goingBack = false;
  }

  write(push) {
    if (this.goingBack || location.protocol === "about:") return; // a page within a page has no address
    const address = toAddress(this.app.store.state);
    if (address === location.hash) return;
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  }

  goBack() {
    const { wanted, lang, unfolded, ...state } = fromAddress(location.hash);
    void wanted;
    void lang;
    void unfolded;
    this.goingBack = true;
    this.app.store.set(this.app.selection.checked({ tab: "forward", show: "activation", rule: "plain", ...state }));
    queueMicrotask(() => queueMicrotask(() => (this.goingBack = false)));
  }

  // A link names the model that it was made on: another one, or other weights, is said.
  async checkModel(wanted) {
    if (!wanted.model) return;
    const { name, hash } = await this.app.connection.ask("fingerprint");
    const at = wanted.model.lastIndexOf("@");
    const [theirs, weights] = [wanted.model.slice(0, at), wanted.model.slice(at + 1)];
    if (theirs !== name) notice(t("link_other_model", { theirs, ours: name }), true);
    else if (weights !== hash) notice(t("link_other_weights", { name }), true);
  }

  async restoreInput(wanted) {
    const show = { quantity: this.app.store.get("show"), rule: this.app.store.get("rule") };
    if (wanted.loss || wanted.target !== null) {
      const known = this.app.model.losses.includes(wanted.loss) ? { loss: wanted.loss } : {};
      await this.app.connection.ask("ask", { ...known, target: wanted.target, ...show }).catch((error) => notice(error.message));
    }
    if (wanted.item && this.app.model.data) {
      const [split, index] = wanted.item.split(":");
      await this.app.frames.take(this.app.connection.ask("show_data", { split, index: Number(index), ...show, layers: this.app.frames.wantedLayers() }));
      if (wanted.target !== null) await this.app.frames.take(this.app.connection.ask("ask", { target: wanted.target, ...show, layers: this.app.frames.wantedLayers() }));
    } else if (wanted.text && this.app.model.sentences) {
      await this.app.frames.take(this.app.connection.ask("show_sentence", { text: wanted.text, begun: wanted.begun, kind: "shared", ...show, layers: this.app.frames.wantedLayers() }));
    } else if (wanted.px) {
      await this.app.frames.take(this.app.connection.ask("show_pixels", { kind: "shared", ...show, layers: this.app.frames.wantedLayers() }, unpackPixels(wanted.px)));
    } else await this.app.frames.refresh();
  }
}
