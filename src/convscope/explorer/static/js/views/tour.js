// The first visit: in four stops why the network said what it said, which strokes mattered, what one step would change.

import { $, byKeys, h, replace, say } from "../core/dom.js";
import { percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { recall, remember } from "../core/memory.js";
import { trap } from "./help.js";

const SEEN = "tour";

export function maybeTour(app) {
  const asked = new URLSearchParams(location.search).get("tour");
  if (asked === "0" || recall(SEEN) || !app.model.can("evidence")) return;
  if (!app.store.get("frame")?.probabilities || location.hash.match(/^#\/[^?]/)) return;
  startTour(app);
}

export function startTour(app) {
  const { store } = app;
  let stop = 0;
  let again = null;
  const resized = () => again?.();
  window.addEventListener("resize", resized);
  const before = document.activeElement;
  const scrolled = [document.scrollingElement, $("#input-side")].map((each) => [each, each.scrollTop]); // as it was
  const output = app.model.output;

  const stops = [
    {
      title: () => t("tour_1_title", { name: said() }),
      text: () => t("tour_1_text", { name: said(), p: percent(probability()) }),
      at: "#verdict",
      go: () => store.set({ layer: null, map: null, unit: null, tab: "forward", show: "activation", evidence: null }),
    },
    {
      title: () => t("tour_2_title"),
      text: () => t("tour_2_text", { name: said(), layer: output }),
      at: "#detail",
      go: () => {
        store.set({ tab: "forward" });
        app.selection.select(output, store.get("frame").predicted);
      },
    },
    {
      title: () => t("tour_3_title"),
      text: () => t("tour_3_text", { name: said() }),
      at: "#input-side .pad",
      go: async () => {
        store.set({ layer: null, map: null, unit: null });
        if (store.get("evidence")?.method !== "occlusion") await app.showEvidence("occlusion");
      },
    },
    {
      title: () => t("tour_4_title"),
      text: () => t("tour_4_text", step()),
      at: "#detail",
      go: async () => {
        store.set({ evidence: null, layer: null, map: null, unit: null, tab: "training" });
        await until(() => $("#compare"));
      },
    },
    { title: () => t("tour_5_title"), text: () => t("tour_5_text"), keys: () => t("tour_5_keys"), at: "#pad", go: () => store.set({ tab: "forward" }) },
  ];

  function said() {
    return app.model.className(store.get("frame").predicted);
  }

  function probability() {
    const { frame } = store.state;
    return frame.probabilities[frame.predicted];
  }

  function step() {
    const found = app.training.outlook;
    if (!found) return { name: app.model.className(store.get("frame").target), before: "", after: "" };
    return { name: app.model.className(found.target), before: short(found.loss_before, 3), after: short(found.loss_after, 3) };
  }

  async function show() {
    const now = stops[stop];
    await now.go();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)));
    boxed($(now.at))?.scrollIntoView({ block: "nearest" });
    const last = stop === stops.length - 1;
    const next = h("button.button.primary", { type: "button", id: "tour-next", onclick: () => (last ? finish() : move(1)) }, last ? t("tour_end") : t("next"));
    const box = h("div.tour", { role: "dialog", "aria-modal": "false", "aria-label": now.title(), id: "tour" },
      h("h2", {}, now.title()), h("p", {}, now.text(), now.keys ? byKeys(now.keys()) : null),
      h("div.row", {},
        h("div.dots", { "aria-label": `${stop + 1} / ${stops.length}`, role: "img" }, stops.map((_, index) => h(`i${index === stop ? ".now" : ""}`))),
        h("div.row.tight", {}, h("button", { type: "button", id: "tour-skip", onclick: finish }, t("skip")), stop ? h("button", { type: "button", id: "tour-back", onclick: () => move(-1) }, t("back")) : null, next)));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        finish();
      }
      if (event.key === "ArrowRight" && !last) move(1);
      if (event.key === "ArrowLeft" && stop) move(-1);
      if (event.key === "Tab") trap(event, box);
    });
    replace($("#overlay"), box);
    again = () => {
      const target = boxed($(now.at));
      document.querySelectorAll(".lit").forEach((each) => each.classList.toggle("lit", each === target));
      target?.classList.add("lit");
      place(box, target);
    };
    again();
    next.focus();
    say(`${now.title()}. ${now.text()}`);
  }

  function move(by) {
    stop += by;
    show();
  }

  function finish() {
    remember(SEEN, "done");
    window.removeEventListener("resize", resized);
    document.querySelectorAll(".lit").forEach((each) => each.classList.remove("lit"));
    store.set({ evidence: null });
    replace($("#overlay"));
    scrolled.forEach(([each, top]) => (each.scrollTop = top));
    $("#detail").scrollTop = 0;
    before?.focus?.({ preventScroll: true });
  }
  show();
}

// On a narrow screen a part of the page may have no box of its own, only what is in it has.
function boxed(element) {
  return element && getComputedStyle(element).display === "contents" ? element.firstElementChild : element;
}

function place(box, target) {
  const rect = target?.getBoundingClientRect() ?? { left: 100, right: 100, top: 100, bottom: 100 };
  const { offsetWidth: w, offsetHeight: h2 } = box;
  let x = rect.right + 16;
  let y = rect.top;
  if (x + w > innerWidth - 8) x = rect.left - w - 16;
  if (x < 8) {
    x = Math.min(Math.max(12, rect.left), innerWidth - w - 12);
    y = rect.bottom + 14 + h2 < innerHeight ? rect.bottom + 14 : Math.max(12, rect.top - h2 - 14);
  }
  if (innerWidth < 700) {
    x = (innerWidth - w) / 2;
    y = innerHeight - h2 - 12;
  }
  box.style.left = `${Math.round(x)}px`;
  box.style.top = `${Math.round(Math.min(Math.max(12, y), innerHeight - h2 - 12))}px`;
}

async function until(ready) {
  for (let turn = 0; turn < 60 && !ready(); turn++) await new Promise((done) => setTimeout(done, 30));
}
