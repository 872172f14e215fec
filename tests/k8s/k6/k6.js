// All modules of k6 that load.js imports; `recorded` has what it did.

export const recorded = { checks: [], posts: [], rates: {}, sleeps: [] };

export function check(response, checks) {
  recorded.checks.push(Object.values(checks).every((passes) => passes(response)));
}

export function sleep(seconds) {
  recorded.sleeps.push(seconds);
}

export class SharedArray {
  constructor(name, make) {
    return make();
  }
}

export class Rate {
  constructor(name) {
    this.values = recorded.rates[name] = [];
  }

  add(value) {
    this.values.push(value);
  }
}

export function b64decode(text) {
  return Uint8Array.from(Buffer.from(text, "base64")).buffer;
}

export default {
  file: (data, name, type) => ({ base64: Buffer.from(data).toString("base64"), name, type }),
  post(url, body, { headers }) {
    recorded.posts.push({ url, body, headers });
    const answer = JSON.parse(process.env.ANSWER);
    return { ...answer, json: (key) => answer.body[key] };
  },
};
