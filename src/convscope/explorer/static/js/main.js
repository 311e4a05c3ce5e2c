// Start: languages, connection, model; then every view is told to draw itself.

import { App } from "./app.js";
import { Connection } from "./core/connection.js";
import { $, notice, retell } from "./core/dom.js";
import { loadLanguages, setLanguage, t } from "./core/i18n.js";
import { recall } from "./core/memory.js";
import { fromAddress } from "./core/store.js";
import { Offline, embedded } from "./offline/source.js";
import { applyTheme, rememberedTheme } from "./views/tools.js";
import { showCard } from "./views/card.js";
import { mountLesson } from "./views/lesson.js";
import { maybeTour } from "./views/tour.js";

const saved = embedded();
const connection = saved ? new Offline(saved) : new Connection();
let app = null;
let lost = false;

// The connection and the texts are fetched side by side.
async function start() {
  const languages = loadLanguages();
  connection.on("open", () => {
    const hello = connection.ask("hello");
    languages.then(() => opened(hello)).catch(failed);
  });
  connection.on("lost", () => {
    lost = true;
    languages.then(() => lost && retell(() => t("server_gone"))).catch(failed);
    document.body.dataset.connection = "lost";
  });
  applyTheme(rememberedTheme());
  connection.connect();
  await languages;
  const address = fromAddress(location.hash);
  setLanguage(address.lang ?? recall("lang") ?? saved?.lang ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
}

async function opened(asked) {
  const hello = await asked;
  connection.check?.();
  document.body.dataset.connection = "open";
  if (hello.lang && !recall("lang") && !fromAddress(location.hash).lang) setLanguage(hello.lang);
  if (hello.card) {
    showCard(hello.card);
    return;
  }
  if (lost) {
    lost = false;
    retell(() => null);
    notice(t("server_back"));
  }
  if (app) {
    await app.reattach(hello);
    return;
  }
  app = new App(connection, hello);
  window.convscope = app; // for tests and the curious
  app.store.on(["lang"], () => lost && retell());
  await app.begin(fromAddress(location.hash));
  if (hello.lesson) await mountLesson(app);
  document.body.dataset.ready = "true";
  if (!hello.lesson) maybeTour(app);
}

function failed(error) {
  if (error.kind === "lost") return;
  console.error(error);
  notice(error.message, true);
}

window.addEventListener("unhandledrejection", (event) => {
  if (["lost", "superseded", "cancelled"].includes(event.reason?.kind)) {
    event.preventDefault();
    return;
  }
  if (event.reason?.kind) {
    event.preventDefault();
    notice(event.reason.message);
  }
});

$("#skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("#heads button[tabindex='0']")?.focus();
});

start().catch(failed);
