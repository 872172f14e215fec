// Send requests to the server that the page comes from. Addresses are relative, so that a prefix makes no difference.

const KEY = "tiffin-api-key";
// A connection may have died unnoticed, as of a laptop that slept: what only reads is then asked again.
const PATIENCE_MILLISECONDS = 10_000;

export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** A refused request: `status` is 0 where the server did not answer, `detail` has an entry for each fault. */
export class RequestError extends Error {
  constructor(status, message, detail = [], retrySeconds = null, id = null) {
    super(message);
    Object.assign(this, { status, detail, retrySeconds, id });
  }
}

/** Send a request; return its answer with the time it took and what the headers tell. Throws RequestError. */
export async function send(path, { method = "GET", headers = {}, body, blob = false } = {}) {
  const key = apiKey.get();
  const authorization = key && { Authorization: `Bearer ${key}` };
  const answered = async (signal) => {
    const found = await fetch(path, { method, body, headers: { ...headers, ...authorization }, signal });
    return [found, blob && found.ok ? await found.blob() : await found.text()];
  };
  const started = performance.now();
  let response;
  let content;
  try {
    const patience = method === "GET" && !blob ? AbortSignal.timeout(PATIENCE_MILLISECONDS) : undefined;
    [response, content] = await answered(patience).catch((error) => {
      if (error.name !== "TimeoutError") throw error;
      return answered();
    });
  } catch {
    throw new RequestError(0, "The server does not answer. Is it still running?");
  }
  const milliseconds = performance.now() - started;
  const header = (name) => response.headers.get(name);
  if (!response.ok) throw refusal(response.status, content, header);
  return {
    answer: header("Content-Type")?.startsWith("application/json") && !blob ? JSON.parse(content) : content,
    milliseconds,
    cache: header("X-Cache"),
    version: header("X-Model-Version"),
    id: header("X-Request-Id"),
  };
}

function refusal(status, content, header) {
  let told = {};
  try {
    told = JSON.parse(content) ?? {};
  } catch {
    // A proxy's page: its status says enough.
  }
  const retry = Number.parseInt(header("Retry-After"), 10);
  const message = typeof told.error === "string" ? told.error : `The server answered ${status}.`;
  const detail = Array.isArray(told.detail) ? told.detail : [];
  return new RequestError(status, message, detail, Number.isNaN(retry) ? null : retry, header("X-Request-Id"));
}

/** Send a form with files. */
export function sendForm(path, fields) {
  const body = new FormData();
  for (const [name, value] of fields) body.append(name, value);
  return send(path, { method: "POST", body });
}

export function sendJson(path, value) {
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(value) });
}

/** Send a request that a form has built. */
export function ask(request, path = request.path) {
  return request.form ? sendForm(path, request.form) : sendJson(path, request.json);
}
