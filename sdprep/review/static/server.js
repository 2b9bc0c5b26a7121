// Requests to the server that sent this page. Addresses are relative, so they begin with its token.

import { say } from "./dom.js";

// What the page itself has words for; any other message is that of the server. A 412 has a dialog of its own.
const OWN = { 0: () => say("no_server"), 410: () => say("plan_gone"), 423: (body) => whoIsAtWork(body.owner) };

/** An answer that is not a success; `status` 0 is no answer. */
export class Refused extends Error {
  constructor(status, body) {
    super(status in OWN ? OWN[status](body) : (body.message ?? `HTTP ${status}`));
    this.status = status;
    this.body = body;
  }
}

/** That another run has the folder, by the name of its command. */
function whoIsAtWork(owner) {
  const [run] = owner.split(",");
  return say("at_work", { run: run || "sdprep" });
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, {});
  }
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

async function send(method, path, body, headers = {}) {
  const options = { method, headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) };
  return (await request(path, options)).json();
}

const get = async (path, signal) => (await request(path, { signal })).json();
const query = (values) => new URLSearchParams(values).toString();

export const folder = () => get("api/folder");
export const session = () => get("api/session");
export const progress = () => get("api/progress");
export const changes = (since) => get(`api/changes?${query({ since })}`);
export const suggest = (q, signal) => get(`api/suggest?${query({ q })}`, signal);
export const countsOf = (where, signal) => get(`api/counts?${query({ where })}`, signal);
export const findings = (target) => get(`api/findings?${query({ target })}`);
export const crop = (number, resolution) => get(`api/crop/${number}?${query({ resolution })}`);

/** The numbers of the images that match a filter, in order, with so many rows before and after the image `near`. */
export async function view(where, { near = 0, rows = 0, signal } = {}) {
  const answer = await request(`api/view?${query({ where, near, rows })}`, { signal });
  const data = await answer.arrayBuffer();
  const [count] = new Uint32Array(data, 0, 1);
  const numbers = new Uint32Array(data, 4, count);
  return { numbers, rows: JSON.parse(new TextDecoder().decode(data.slice(4 + numbers.byteLength))) };
}

export const rows = async (numbers) => (await send("POST", "api/rows", { numbers })).rows;
export const counts = (numbers) => send("POST", "api/counts", { numbers });
export const approve = (target, kind) => send("POST", "api/approve", { ...target, kind });
export const plan = (target, kind, operation) => send("POST", "api/plan", { ...target, kind, operation });
export const apply = (plan) => send("POST", "api/apply", { plan });
export const stop = () => send("POST", "api/stop", {});
export const undo = (run) => send("POST", "api/undo", { run });
export const mark = (numbers, marks) => send("POST", "api/mark", { numbers, ...marks });

/** Write a text if the file still has this hash. */
export const putText = (number, kind, text, hash) => put(number, kind, { text }, [hash]);

/** Do an operation on a text at once if the file still has one of these hashes. */
export const edit = (number, kind, operation, hashes) => put(number, kind, { operation }, hashes);

const put = (number, kind, body, hashes) =>
  send("PUT", `api/text/${number}/${kind}`, body, { "If-Match": hashes.map((hash) => `"${hash}"`).join(", ") });
