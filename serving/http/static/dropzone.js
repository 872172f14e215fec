// A place for a file: choose it, drop it, or paste it.

import { element, newId } from "./dom.js";

/** Return a drop zone; `onfiles` gets the files, `use` gives it some. */
export function dropZone(label, description, onfiles) {
  const name = element("p", { role: "status" });
  const note = description && element("p", { class: "quiet", id: newId() }, description);
  const input = element("input", { type: "file", id: newId(), "aria-describedby": note?.id });
  if (note) input.dataset.describedby = note.id;
  const use = (files) => {
    if (!files.length) return;
    name.textContent = `${files[0].name}, ${size(files[0].size)}`;
    onfiles(files);
  };
  input.addEventListener("change", () => use([...input.files]));
  const node = element("div", {
    class: "drop",
    ondragover: (event) => {
      event.preventDefault();
      node.classList.add("over");
    },
    ondragleave: () => node.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      node.classList.remove("over");
      use([...event.dataTransfer.files]);
    },
    onpaste: (event) => {
      if (event.clipboardData.files.length) use([...event.clipboardData.files]);
    },
  }, element("label", { for: input.id }, `${label}: choose, drop or paste a file`), input, note, name);
  return { node, input, use, say: (text) => { name.textContent = text; } };
}

function size(bytes) {
  if (bytes < 1_000) return `${bytes} bytes`;
  return bytes < 1_000_000 ? `${(bytes / 1_000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

/** Return the picture in a file, with its name; nothing is shown of a file that is no picture. */
export function shownPicture(file) {
  const url = URL.createObjectURL(file);
  const picture = element("img", { src: url, alt: file.name });
  picture.addEventListener("load", () => URL.revokeObjectURL(url));
  picture.addEventListener("error", () => {
    URL.revokeObjectURL(url);
    picture.remove();
  });
  return element("div", { class: "picture" }, picture);
}
