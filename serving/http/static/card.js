// A model's card: what it is for, how good it is, and its limits.

import { element, facts, readable } from "./dom.js";

export function modelCard({ info }) {
  const { card = {}, training_data: data = {} } = info;
  const metrics = Object.entries(card.metrics ?? {});
  return element("section", { "aria-labelledby": "card" },
    element("h2", { id: "card" }, "Model card"),
    card.limits?.length > 0 && element("div", {},
      element("h3", {}, "Limits"),
      element("ul", {}, ...card.limits.map((limit) => element("li", {}, limit)))),
    metrics.length > 0 && metricTable(metrics),
    facts({
      version: info.version,
      framework: info.framework,
      labels: info.labels?.join(", "),
      "trained on": card.data ?? data.name,
      rows: data.rows,
      licence: card.licence ?? data.licence,
    }),
    card.procedure && element("p", { class: "quiet" }, card.procedure));
}

function metricTable(metrics) {
  return element("table", {},
    element("caption", {}, "Measured on held-out examples, with 95 % intervals"),
    element("thead", {}, element("tr", {}, ...["metric", "value", "interval", "examples"].map((name) => (
      element("th", { scope: "col", class: name === "metric" ? null : "number" }, name))))),
    element("tbody", {}, ...metrics.map(([name, { value, low, high, examples }]) => (
      element("tr", {},
        element("th", { scope: "row" }, name.replaceAll("_", " ")),
        element("td", { class: "number" }, value.toFixed(3)),
        element("td", { class: "number" }, `${low.toFixed(3)} to ${high.toFixed(3)}`),
        element("td", { class: "number" }, readable(examples)))))));
}
