// A profile of the load tests for those who have k6 (https://k6.io):
//
//     python -m loadtest.k6 sentiment reports/k6.json
//     k6 run -e HOST=http://localhost:3000 loadtest/k6/load.js
//
// The file has the profile's stages and thresholds, and the inputs that users repeat; INPUTS names another one. A new
// input is a repeated one with a number of its own.

import { check, sleep } from "k6";
import { SharedArray } from "k6/data";
import { b64decode } from "k6/encoding";
import http from "k6/http";
import { Rate } from "k6/metrics";

const FILE = __ENV.INPUTS || "../../reports/k6.json";
const HOST = (__ENV.HOST || "http://localhost:3000").replace(/\/$/, "");
const KEY = __ENV.LOADTEST_API_KEY ? { "X-API-Key": __ENV.LOADTEST_API_KEY } : {};

// Read once, whatever the number of users; the first element has what is not an input.
const script = new SharedArray("script", () => {
  const { models, ...rest } = JSON.parse(open(FILE));
  const known = Object.fromEntries(Object.entries(models).map(([name, model]) => [name, model.known]));
  const about = Object.entries(models).map(([name, { known, ...model }]) => ({ name, ...model, count: known.length }));
  return [{ ...rest, models: about }, ...about.flatMap(({ name }) => known[name])];
});
const { cacheRate, models, pause, perUser } = script[0];
const weights = models.reduce((sum, model) => sum + model.weight, 0);
const hits = new Rate("cache_hits");

export const options = { ...script[0].options };

// What makes inputs of a user new: a number that most likely no other user or run has.
let next = Math.floor(Math.random() * 2 ** 40);

const renewed = {
  sentiment(body, number) {
    const words = JSON.parse(body).text[0].split(" ");
    return JSON.stringify({ text: [[...words.slice(0, -1), number].join(" ")] });
  },
  breast_cancer(body, number) {
    const row = JSON.parse(body);
    return JSON.stringify({ ...row, area_worst: row.area_worst + (number % 1e9) / 1e9 });
  },
  segmentation(body, number) {
    const [row] = JSON.parse(body).data;
    return JSON.stringify({ data: [{ ...row, x0: number }] });
  },
  // A comment (FF FE, its length) after the start of a JPEG file.
  image(file, number) {
    const bytes = new Uint8Array(file);
    const comment = Array.from(String(number), (digit) => digit.charCodeAt(0));
    const made = new Uint8Array(bytes.length + comment.length + 4);
    made.set(bytes.subarray(0, 2));
    made.set([0xff, 0xfe, 0, comment.length + 2, ...comment], 2);
    made.set(bytes.subarray(2), comment.length + 6);
    return made.buffer;
  },
};

function chosen() {
  let left = Math.random() * weights;
  return models.find((model) => (left -= model.weight) < 0) || models[models.length - 1];
}

function input({ name, count }) {
  const before = models.slice(0, models.findIndex((model) => model.name === name));
  const first = 1 + before.reduce((sum, model) => sum + model.count, 0);
  const text = script[first + Math.floor(Math.random() * count)];
  const known = name === "image" ? b64decode(text, "std") : text;
  return Math.random() < cacheRate ? known : renewed[name](known, next++);
}

export default function () {
  const started = Date.now();
  const model = chosen();
  const body = input(model);
  const response =
    model.name === "image"
      ? http.post(HOST + model.path, { image_file: http.file(body, "picture.jpg", "image/jpeg") }, { headers: KEY })
      : http.post(HOST + model.path, body, { headers: { "Content-Type": "application/json", ...KEY } });
  check(response, { "is answered": (found) => found.status === 200 && found.json(model.answer) !== undefined });
  if (response.headers["X-Cache"]) hits.add(response.headers["X-Cache"] === "hit");
  if (perUser) {
    sleep(Math.max(0, 1 / perUser - (Date.now() - started) / 1000));
  } else if (pause[1]) {
    sleep(pause[0] + Math.random() * (pause[1] - pause[0]));
  }
}
