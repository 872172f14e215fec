// Say what went wrong, and what may help.

import { element, button } from "./dom.js";

const ADVICE = {
  0: "Start it again, then ask again.",
  401: "Type a valid key into the field API key at the top.",
  429: "These are more requests than the server allows.",
  503: "The server has more work than it can answer in time.",
  504: "It took longer than the server allows.",
};
const MAX_FAULTS = 20;

/** Return a box that tells an error; `again` is offered where asking again may help, after the time the server says. */
export function errorBox(error, again) {
  if (error.status === undefined) throw error;
  const title = error.status ? `${error.status}: ${error.message}` : error.message;
  const box = element("div", { class: "alert", role: "alert" },
    element("p", {}, element("strong", {}, title)),
    ADVICE[error.status] && element("p", {}, ADVICE[error.status]),
    error.detail.length > 0 && element("ul", {}, ...error.detail.slice(0, MAX_FAULTS).map(shownFault)),
    error.id && element("p", { class: "quiet" }, `Request ${error.id}`));
  if (again && [0, 429, 503, 504].includes(error.status)) box.append(againButton(error.retrySeconds ?? 0, again));
  return box;
}

function shownFault({ loc = [], msg }) {
  return element("li", {}, loc.length ? `${loc.join(" › ")}: ${msg}` : msg);
}

function againButton(seconds, again) {
  const asking = button("Ask again", again);
  const wait = (left) => {
    asking.disabled = left > 0;
    asking.textContent = left > 0 ? `Ask again in ${left} s` : "Ask again";
    if (left > 0) setTimeout(() => wait(left - 1), 1_000);
  };
  wait(seconds);
  return element("div", { class: "buttons" }, asking);
}
