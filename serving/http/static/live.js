// The live strip: what /metrics tells of the last seconds.

import { send } from "./api.js";
import { element } from "./dom.js";

const EVERY_MILLISECONDS = 2_000;
// Rates are those of as many samples.
const WINDOW = 6;
const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Fill the strip's list, again and again; hide the strip while the server has no metrics. */
export async function showLive(strip) {
  const samples = [];
  for (;;) {
    if (!document.hidden) {
      try {
        samples.push(summed((await send("metrics")).answer));
      } catch {
        strip.hidden = true; // a gateway need not pass them on
        samples.length = 0;
      }
      if (samples.length > WINDOW) samples.shift();
      if (samples.length) show(strip, samples[0], samples.at(-1));
    }
    await new Promise((resolve) => { setTimeout(resolve, EVERY_MILLISECONDS); });
  }
}

function show(strip, first, last) {
  const requests = last.requests - first.requests;
  const seconds = (last.at - first.at) / 1_000;
  const cached = last.cached - first.cached;
  const values = {
    "requests/s": seconds > 0 ? (requests / seconds).toFixed(1) : "–",
    p99: requests > 0 ? `${percentile(first.buckets, last.buckets, 0.99)} ms` : "–",
    "cache hits": cached > 0 ? `${(100 * (last.hits - first.hits) / cached).toFixed(0)} %` : "–",
    queue: String(last.queue),
  };
  strip.firstElementChild.replaceChildren(...Object.entries(values).map(([name, value]) => (
    element("div", {}, element("dt", {}, name), element("dd", {}, value)))));
  strip.hidden = false;
}

/** Return what counts of an exposition: requests to models, how long they took, the cache, the queue. */
export function summed(text) {
  const sum = { at: performance.now(), requests: 0, cached: 0, hits: 0, queue: 0, buckets: new Map() };
  for (const line of text.split("\n")) {
    const [, name, written = "", value] = line.match(SAMPLE) ?? [];
    if (!name) continue;
    const labels = Object.fromEntries([...written.matchAll(LABEL)].map(([, label, content]) => [label, content]));
    const number = Number(value);
    if (name === "tiffin_queue_items") sum.queue += number;
    if (!labels.model) continue; // a request to the server itself, such as this one
    if (name === "tiffin_requests_total") {
      sum.requests += number;
      if (labels.cache !== "none") sum.cached += number;
      if (labels.cache === "hit") sum.hits += number;
    } else if (name === "tiffin_request_seconds_bucket") {
      sum.buckets.set(labels.le, (sum.buckets.get(labels.le) ?? 0) + number);
    }
  }
  return sum;
}

/** Return the upper bound, in milliseconds, of the bucket in which a percentile lies. */
export function percentile(before, after, share) {
  const counts = [...after].map(([bound, count]) => (
    [Number(bound.replace("+Inf", "Infinity")), count - (before.get(bound) ?? 0)]));
  counts.sort(([one], [other]) => one - other);
  const total = counts.at(-1)?.[1] ?? 0;
  const [bound] = counts.find(([, count]) => count >= share * total) ?? [Infinity];
  return Number.isFinite(bound) ? `≤ ${bound * 1_000}` : `> ${(counts.at(-2)?.[0] ?? 0) * 1_000}`;
}
