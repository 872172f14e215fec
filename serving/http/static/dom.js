// Make elements. Whatever comes from the server or from a file becomes a text node or an attribute, never markup.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open"]);

/** Return a new element; `on…` attributes are listeners, absent and false ones are left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

/** Return a list of names with values, without the values that are missing. */
export function facts(entries) {
  const known = Object.entries(entries).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return element("dl", { class: "facts" }, ...known.map(([name, value]) => (
    element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))
  )));
}

let ids = 0;

/** Return an id that no other element has. */
export function newId() {
  ids += 1;
  return `id${ids}`;
}

/** Return a number as people read it: four significant digits where it is a fraction. */
export function readable(value) {
  if (typeof value !== "number" || Number.isInteger(value)) return String(value ?? "");
  return String(Number(value.toPrecision(4)));
}

/** Offer content as a file of this name. */
export function download(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
