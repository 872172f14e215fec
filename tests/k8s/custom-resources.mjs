// Checks custom resources against the schemas and types that are made from their definitions:
//
//     node custom-resources.mjs RENDERED.yaml...
//
// Schemas know patterns and what is required, types know which keys there are. Prints what is wrong; what is of no
// package below is an error too, since nobody else would check it.

import fs from "node:fs";
import path from "node:path";
import { loadAll } from "js-yaml";
import ts from "typescript";

const PACKAGES = {
  "cert-manager.io": "cert-manager",
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
  "networking.istio.io": "istio",
};

const errors = [];
const resources = [];

for (const file of process.argv.slice(2)) {
  for (const resource of loadAll(fs.readFileSync(file, "utf8"))) {
    const { apiVersion, kind, metadata } = resource;
    const name = `${path.basename(file)}: ${kind}/${metadata.name}`;
    try {
      const packaged = PACKAGES[apiVersion.split("/")[0]];
      if (!packaged) throw new Error(`nothing here knows ${apiVersion}`);
      const module = `@kubernetes-models/${packaged}/${apiVersion}`;
      const { [kind]: Model } = await import(module);
      if (!Model) throw new Error(`${apiVersion} has no such kind`);
      new Model(resource).validate();
      resources.push({ name, module, kind, resource });
    } catch (error) {
      errors.push(`${name}: ${error.message}`);
    }
  }
}

// A line of TypeScript for each, which the compiler reads as if it stood in a file beside this one.
const lines = resources.map(
  ({ module, kind, resource }) =>
    `(): import("${module}").I${kind} => (${JSON.stringify(resource)});`,
);
const source = path.join(import.meta.dirname, "resources.ts");
const options = {
  module: ts.ModuleKind.NodeNext,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  target: ts.ScriptTarget.ES2022,
  types: [],
};
const host = ts.createCompilerHost(options);
const { getSourceFile } = host;
host.getSourceFile = (file, ...rest) =>
  file === source ? ts.createSourceFile(file, lines.join("\n"), ...rest) : getSourceFile(file, ...rest);

for (const { file, start, messageText } of ts.getPreEmitDiagnostics(ts.createProgram([source], options, host))) {
  const message = ts.flattenDiagnosticMessageText(messageText, "\n");
  errors.push(file ? `${resources[file.getLineAndCharacterOfPosition(start).line].name}: ${message}` : message);
}

for (const error of errors) console.error(error);
console.log(`${resources.length} custom resources are as defined`);
process.exit(errors.length ? 1 : 0);
