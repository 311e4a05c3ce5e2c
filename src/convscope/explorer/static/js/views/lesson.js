// A lesson: the teacher's text beside the network, a question at each step, the answer revealed when one was given.

import { $, byKeys, h, num, replace, say } from "../core/dom.js";
import { short } from "../core/format.js";
import { recall, remember } from "../core/memory.js";
import { t } from "../core/i18n.js";
import { judgeNumber, judgeUnit, numberOf } from "../lesson/judge.js";
import { enter } from "../lesson/state.js";
import { paragraphs } from "../lesson/text.js";

export async function mountLesson(app) {
  const box = $("#lesson");
  box.hidden = false;
  document.body.classList.add("with-lesson");
  app.lesson = new Lesson(app, box);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "q" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [role=dialog]")) return;
    event.preventDefault();
    app.lesson.back();
  });
  app.store.on(["lang"], () => app.lesson.draw());
  app.store.on(["layer", "map", "unit"], () => app.lesson.follow());
  app.camera.relayout();
  await app.lesson.go(Math.min(app.lesson.kept.at, app.lesson.steps.length), window.parent === window); // within another page the focus is that page's
}

class Lesson {
  constructor(app, box) {
    this.app = app;
    this.box = box;
    this.lesson = app.model.lesson;
    this.steps = this.lesson.steps;
    this.key = `lesson.${print(JSON.stringify(this.lesson))}`;
    this.kept = this.remembered();
    this.folded = false;
    this.covered = false;
  }

  // Where the reader was, and of each question: how often tried, whether answered or revealed.
  remembered() {
    try {
      const kept = JSON.parse(recall(this.key));
      if (Number.isInteger(kept?.at) && kept.results?.length === this.steps.length) return kept;
    } catch {
      // what is kept is of no use
    }
    return { at: 0, results: this.steps.map(() => ({ tries: 0, right: false, shown: false, hinted: false })) };
  }

  get step() {
    return this.steps[this.kept.at] ?? null;
  }

  get result() {
    return this.kept.results[this.kept.at];
  }

  get settled() {
    return !this.step?.question || this.result.right || this.result.shown;
  }

  in(texts) {
    return texts[this.app.store.get("lang")] ?? texts[this.lesson.languages[0]];
  }

  // The language that the teacher's words stand in, where it is not the page's.
  get tongue() {
    const lang = this.app.store.get("lang");
    return this.lesson.languages.includes(lang) ? null : { en: "en", zh: "zh-CN" }[this.lesson.languages[0]];
  }

  async go(at, focus = true) {
    this.kept.at = at;
    this.given = null;
    this.keep();
    this.cover();
    this.draw();
    if (this.step) await this.arrange();
    if (focus) this.focus();
    const { step } = this;
    say(step ? [this.progress(), this.in(step.title), this.in(step.text), step.question ? this.in(step.question.ask) : ""].join(". ") : this.summary());
  }

  async arrange() {
    const { step } = this;
    this.box.setAttribute("aria-busy", "true");
    await enter(this.app, this.settled && step.then ? step.then : step.state);
    this.box.removeAttribute("aria-busy");
    if (innerWidth <= 760 && this.step?.state.layer) $("#board").scrollIntoView({ block: "start" }); // above the sheet
    this.follow();
  }

  keep() {
    remember(this.key, JSON.stringify(this.kept));
  }

  cover() {
    this.covered = Boolean(this.step?.question?.cover) && !this.settled;
    document.body.classList.toggle("covered", this.covered);
    this.app.render(false);
  }

  progress() {
    return t("lesson_progress", { at: Math.min(this.kept.at + 1, this.steps.length), count: this.steps.length });
  }

  summary() {
    const asked = this.kept.results.filter((_, at) => this.steps[at].question);
    return t("lesson_summary", { right: asked.filter((each) => each.right).length, first: asked.filter((each) => each.right && each.tries === 1).length, count: asked.length });
  }

  // ---- what is drawn ----

  draw() {
    const { kept, step, box } = this;
    box.setAttribute("aria-label", t("lesson"));
    const fold = h("button", { type: "button", id: "lesson-fold", "aria-expanded": String(!this.folded), "aria-controls": "lesson-body", "aria-label": t(this.folded ? "lesson_unfold" : "lesson_fold"), onclick: () => {
      this.folded = !this.folded;
      this.draw();
      $("#lesson-fold").focus();
    } }, this.folded ? "▸" : "▾");
    const body = h("div.lesson-body", { id: "lesson-body", hidden: this.folded }, step ? this.page(step) : this.end());
    replace(box,
      h("div.lesson-head", {}, h("b", { lang: this.tongue }, this.in(this.lesson.title)), h("span.small.soft", { id: "lesson-progress" }, this.progress()), fold),
      h("progress", { max: this.steps.length, value: kept.at, "aria-label": this.progress() }),
      body);
    this.follow();
  }

