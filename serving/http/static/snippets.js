// The same request as code to copy: curl, Python, JavaScript, and tritonclient for the Open Inference Protocol.

import { element, button, newId } from "./dom.js";

/** Return the code of a request by language; a key is read from the environment, and never written here. */
export function snippets(model, request, base) {
  const found = {
    curl: curl(model, request, base),
    Python: python(model, request, base),
    JavaScript: javascript(model, request, base),
  };
  if (model.hasTensors && request.columns) found.tritonclient = tritonclient(model, request, base);
  return found;
}

function address(request, base) {
  return new URL(request.path, base).href;
}

function shellText(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curl(model, request, base) {
  const parts = [`curl ${shellText(address(request, base))}`];
  if (model.secured) parts.push('-H "Authorization: Bearer $TIFFIN_KEY"');
  if (request.json) {
    parts.push("-H 'Content-Type: application/json'", `-d ${shellText(JSON.stringify(request.json))}`);
  } else {
    for (const [name, value] of request.form) {
      // curl takes what stands in quotation marks as the file's name, whatever it holds; but a lone - is its input.
      const file = value instanceof File && (value.name === "-" ? "./-" : value.name).replace(/["\\]/g, "\\$&");
      parts.push(file ? `-F ${shellText(`${name}=@"${file}"`)}` : `--form-string ${shellText(`${name}=${value}`)}`);
    }
  }
  return parts.join(" \\\n  ");
}

/** Return a value as Python writes it: as JSON does, but for three words. */
function pythonValue(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${pythonValue(part)}`).join(", ")}}`;
}

// Python of the header with the key.
const HEADERS = '{"Authorization": f"Bearer {os.environ[\'TIFFIN_KEY\']}"}';

function python(model, request, base) {
  const lines = model.secured ? ["import os", "", "import requests", ""] : ["import requests", ""];
  lines.push("response = requests.post(", `    ${JSON.stringify(address(request, base))},`);
  if (model.secured) lines.push(`    headers=${HEADERS},`);
  if (request.json) {
    lines.push(`    json=${pythonValue(request.json)},`);
  } else {
    const [files, others] = parted(request.form);
    const opened = files.map(([name, file]) => `${JSON.stringify(name)}: open(${JSON.stringify(file.name)}, "rb")`);
    lines.push(`    files={${opened.join(", ")}},`);
    if (others.length) lines.push(`    data=${pythonValue(Object.fromEntries(others))},`);
  }
  lines.push(")", "response.raise_for_status()", "print(response.json())");
  return lines.join("\n");
}

function parted(form) {
  return [form.filter(([, value]) => value instanceof File), form.filter(([, value]) => !(value instanceof File))];
}

function javascript(model, request, base) {
  const headers = [];
  if (request.json) headers.push('"Content-Type": "application/json"');
  if (model.secured) headers.push("Authorization: `Bearer ${process.env.TIFFIN_KEY}`");
  const lines = [];
  if (request.form) {
    lines.push('import { openAsBlob } from "node:fs";', "", "const body = new FormData();");
    for (const [name, value] of request.form) {
      const written = JSON.stringify(value instanceof File ? value.name : value);
      lines.push(value instanceof File
        ? `body.append(${JSON.stringify(name)}, await openAsBlob(${written}), ${written});`
        : `body.append(${JSON.stringify(name)}, ${written});`);
    }
  }
  lines.push(`const response = await fetch(${JSON.stringify(address(request, base))}, {`, '  method: "POST",');
  if (headers.length) lines.push(`  headers: { ${headers.join(", ")} },`);
  lines.push(request.json ? `  body: JSON.stringify(${JSON.stringify(request.json)}),` : "  body,", "});");
  lines.push("if (!response.ok) throw new Error(await response.text());");
  lines.push("console.dir(await response.json(), { depth: null });");
  return lines.join("\n");
}

const DTYPES = { BYTES: "np.object_", FP64: "np.float64", INT64: "np.int64", BOOL: "np.bool_" };

function tritonclient(model, request, base) {
  const { protocol, host, pathname } = new URL(base);
  const server = JSON.stringify(`${host}${pathname}`.replace(/\/$/, ""));
  const columns = model.columns.filter(({ name }) => name in request.columns).map(({ name, datatype }) => {
    const values = request.columns[name].map((value) => {
      if (value instanceof File) return `open(${JSON.stringify(value.name)}, "rb").read()`;
      return pythonValue(datatype === "BYTES" ? String(value) : value);
    });
    return `    ${JSON.stringify(name)}: np.array([${values.join(", ")}], dtype=${DTYPES[datatype]}),`;
  });
  return [
    ...(model.secured ? ["import os", ""] : []),
    "import numpy as np",
    "from tritonclient.http import InferenceServerClient, InferInput",
    "from tritonclient.utils import np_to_triton_dtype",
    "",
    `client = InferenceServerClient(${server}${protocol === "https:" ? ", ssl=True" : ""})`,
    "columns = {",
    ...columns,
    "}",
    "inputs = []",
    "for name, values in columns.items():",
    "    tensor = InferInput(name, values.shape, np_to_triton_dtype(values.dtype))",
    "    tensor.set_data_from_numpy(values)",
    "    inputs.append(tensor)",
    `result = client.infer(${JSON.stringify(model.name)}, inputs${model.secured ? `, headers=${HEADERS}` : ""})`,
    'for output in result.get_response()["outputs"]:',
    '    print(output["name"], result.as_numpy(output["name"]))',
  ].join("\n");
}

/** Return tabs with the code of a request, each to be copied. */
export function codeTabs(model, request, base) {
  const found = Object.entries(snippets(model, request, base));
  const panel = element("pre", { role: "tabpanel", id: newId(), tabindex: "0" });
  const tabs = found.map(([language]) => (
    element("button", { type: "button", role: "tab", id: newId(), "aria-controls": panel.id }, language)));
  const copied = element("span", { role: "status" });
  const choose = (chosen) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === chosen));
      tab.tabIndex = i === chosen ? 0 : -1;
    });
    panel.textContent = found[chosen][1];
    panel.setAttribute("aria-labelledby", tabs[chosen].id);
    copied.textContent = "";
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(i));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = (i + step + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
    });
  });
  choose(0);
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(panel.textContent);
      copied.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(panel);
      copied.textContent = "Selected: copy it with Ctrl and C.";
    }
  });
  return element("section", { "aria-labelledby": "code" },
    element("h2", { id: "code" }, "The same request as code"),
    element("div", { role: "tablist", "aria-labelledby": "code" }, ...tabs),
    panel,
    element("div", { class: "buttons" }, copy, copied));
}
