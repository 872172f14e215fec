// The page: which models there are, which of them is shown, and the key.

import { apiKey, ask, send } from "./api.js";
import { shownAnswer } from "./answer.js";
import { modelCard } from "./card.js";
import { element } from "./dom.js";
import { errorBox } from "./errors.js";
import { filePanel } from "./files.js";
import { modelForm } from "./form.js";
import { showLive } from "./live.js";
import { describe, modelNames } from "./signature.js";
import { codeTabs } from "./snippets.js";

const main = document.getElementById("main");
const list = document.getElementById("models");
const keyForm = document.getElementById("key-form");
const keyField = document.getElementById("key");
let api;

async function start() {
  try {
    api = (await send("docs.json")).answer;
  } catch (error) {
    main.replaceChildren(errorBox(error, start));
    return;
  }
  list.replaceChildren(...modelNames(api).map((name) => (
    element("li", {}, element("a", { href: `#${name}` }, name.replaceAll("_", " "))))));
  keyForm.hidden = !api.components?.securitySchemes;
  keyField.value = apiKey.get();
  await show();
}

/** Show the model that the address names, by default the first. */
async function show() {
  const names = modelNames(api);
  const chosen = location.hash.slice(1);
  const name = names.includes(chosen) ? chosen : names[0];
  for (const link of list.querySelectorAll("a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!name) {
    main.replaceChildren(element("p", {}, "The server has no models."));
    return;
  }
  try {
    const { answer: info } = await send(`${name}/info`);
    if (chosen !== location.hash.slice(1)) return; // another was chosen meanwhile
    const model = describe(api, name, info);
    document.title = `${model.title} – Tiffin`;
    main.replaceChildren(...shownModel(model));
  } catch (error) {
    main.replaceChildren(errorBox(error, show));
    if (error.status === 401) keyField.focus();
  }
}

function shownModel(model) {
  const answer = element("div", { "aria-live": "polite", class: "answer" },
    element("p", { class: "quiet" }, "Ask, and the answer stands here."));
  const code = element("div");
  const form = modelForm(model, async (request) => {
    form.busy(true);
    answer.setAttribute("aria-busy", "true");
    try {
      answer.replaceChildren(...shownAnswer(model, request, await ask(request)));
    } catch (error) {
      answer.replaceChildren(errorBox(error, () => form.node.requestSubmit()));
      if (error.status === 422) form.mark(error.detail);
    }
    answer.removeAttribute("aria-busy");
    form.busy(false);
    code.replaceChildren(codeTabs(model, request, document.baseURI));
  });
  return [
    element("div", {},
      element("h1", {}, model.title),
      element("p", { class: "quiet" }, model.info.card?.summary ?? "")),
    element("div", { class: "columns" },
      element("section", { "aria-labelledby": "input" }, element("h2", { id: "input" }, "Input"), form.node),
      element("section", { "aria-labelledby": "answer" }, element("h2", { id: "answer" }, "Answer"), answer)),
    code,
    element("div", { class: "columns" }, model.takesFiles && filePanel(model), modelCard(model)),
  ].filter(Boolean);
}

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey.set(keyField.value.trim());
  if (api) show();
});
addEventListener("hashchange", async () => {
  await show();
  main.focus();
  scrollTo(0, 0);
});
// Not by its address, which names the model.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
// A file that misses its place must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

showLive(document.getElementById("live"));
start();
