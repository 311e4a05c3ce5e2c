// A file that is no model by itself: what it holds and what to do, in both languages at once, for it may be the first thing seen.

import { $, h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { setLanguage, language, LANGUAGES } from "../core/i18n.js";
import { told } from "../core/told.js";

export function showCard(card) {
  document.title = `${card.file} · convscope`;
  const shown = language();
  const parts = LANGUAGES.map((each) => {
    setLanguage(each);
    return section(card, each);
  });
  setLanguage(shown);
  if (shown === "zh") parts.reverse();
  $(".bar .tools")?.remove();
  $("#model-name").textContent = card.file;
  const main = $("main");
  main.className = "card-page";
  replace(main, h("div.dialog", { id: "card" }, parts));
  document.body.dataset.ready = "card";
}

function section(card, lang) {
  const tensors = card.tensors.slice(0, 12).map((each) => `${each.name}  ${each.shape.join("×")}`).join("\n");
  const rest = card.count > 12 ? `\n… ${card.count - 12}` : "";
  return h("section", { lang: lang === "zh" ? "zh-CN" : "en" },
    h("h2", {}, t(`card_${card.reason}`, { file: card.file })),
    h("p", {}, t(`card_${card.reason}_text`)),
    card.candidates.length ? h("p", {}, t("card_candidates", { names: card.candidates.join(", ") })) : null,
    card.candidates.length ? h("pre", { tabIndex: 0 }, `convscope explore ${card.file} --model ${card.candidates[0]}`) : null,
    card.reason === "no_description" ? h("p", {}, t("card_save")) : null,
    card.reason === "no_description" ? h("pre", { tabIndex: 0 }, "import convscope\nfrom convscope.spec import ModelSpec, Preprocessing, attach\n\nattach(model, ModelSpec(\"graph\", {}, (1, 28, 28), classes=(\"0\", \"1\", …),\n                        preprocessing=Preprocessing(1, (28, 28), (0.13,), (0.31,))))\nconvscope.save(model, \"model.safetensors\")") : null,
    card.count ? h("p", {}, t("card_tensors", { count: card.count })) : null,
    card.count ? h("pre", { tabIndex: 0 }, tensors + rest) : null,
    h("p.soft.small", {}, told({ message: card.detail, parts: card.parts })),
  );
}
