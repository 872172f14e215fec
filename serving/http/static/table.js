// A table that is sorted by its headings and downloaded as CSV or JSON.

import { element, button, download, readable } from "./dom.js";

// Of longer tables the first rows are shown, in the order that was chosen; a download has all.
const MAX_SHOWN = 100;

/** Return a table of rows (objects with the same names); `action` makes an element for the last cell of a row. */
export function table(rows, { caption, file, action }) {
  const names = Object.keys(rows[0] ?? {});
  const numbered = rows.map((row, i) => ({ number: i + 1, row }));
  const body = element("tbody");
  const headings = names.map((name) => heading(name, kind(rows[0][name]), () => sort(name)));
  let sorted = { name: null, descending: false };

  const show = (ordered) => body.replaceChildren(...ordered.slice(0, MAX_SHOWN).map(({ number, row }) => (
    element("tr", {},
      element("th", { scope: "row", class: "number" }, String(number)),
      ...names.map((name) => element("td", { class: kind(row[name]) }, text(row[name]))),
      action && element("td", {}, action(row, number - 1))))));

  const sort = (name) => {
    sorted = { name, descending: sorted.name === name && !sorted.descending };
    headings.forEach((node, i) => {
      if (names[i] === name) node.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
      else node.removeAttribute("aria-sort");
    });
    const sign = sorted.descending ? -1 : 1;
    show(numbered.toSorted((one, other) => sign * compare(one.row[name], other.row[name])));
  };

  show(numbered);
  const told = rows.length > MAX_SHOWN ? `${caption}; the first ${MAX_SHOWN} are shown` : caption;
  return element("div", {},
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      element("table", {},
        element("caption", {}, told),
        element("thead", {}, element("tr", {},
          element("th", { scope: "col", class: "number" }, "row"),
          ...headings,
          action && element("th", { scope: "col" }, "why"))),
        body)),
    file && element("div", { class: "buttons" },
      button("Download CSV", () => download(`${file}.csv`, csv(names, rows), "text/csv")),
      button("Download JSON", () => download(`${file}.json`, JSON.stringify(rows), "application/json"))));
}

function heading(name, kind, onclick) {
  return element("th", { scope: "col", class: kind }, button(name, onclick));
}

function kind(value) {
  return typeof value === "number" ? "number" : null;
}

function text(value) {
  return Array.isArray(value) ? value.map(readable).join(", ") : readable(value);
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one ?? "").localeCompare(String(other ?? ""));
}

function csv(names, rows) {
  const cell = (value) => {
    const written = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "");
    return /[",\r\n]/.test(written) ? `"${written.replaceAll('"', '""')}"` : written;
  };
  const lines = [names, ...rows.map((row) => names.map((name) => row[name]))];
  return lines.map((line) => line.map(cell).join(",")).join("\r\n");
}
