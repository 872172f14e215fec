// Show an answer: bars for each item, a table of several, and what the response's headers tell.

import { ask } from "./api.js";
import { element, button, facts, readable } from "./dom.js";
import { errorBox } from "./errors.js";
import { explanation } from "./explanation.js";
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
    nodes.push(table(cells, { caption: `${rows.length} answers`, file: `${model.name}-answers` }));
  }
  nodes.push(element("details", {},
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

/** Return the rows of an answer: `values` by name, and `bars` (name and share). Empty where it has another form. */
export function rowsOf(model, answer) {
  if (Array.isArray(answer?.predictions)) {
    const rankings = Array.isArray(answer.predictions[0]) ? answer.predictions : [answer.predictions];
    return rankings.filter((ranking) => ranking.length).map((ranking) => ({
      values: { ...ranking[0] },
      bars: ranking.map(({ label, score }) => [label, score]),
    }));
  }
  const outputs = model.info.outputs.filter(({ name }) => answer?.[name] !== undefined && answer[name] !== null);
  const isColumn = ({ name, shape }) => (
    Array.isArray(answer[name]) && (shape.length === 1 || Array.isArray(answer[name][0])));
  if (!outputs.some(isColumn)) return outputs.length ? [row(model, outputs, (name) => answer[name])] : [];
  const columns = outputs.filter(isColumn);
  return answer[columns[0].name].map((_, i) => row(model, columns, (name) => answer[name][i]));
}

function row(model, outputs, value) {
  const values = Object.fromEntries(outputs.map(({ name }) => [name, value(name)]));
  const labels = model.info.labels ?? [];
  const shares = outputs.find(({ name, shape }) => shape.length === 2 && values[name].length === labels.length);
  const bars = shares
    ? values[shares.name].map((share, i) => [labels[i], share]).sort((one, other) => other[1] - one[1])
    : outputs.filter(({ name, datatype }) => datatype.startsWith("FP") && values[name] >= 0 && values[name] <= 1)
      .map(({ name }) => [name, values[name]]);
  if (shares) delete values[shares.name];
  return { values, bars };
}

function card(model, { values, bars }, item, request) {
  const answered = Object.entries(values).map(([name, value]) => `${name} ${readable(value)}`).join(", ");
  const node = element("article", { class: "item", "aria-label": answered },
    typeof item === "string" && element("p", {}, item),
    element("p", {}, element("strong", {}, answered)),
    bars.length > 0 && shownBars(bars.slice(0, MAX_BARS)));
  if (model.explains) node.append(why(request, item));
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

/** Return a button that asks why, and shows the explanation in its place. */
export function why(request, item) {
  const place = element("div", { "aria-live": "polite" });
  const asking = button("Why?", async () => {
    asking.disabled = true;
    place.replaceChildren("Explaining …");
    try {
      const { answer, milliseconds } = await ask(request);
      place.replaceChildren(explanation(answer, item, milliseconds));
      asking.hidden = true;
    } catch (error) {
      place.replaceChildren(errorBox(error, () => asking.click()));
    }
    asking.disabled = false;
  });
  return element("div", {}, asking, place);
}
