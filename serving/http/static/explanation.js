// Show what decided: highlighted words of a text, a heat map over a picture, a waterfall of columns.

import { element, facts, readable } from "./dom.js";
import { shownPicture } from "./dropzone.js";
import { headline, rowsOf } from "./outputs.js";

// Of more contributions the others are summed up.
const MAX_ROWS = 12;
// The colours of the heat map that the server draws, in serving/explanations/pictures.py.
const UP = [214, 39, 40];
const DOWN = [31, 119, 180];

/** Return the element that shows the answer of `explain` about an item: a text, a file, or nothing for a row. */
export function explanation(model, answer, item, milliseconds) {
  const contributions = answer.contributions;
  const largest = Math.max(...contributions.map(({ value }) => Math.abs(value)), 1e-12);
  const [{ values } = { values: {} }] = rowsOf(model, answer.prediction);
  const title = `Why ${values.label ?? headline(values)}`;
  const node = element("figure", { class: "item", "aria-label": title }, element("h3", {}, title));
  if (contributions.some(({ span }) => span) && typeof item === "string") {
    node.append(words(item, contributions, largest));
  }
  if (contributions.some(({ box }) => box) && item instanceof File) node.append(heatMap(item, contributions, largest));
  else node.append(waterfall(answer, contributions, item));
  node.append(
    element("figcaption", {}, "Red raises the score, blue lowers it."),
    facts({
      evaluations: answer.evaluations,
      "standard error": answer.standard_error > 0 ? readable(answer.standard_error) : null,
      time: `${milliseconds.toFixed(0)} ms`,
    }));
  return node;
}

function colour(value, largest) {
  return `rgb(${(value > 0 ? UP : DOWN).join(" ")} / ${(0.6 * Math.abs(value) / largest).toFixed(3)})`;
}

/** Return the text with its words coloured; spans are [start, end) in characters. */
function words(text, contributions, largest) {
  const letters = [...text];
  const node = element("p", { class: "words" });
  let end = 0;
  for (const { span, value } of contributions.toSorted((one, other) => one.span[0] - other.span[0])) {
    node.append(letters.slice(end, span[0]).join(""));
    const word = element("mark", { title: signed(value) }, letters.slice(...span).join(""));
    word.style.backgroundColor = colour(value, largest);
    word.style.borderColor = value > 0 ? "var(--up)" : "var(--down)";
    node.append(word);
    [, end] = span;
  }
  node.append(letters.slice(end).join(""));
  return node;
}

/** Return the picture under its heat map; boxes are [left, top, right, bottom] in its pixels. */
function heatMap(file, contributions, largest) {
  const picture = shownPicture(file);
  const canvas = element("canvas", { role: "img", "aria-label": hottest(contributions) });
  const image = picture.firstChild;
  image.addEventListener("load", () => {
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d");
    for (const { box: [left, top, right, bottom], value } of contributions) {
      context.fillStyle = colour(value, largest);
      context.fillRect(left, top, right - left, bottom - top);
    }
  });
  picture.append(canvas);
  return picture;
}

function hottest(contributions) {
  const { box, value } = contributions.reduce((one, other) => (other.value > one.value ? other : one));
  const [left, top, right, bottom] = box.map(Math.round);
  return `Heat map: ${left}, ${top} to ${right}, ${bottom} raises the score most, ${signed(value)}`;
}

/** Return a table from the base to the prediction, the largest contributions first. */
function waterfall({ base }, contributions, item) {
  const sorted = contributions.filter(({ value }) => value !== 0)
    .sort((one, other) => Math.abs(other.value) - Math.abs(one.value));
  const shown = sorted.slice(0, MAX_ROWS).map((part) => [label(part, item), part.value]);
  const rest = sorted.slice(MAX_ROWS);
  if (rest.length) shown.push([`${rest.length} others`, rest.reduce((sum, { value }) => sum + value, 0)]);
  let level = base;
  const steps = shown.map(([name, value]) => {
    level += value;
    return { name, value, from: level - value, to: level };
  });
  const levels = [base, ...steps.map(({ to }) => to)];
  const [low, high] = [Math.min(...levels), Math.max(...levels)];
  const place = (at) => `${(100 * (at - low)) / (high - low || 1)}%`;
  return element("table", { class: "waterfall" },
    element("caption", {}, `From ${readable(base)}, the score without the input, to ${readable(level)}`),
    element("thead", {}, element("tr", {},
      element("th", { scope: "col" }, "input"),
      element("th", { scope: "col", "aria-hidden": "true" }),
      element("th", { scope: "col", class: "number" }, "contribution"))),
    element("tbody", {}, ...steps.map(({ name, value, from, to }) => {
      const bar = element("span", { class: value < 0 ? "down" : "up" });
      bar.style.left = place(Math.min(from, to));
      bar.style.right = `calc(100% - ${place(Math.max(from, to))})`;
      return element("tr", {},
        element("th", { scope: "row" }, name),
        element("td", { "aria-hidden": "true" }, element("div", { class: "bar" }, bar)),
        element("td", { class: "number" }, signed(value)));
    })));
}

function label({ name, span }, item) {
  if (name !== undefined) return String(name);
  return span && typeof item === "string" ? [...item].slice(...span).join("") : "";
}

function signed(value) {
  return value > 0 ? `+${readable(value)}` : readable(value);
}
