// How far an action that changes many files has come, with a way to stop it.

import { el, openDialog, say } from "./dom.js";
import * as server from "./server.js";

// How often to ask, and after how long an action is shown that has no dialog of its own.
const OFTEN = 300;
const SOON = 500;

/** Show in an element how far an action has come until it has ended; Esc stops it, as the button does. */
export async function showProgress(place, action) {
  const bar = el("progress", { "aria-label": say("progress") });
  const stop = el("button", { type: "button", id: "stop", onclick: () => server.stop() }, say("stop"));
  place.replaceChildren(bar, stop);
  const dialog = place.closest("dialog");
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    server.stop();
  });
  // The key that has begun the action may still be held.
  stop.addEventListener("keydown", (event) => event.repeat && event.preventDefault());
  stop.focus();
  const timer = setInterval(async () => {
    const { done, of } = await server.progress().catch(() => ({}));
    if (of) Object.assign(bar, { max: of, value: done });
  }, OFTEN);
  try {
    return await action;
  } finally {
    clearInterval(timer);
  }
}

/** Wait for an action; one that lasts is shown in a dialog, which goes with it. */
export async function waitInSight(title, action) {
  let dialog = null;
  const timer = setTimeout(() => {
    const place = el("p", { className: "buttons" });
    dialog = openDialog("working", title, place);
    // What it raises is raised below.
    showProgress(place, action).catch(() => {});
  }, SOON);
  try {
    return await action;
  } finally {
    clearTimeout(timer);
    dialog?.close();
  }
}
