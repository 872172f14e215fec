// A file of many rows: look at its columns, have it answered at once, or submit it as a background job.

import { sendForm } from "./api.js";
import { whyButton } from "./answer.js";
import { element, button, facts } from "./dom.js";
import { dropZone } from "./dropzone.js";
import { errorBox } from "./errors.js";
import { submitJob } from "./jobs.js";
import { rowsOf } from "./outputs.js";
import { requestForRow } from "./signature.js";
import { table } from "./table.js";

/** Return the section of a model in which a file of rows is answered. */
export function filePanel(model) {
  const checked = element("div", { "aria-live": "polite" });
  const answered = element("div", { "aria-live": "polite" });
  const jobs = element("div");
  let file = null;
  let preview = null;

  const use = async ([given]) => {
    file = given;
    preview = null;
    answered.replaceChildren();
    buttons.hidden = false;
    if (!model.previews) return;
    checked.replaceChildren("Reading …");
    try {
      preview = (await sendForm(`${model.name}/preview`, [["file", file]])).answer;
      checked.replaceChildren(columnCheck(model, preview));
    } catch (error) {
      checked.replaceChildren(errorBox(error, () => use([file])));
    }
  };
  const answer = async () => {
    answered.replaceChildren("Asking …");
    try {
      const result = await sendForm(`${model.name}/uploadfile`, [["file", file]]);
      answered.replaceChildren(...shownRows(model, file, preview, result));
    } catch (error) {
      answered.replaceChildren(errorBox(error, answer));
    }
  };

  const zone = dropZone("File", model.fileKinds, use);
  const pasted = pasteArea(use);
  const buttons = element("div", { class: "buttons", hidden: true },
    button("Answer the file", answer, { class: "main" }),
    model.hasJobs && button("Submit as a job", () => submitJob(model, file, jobs)));
  return element("section", { "aria-labelledby": "rows" },
    element("h2", { id: "rows" }, "Many at once"),
    zone.node,
    model.input.kind !== "file" && pasted,
    checked, buttons, answered, jobs);
}

function pasteArea(use) {
  const area = element("textarea", {
    rows: 4,
    class: "code",
    spellcheck: "false",
    "aria-label": "Rows: CSV with a header, or JSON",
  });
  const read = button("Use these rows", () => {
    if (area.value.trim()) use([new File([area.value], "pasted rows")]);
  });
  return element("details", {},
    element("summary", {}, "Paste rows instead"),
    area,
    element("div", { class: "buttons" }, read));
}

function columnCheck(model, { rows, missing }) {
  const found = model.columns.length - missing.length;
  return element("div", {},
    element("p", {}, `${found} of the ${model.columns.length} columns that the model reads have values.`),
    missing.length > 0 && element("p", {}, `Without a value here, so filled in by the model: ${missing.join(", ")}.`),
    table(rows, { caption: "The first rows as the model reads them" }));
}

function shownRows(model, file, preview, result) {
  const rows = rowsOf(model, result.answer).map(({ values }) => values);
  const name = file.name.replace(/\.\w+$/, "");
  const explained = element("div", { "aria-live": "polite" });
  const explain = model.explains && preview && ((_, i) => {
    const row = preview.rows[i]; // of the first ones only
    if (!row) return "";
    return whyButton(model, requestForRow(model, row), itemOf(model, row), explained);
  });
  return [
    facts({ time: `${result.milliseconds.toFixed(0)} ms`, cache: result.cache, version: result.version }),
    table(rows, { caption: `${rows.length} rows answered`, file: `${name}-answers`, action: explain }),
    explained,
  ];
}

function itemOf(model, row) {
  return model.input.kind === "texts" ? row[model.columns[0].name] : null;
}
