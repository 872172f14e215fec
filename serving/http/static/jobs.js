// Background jobs: submit a file, watch it, cancel it, fetch the result.

import { send, sendForm } from "./api.js";
import { element, button, download, facts } from "./dom.js";
import { errorBox } from "./errors.js";

const EVERY_MILLISECONDS = 1_000;
const FORMATS = ["csv", "json", "parquet"];

/** Submit a file as a job of a model, and show it in `place`, before those that were submitted earlier. */
export async function submitJob(model, file, place) {
  const node = element("article", { class: "item", "aria-label": `Job for ${file.name}` }, "Submitting …");
  place.prepend(node);
  let id;
  try {
    id = (await sendForm(`${model.name}/score/submit`, [["file", file]])).answer.task_id;
  } catch (error) {
    node.replaceChildren(errorBox(error));
    return;
  }
  const follow = async () => {
    try {
      await watch(model, id, file.name, node);
    } catch (error) {
      node.replaceChildren(errorBox(error, follow)); // the job itself goes on
    }
  };
  await follow();
}

async function watch(model, id, name, node) {
  const path = (action) => `${model.name}/score/${action}?task_id=${encodeURIComponent(id)}`;
  const bar = element("progress", { "aria-label": `Progress of ${name}` });
  const told = element("p", { role: "status" });
  const cancel = button("Cancel", async () => {
    cancel.disabled = true;
    try {
      await send(path("cancel"), { method: "PUT" });
    } catch (error) {
      node.append(errorBox(error));
    }
  });
  node.replaceChildren(element("h3", {}, `Job for ${name}`), bar, told, element("div", { class: "buttons" }, cancel));
  for (;;) {
    const { answer: job } = await send(path("status"));
    told.textContent = job.rows ? `${job.status}: ${job.rows_done} of ${job.rows} rows` : job.status;
    if (job.rows) Object.assign(bar, { max: job.rows, value: job.rows_done });
    if (["completed", "failed", "canceled"].includes(job.status)) {
      ended(job, path, name, node, [bar, cancel]);
      return;
    }
    await new Promise((resolve) => { setTimeout(resolve, EVERY_MILLISECONDS); });
    if (!node.isConnected) return; // another model is shown by now
  }
}

function ended(job, path, name, node, [bar, cancel]) {
  cancel.remove();
  if (job.status !== "completed") bar.remove();
  if (job.status === "failed") {
    node.append(element("p", { class: "fault" }, job.error ?? "It failed."));
    return;
  }
  if (job.status === "canceled") return;
  const fetchAs = async (format) => {
    try {
      const { answer } = await send(`${path("get")}&format=${format}`, { blob: true });
      download(`${name.replace(/\.\w+$/, "")}-scored.${format}`, answer);
    } catch (error) {
      node.append(errorBox(error));
    }
  };
  node.append(
    facts({ version: job.model_version, seconds: seconds(job) }),
    element("div", { class: "buttons" }, ...FORMATS.map((format) => (
      button(`Download ${format}`, () => fetchAs(format))))));
}

function seconds({ executed_at: begun, finished_at: finished }) {
  return begun && finished ? ((new Date(finished) - new Date(begun)) / 1_000).toFixed(1) : null;
}
