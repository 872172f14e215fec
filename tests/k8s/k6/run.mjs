// Runs a script of k6 so many times by one user and prints what it did: node run.mjs SCRIPT TIMES, from the folder that
// has node_modules/k6.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const script = path.resolve(process.argv[2]);
globalThis.__ENV = process.env;
globalThis.open = (file) => fs.readFileSync(path.resolve(path.dirname(script), file), "utf8");

const { default: iterate, options } = await import(pathToFileURL(script));
const { recorded } = await import(pathToFileURL(path.join(path.dirname(script), "node_modules/k6/k6.js")));
for (let time = 0; time < Number(process.argv[3]); time++) iterate();
console.log(JSON.stringify({ options, ...recorded }));
