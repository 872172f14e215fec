// The form of a model, made from its signature. The server alone says what fits: nothing is checked here.

import { element, button, newId } from "./dom.js";
import { dropZone, shownPicture } from "./dropzone.js";

/**
 * Return the form of a model: its element, and `mark`, which shows the faults of a refused request at their fields.
 *
 * `onsubmit` gets a request: path, `json` or `form` (names with values), `columns` (the same as tensors), `items` (what
 * each row of the answer is about).
 */
export function modelForm(model, onsubmit) {
  const parts = { file: fileParts, texts: textParts, row: rowParts, json: jsonParts }[model.input.kind](model);
  const submit = element("button", { class: "main" }, "Ask");
  const example = parts.example && button("Example", parts.example);
  const clear = parts.clear && button("Clear", parts.clear);
  const form = element("form", { novalidate: true, "aria-label": "Input" }, ...parts.nodes,
    element("div", { class: "buttons" }, submit, example, clear));
  const send = (event) => {
    event?.preventDefault();
    const faults = form.querySelectorAll("[aria-invalid]");
    for (const field of faults) unmark(field);
    const request = parts.request();
    if (request) onsubmit({ path: `${model.name}/predict`, ...request });
  };
  form.addEventListener("submit", send);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send(event);
  });
  return { node: form, mark: (detail) => mark(parts.fields, detail), busy: (value) => { submit.disabled = value; } };
}

function mark(fields, detail) {
  let first;
  for (const { loc = [], msg } of detail) {
    const field = loc.map((part) => fields.get(String(part))).find(Boolean);
    if (!field || field.hasAttribute("aria-invalid")) continue;
    const fault = element("span", { class: "fault", id: newId() }, msg);
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", [field.dataset.describedby, fault.id].filter(Boolean).join(" "));
    field.after(fault);
    first ??= field;
  }
  first?.focus();
}

function unmark(field) {
  field.removeAttribute("aria-invalid");
  const described = field.dataset.describedby;
  if (described) field.setAttribute("aria-describedby", described);
  else field.removeAttribute("aria-describedby");
  if (field.nextElementSibling?.classList.contains("fault")) field.nextElementSibling.remove();
}

function labelled(text, field, description) {
  const id = newId();
  field.id = id;
  const note = description && element("span", { class: "quiet", id: newId() }, description);
  if (note) {
    field.dataset.describedby = note.id;
    field.setAttribute("aria-describedby", note.id);
  }
  const label = element("label", { for: id }, text);
  if (field.type === "checkbox") {
    return element("div", { class: "field check" }, field, element("div", {}, label, " ", note));
  }
  return element("div", { class: "field" }, label, field, note);
}

function textParts(model) {
  const { field, example, max } = model.input;
  const area = element("textarea", { rows: 5, spellcheck: "true" });
  const fill = (texts) => { area.value = texts.join("\n"); };
  fill(example);
  return {
    nodes: [labelled(`${field}, one per line`, area, max && `Up to ${max} lines; Ctrl and Enter ask.`)],
    fields: new Map([[field, area]]),
    example: () => fill(example),
    clear: () => fill([]),
    request() {
      const texts = area.value.split("\n").map((line) => line.trim()).filter(Boolean);
      return { json: { [field]: texts }, columns: { [model.columns[0].name]: texts }, items: texts };
    },
  };
}

function rowParts(model) {
  const { fields, wrap } = model.input;
  const inputs = new Map(fields.map((field) => [field.name, rowInput(field)]));
  const fill = (value) => fields.forEach((field) => setValue(inputs.get(field.name), value(field)));
  fill((field) => field.example);
  const unread = model.info.inputs.length - model.columns.length;
  return {
    nodes: [
      element("div", { class: "fields" }, ...fields.map((field) => (
        labelled(field.name, inputs.get(field.name), field.description)))),
      unread > 0 && element("p", { class: "quiet" },
        `${unread} more columns may be sent; the model does not read them.`),
    ],
    fields: inputs,
    example: () => fill((field) => field.example),
    clear: () => fill(() => null),
    request() {
      const row = {};
      for (const field of fields) {
        const value = valueOf(inputs.get(field.name), field);
        if (value !== undefined) row[field.name] = value;
      }
      const columns = Object.fromEntries(Object.entries(row).map(([name, value]) => [name, [value]]));
      return { json: wrap ? { [wrap]: [row] } : row, columns, items: [null] };
    },
  };
}

function rowInput(field) {
  if (field.choices) {
    const choices = ["", ...field.choices.map(String)];
    return element("select", {}, ...choices.map((choice) => element("option", { value: choice }, choice)));
  }
  if (field.type === "boolean") return element("input", { type: "checkbox" });
  return element("input", {
    type: "text",
    inputmode: field.type === "number" ? "decimal" : null,
    autocomplete: "off",
    placeholder: field.required ? null : "missing",
  });
}

function setValue(input, value) {
  if (input.type === "checkbox") input.checked = Boolean(value);
  else input.value = value === null ? "" : String(value);
}

// A decimal number; other notations are for the server to read, or to refuse.
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Return the value of a field: what is no plain number goes to the server as it stands. */
function valueOf(input, field) {
  if (input.type === "checkbox") return input.checked;
  const text = input.value.trim();
  if (text === "") return undefined;
  if (field.choices) return field.choices.find((choice) => String(choice) === text);
  const isNumber = field.type === "number" && NUMBER.test(text) && Number.isFinite(Number(text));
  return isNumber ? Number(text) : text;
}

function fileParts(model) {
  const { field, description, example, options } = model.input;
  const shown = element("div");
  let file = null;
  const zone = dropZone(field, description, (files) => {
    [file] = files;
    shown.replaceChildren(shownPicture(file));
  });
  const inputs = new Map(options.map(({ name, type, value }) => {
    const given = type === "boolean" ? { type: "checkbox", checked: value } : { type: "text", value: value ?? "" };
    return [name, element("input", given)];
  }));
  return {
    nodes: [zone.node, shown, ...options.map((option) => (
      labelled(option.name, inputs.get(option.name), option.description)))],
    fields: new Map([[field, zone.input], ...inputs]),
    example: example && (() => zone.use([exampleFile(example)])),
    request() {
      if (!file) {
        zone.input.focus();
        zone.say("Choose a file first.");
        return null;
      }
      const form = [[field, file]];
      for (const [name, input] of inputs) {
        form.push([name, input.type === "checkbox" ? String(input.checked) : input.value]);
      }
      return { form, columns: { [model.columns[0].name]: [file] }, items: [file] };
    },
  };
}

function exampleFile(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new File([bytes], "example", { type: "image/jpeg" });
}

function jsonParts(model) {
  const area = element("textarea", { rows: 10, class: "code", spellcheck: "false" });
  const fill = () => { area.value = JSON.stringify(model.input.example ?? {}, null, 2); };
  fill();
  return {
    nodes: [labelled("Body, as JSON", area)],
    fields: new Map(),
    example: fill,
    request() {
      try {
        return { json: JSON.parse(area.value), items: [null] };
      } catch (error) {
        mark(new Map([["body", area]]), [{ loc: ["body"], msg: `This is not JSON: ${error.message}` }]);
        return null;
      }
    },
  };
}