  page(step) {
    const { kept, settled } = this;
    return [
      h("h2", { id: "lesson-title", lang: this.tongue }, this.in(step.title)),
      h("div.lesson-text", { id: "lesson-text", lang: this.tongue }, paragraphs(this.in(step.text))),
      step.question ? this.question(step.question) : null,
      h("div.row.lesson-nav", {},
        h("button.button", { type: "button", id: "lesson-back", disabled: kept.at === 0, onclick: () => this.go(kept.at - 1) }, t("back")),
        h("button", { type: "button", id: "lesson-again", onclick: () => this.arrange() }, t("lesson_show_again")),
        h("span.spring"),
        h("button.button.primary", { type: "button", id: "lesson-next", disabled: !settled, onclick: () => this.go(kept.at + 1) }, kept.at === this.steps.length - 1 ? t("lesson_finish") : t("next"))),
    ];
  }

  end() {
    return [
      h("h2", { id: "lesson-title" }, t("lesson_done")),
      h("p", { id: "lesson-summary" }, this.summary()),
      h("div.row.lesson-nav", {},
        h("button.button", { type: "button", id: "lesson-back", onclick: () => this.go(this.kept.at - 1) }, t("back")),
        h("span.spring"),
        h("button.button.primary", { type: "button", id: "lesson-restart", onclick: () => {
          this.kept.results = this.steps.map(() => ({ tries: 0, right: false, shown: false, hinted: false }));
          this.go(0);
        } }, t("lesson_restart"))),
    ];
  }

  question(question) {
    const { result, settled } = this;
    const form = h("form.lesson-question", { id: "lesson-question", onsubmit: (event) => {
      event.preventDefault();
      this.answer();
    } },
      h("fieldset", { disabled: settled }, h("legend", { lang: this.tongue }, this.in(question.ask)), this.field(question)),
      settled ? null : h("div.row", {},
        h("button.button.primary", { type: "submit", id: "lesson-answer" }, t("lesson_answer")),
        question.hint && !result.hinted ? h("button.button", { type: "button", id: "lesson-hint", onclick: () => this.hint() }, t("lesson_hint")) : null,
        result.tries ? h("button.button", { type: "button", id: "lesson-reveal", onclick: () => this.reveal() }, t("lesson_reveal")) : null),
      question.hint && result.hinted ? h("p.note", { id: "lesson-hint-text", lang: this.tongue }, paragraphs(this.in(question.hint), false)) : null,
      this.verdict(question));
    return form;
  }

  field(question) {
    if (question.kind === "number") {
      return h("label.row", {}, h("span.small.soft", {}, t("lesson_your_number")),
        h("input", { type: "text", id: "lesson-number", inputMode: "text", autocomplete: "off", value: this.given ?? "", oninput: (event) => (this.given = event.target.value) }),
        question.tolerance && !question.whole ? h("span.small.soft", {}, `± ${short(question.tolerance, 2)}`) : null);
    }
    if (question.kind === "choice") {
      return h("div.lesson-choices", {}, question.choices.map((texts, at) => h("label", {},
        h("input", { type: "radio", name: "lesson-choice", value: String(at), checked: this.given === at || (this.settled && at === question.right), onchange: () => (this.given = at) }),
        h("span", { lang: this.tongue }, paragraphs(this.in(texts), false)))));
    }
    return h("div.lesson-click", {},
      h("p", {}, h("span.small.soft", {}, `${t("lesson_chosen")} `), h("b.num", { id: "lesson-chosen" }, "")),
      h("button.button", { type: "button", id: "lesson-board", onclick: () => this.toBoard(question) }, t("lesson_to_board")),
      h("p.small.soft", {}, t("lesson_click_keys"), byKeys(t("lesson_keys"))));
  }

