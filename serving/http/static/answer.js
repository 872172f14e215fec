// Show an answer: bars for each item, a table of several, and what the response's headers tell.

import { ask } from "./api.js";
import { element, button, facts } from "./dom.js";
import { errorBox } from "./errors.js";
import { explanation } from "./explanation.js";
import { headline, rowsOf } from "./outputs.js";
import { table } from "./table.js";

// More items than this are shown in a table only.
const MAX_CARDS = 10;
const MAX_BARS = 5;
const CACHE = {
  hit: "hit: answered from the cache",
  miss: "miss: computed now",
  partial: "partial: some from the cache",
};

/** Return the elements that show an answer to a request. */
export function shownAnswer(model, request, result) {
  const rows = rowsOf(model, result.answer);
  const nodes = [facts({
    time: `${result.milliseconds.toFixed(1)} ms`,
    cache: CACHE[result.cache] ?? result.cache,
    version: result.version ?? model.info.version,
    request: result.id,
  })];
  if (rows.length <= MAX_CARDS) {
    nodes.push(...rows.map((row, i) => card(model, row, request.items[i], single(model, request, i))));
  }
  if (rows.length > 1) {
    const cells = rows.map((row, i) => ({ ...named(request.items[i]), ...row.values }));
    const explained = element("div", { "aria-live": "polite" });
    const action = model.explains && rows.length > MAX_CARDS && ((_, i) => (
      whyButton(model, single(model, request, i), request.items[i], explained)));
    nodes.push(table(cells, { caption: `${rows.length} answers`, file: `${model.name}-answers`, action }), explained);
  }
  nodes.push(element("details", { open: rows.length === 0 },
    element("summary", {}, "The answer as JSON"),
    element("pre", { tabindex: "0" }, shortened(JSON.stringify(result.answer, null, 2)))));
  return nodes;
}

function shortened(text) {
  return text.length > 20_000 ? `${text.slice(0, 20_000)}\n…` : text;
}

function named(item) {
  return typeof item === "string" ? { item } : {};
}

/** Return the request about one of the items of a request alone. */
function single(model, request, i) {
  const path = `${model.name}/explain`;
  if (model.input.kind === "texts") return { path, json: { [model.input.field]: [request.items[i]] } };
  return { ...request, path };
}

function card(model, { values, bars }, item, request) {
  const answered = headline(values);
  const node = element("article", { class: "item", "aria-label": answered },
    typeof item === "string" && element("p", {}, item),
    element("p", {}, element("strong", {}, answered)),
    bars.length > 0 && shownBars(bars.slice(0, MAX_BARS)));
  if (model.explains) {
    const explained = element("div", { "aria-live": "polite" });
    node.append(element("div", { class: "buttons" }, whyButton(model, request, item, explained)), explained);
  }
  return node;
}

function shownBars(bars) {
  return element("div", { class: "bars" }, ...bars.flatMap(([name, share]) => {
    const filled = element("span");
    filled.style.width = `${100 * share}%`;
    return [
      element("span", {}, name),
      element("div", { class: "bar", "aria-hidden": "true" }, filled),
      element("span", { class: "number" }, `${(100 * share).toFixed(1)} %`),
    ];
  }));
}

/** Return a button that asks why, and shows the explanation in `place`. */
export function whyButton(model, request, item, place) {
  const asking = button("Why?", async () => {
    asking.disabled = true;
    place.replaceChildren("Explaining …");
    try {
      const { answer, milliseconds } = await ask(request);
      place.replaceChildren(explanation(model, answer, item, milliseconds));
    } catch (error) {
      place.replaceChildren(errorBox(error, () => asking.click()));
    }
    asking.disabled = false;
  });
  return asking;
}