  verdict(question) {
    const { result, settled } = this;
    if (!settled && !this.said) return null;
    if (!settled) return h("p.note.warn", { id: "lesson-verdict", "data-right": "false" }, this.said);
    const answer = this.correct(question);
    return h("div.note", { id: "lesson-verdict", "data-right": String(result.right) },
      h("p", {}, h("b", {}, t(result.right ? "lesson_right" : "lesson_it_is")), " ", answer),
      question.why ? h("div", { id: "lesson-why", lang: this.tongue }, paragraphs(this.in(question.why))) : null);
  }

  // The exact answer, as it is shown once the question is settled.
  correct(question) {
    if (question.kind === "number") return num(question.exact, { text: short(question.exact, 6) });
    if (question.kind === "choice") return h("span", { lang: this.tongue }, this.in(question.choices[question.right]));
    const [first] = question.accept;
    return h("span.num", {}, this.named({ layer: question.layer, map: first ? first[0] : question.map, unit: first ?? null }));
  }

  named({ layer, map, unit }) {
    if (!layer) return t("lesson_nothing");
    return [layer, ...(unit ?? (map === null ? [] : [map]))].join("/");
  }

  follow() {
    const { question } = this.step ?? {};
    const chosen = $("#lesson-chosen");
    if (question?.kind === "click" && chosen) {
      const { layer, map, unit } = this.app.store.state;
      chosen.textContent = this.named({ layer, map, unit });
    }
  }

  // ---- what the reader does ----

  answer() {
    const { question } = this.step;
    const found = this.judged(question);
    if (found.problem) {
      this.said = found.problem;
      this.redraw();
      say(this.said);
      return;
    }
    this.result.tries += 1;
    this.said = found.right ? null : found.text;
    if (found.right) {
      this.settle("right");
      return;
    }
    this.keep();
    this.redraw();
    say(this.said);
  }

  // {right, text} of what was answered, or {problem} where nothing was.
  judged(question) {
    if (question.kind === "number") {
      const given = numberOf(this.given ?? "");
      if (!Number.isFinite(given)) return { problem: t("lesson_no_number") };
      const { right, near } = judgeNumber(given, question);
      return { right, text: t(near ? `lesson_near_${near}` : "lesson_wrong") };
    }
    if (question.kind === "choice") {
      if (this.given === null) return { problem: t("lesson_no_choice") };
      return { right: this.given === question.right, text: t("lesson_wrong") };
    }
    const right = judgeUnit(this.app.store.state, question);
    return right === null ? { problem: t("lesson_no_unit") } : { right, text: t("lesson_wrong") };
  }

  hint() {
    this.result.hinted = true;
    this.keep();
    this.redraw();
    say(this.in(this.step.question.hint));
  }

  reveal() {
    this.settle("shown");
  }

  async settle(how) {
    const { step, result } = this;
    result[how] = true;
    this.said = null;
    this.keep();
    this.cover();
    this.draw();
    $("#lesson-next").focus({ preventScroll: true });
    $("#lesson-verdict").scrollIntoView({ block: "nearest" });
    say($("#lesson-verdict").textContent);
    if (step.then) await this.arrange();
  }

  // Drawn anew with the focus where it was, or in the answer.
  redraw() {
    const { id } = document.activeElement ?? {};
    this.draw();
    if (id !== "lesson-board") this.focus();
  }

  focus() {
    const { question } = this.step ?? {};
    if (this.folded) return;
    const first = this.settled ? ["#lesson-next", "#lesson-restart"] : { number: ["#lesson-number"], choice: ["input[name=lesson-choice]:checked", "input[name=lesson-choice]"], click: ["#lesson-board"] }[question.kind];
    first.map($).find(Boolean)?.focus({ preventScroll: innerWidth <= 760 });
    if (question?.kind === "number") $("#lesson-number")?.select();
    this.box.querySelector(".lesson-body").scrollTop = 0;
  }

  toBoard({ layer }) {
    const { layer: now, map } = this.app.store.state;
    if (now && map !== null) $("#board").focus();
    else ($(`#heads button[data-layer="${CSS.escape(layer)}"]`) ?? $("#heads button[tabindex='0']"))?.focus();
  }

  // From the network back to the question.
  back() {
    if (this.folded) {
      this.folded = false;
      this.draw();
    }
    ($("#lesson-answer") ?? $("#lesson-next") ?? $("#lesson-restart"))?.focus();
  }
}

// A short fingerprint, so that each lesson keeps its own progress.
function print(text) {
  let found = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) found = Math.imul(found ^ text.charCodeAt(at), 0x01000193);
  return (found >>> 0).toString(16);
}
