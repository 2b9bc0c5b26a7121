// What is changed: single edits are shown at once and saved in order behind; runs can be undone and done again.

import { announce, byId, el, openDialog, say } from "./dom.js";
import { waitInSight } from "./progress.js";
import * as server from "./server.js";
import { emit, freshRow, on, putRows, refreshRows, rowOf, select, state } from "./state.js";

// While another run has the lock, or the server does not answer, this often.
const AGAIN = 2000;
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Single edits and steps back that are not saved yet, the oldest first; `waiting` says why they wait.
const queue = [];
// What ends when nothing is left to be saved.
let saving = null;
export let waiting = "";

// The hashes of files as this page has last written them or shown them in a conflict, by "number/kind".
const lastSeen = new Map();

// Texts that are typed and not in their files yet, by "number/kind", with the hash of the file that was shown before.
const drafts = new Map();

// Steps that can be undone and done again: {what, runs}, {what, stars} or {what, selected}.
const done = [];
const undone = [];

/** How many edits are not in their files yet; a draft that waits to be written is one of them. */
const unsaved = () => queue.length + [...drafts.keys()].filter((key) => !queue.some((edit) => edit.draft === key)).length;

export const draftOf = (number, kind) => drafts.get(`${number}/${kind}`)?.text;

/** Keep what is typed; with undefined, forget it. */
export function setDraft(number, kind, text) {
  const key = `${number}/${kind}`;
  if (text === undefined) drafts.delete(key);
  else drafts.set(key, { text, hash: drafts.get(key)?.hash ?? rowOf(number)[kind].hash });
  emit("edits");
}

/** The tags of an image as they are after its edits that are not saved yet. */
export function tagsOf(row) {
  const edits = queue.filter((edit) => edit.number === row.number && edit.change);
  return edits.reduce((tags, edit) => edit.change(tags), row.tags.list);
}

// Single edits

/** Change the tags of one image by an operation of `sdprep edit`; `change` does the same to the list that is shown. */
export function editTags(number, operation, what, change) {
  const edit = { number, kind: "tags", what, change, seen: rowOf(number)?.tags.hash };
  enqueue(Object.assign(edit, { save: () => saveOperation(edit, operation) }));
}

/** Write a draft, if the file is still the one that was shown when its first letter was typed. */
export function writeDraft(number, kind) {
  const { text, hash } = drafts.get(`${number}/${kind}`);
  enqueue(textEdit({ number, kind, text, hash, what: say(`wrote_${kind}`) }));
}

/** An edit that replaces a whole text. */
function textEdit(edit) {
  return Object.assign(edit, { draft: `${edit.number}/${edit.kind}`, save: () => server.putText(edit.number, edit.kind, edit.text, edit.hash) });
}

function enqueue(edit) {
  queue.push(edit);
  emit("edits");
  emit("rows", new Set([edit.number]));
  saving ??= saveAll().finally(() => (saving = null));
}

async function saveOperation({ number, seen }, operation) {
  const row = rowOf(number) ?? (await freshRow(number));
  if (!row.tags.exists && operation.name === "add") {
    return server.putText(number, "tags", `${operation.value.replace(/@(first|last|\d+)$/, "")}`, row.tags.hash);
  }
  // An edit before this one may have changed the file that was seen.
  const hashes = [seen, lastSeen.get(`${number}/tags`)].filter((hash) => hash !== undefined);
  return server.edit(number, "tags", operation, hashes);
}

async function saveAll() {
  while (queue.length) {
    const edit = queue[0];
    try {
      const { run, hash, row } = await edit.save();
      if (row) putRows([row]);
      if (run) lastSeen.set(`${edit.number}/${edit.kind}`, hash);
      if (run) remember({ what: edit.what, runs: [run] });
      if (edit.draft) followText(edit, hash ?? row[edit.kind].hash);
      waiting = "";
    } catch (error) {
      if (error.status === 423 || error.status === 0) {
        waiting = error.message;
        emit("edits");
        await sleep(AGAIN);
        continue;
      }
      await refuse(edit, error);
    }
    queue.shift();
    emit("edits");
    emit("rows", new Set([edit.number]));
  }
}

/** Have a draft end once it is in its file; what was typed since then is about the file as it is now. */
function followText({ number, kind, text, draft: key }, hash) {
  const draft = drafts.get(key);
  const later = queue.slice(1).filter((edit) => edit.draft === key);
  for (const each of draft ? [...later, draft] : later) each.hash = hash;
  if (draft?.text === text) setDraft(number, kind, undefined);
}

async function refuse(edit, error) {
  if (error.status === 412) {
    const { row, text } = error.body;
    putRows([row]);
    lastSeen.set(`${edit.number}/${edit.kind}`, row[edit.kind].hash);
    await askConflict(edit, edit.text ?? text, row);
    return;
  }
  if (!(error instanceof server.Refused)) throw error;
  announce(error.message, true);
}

/** Show the text in the file beside the text of the edit; one of them stays. Edits after this one wait for the answer. */
async function askConflict({ number, kind, what }, mine, row) {
  const title = say("conflict", { path: row.path });
  const keep = el("button", { type: "button", id: "keep" }, say("keep_file"));
  const write = el("button", { type: "button", id: "write" }, say("write_mine"));
  const texts = [["in_file", row[kind].text, "theirs"], ["with_edit", mine, "mine"]].map(([key, text, id]) =>
    el("section", {}, el("h2", {}, say(key)), el("pre", { id, dir: "auto", tabIndex: 0 }, text)));
  const dialog = openDialog("conflict", title, el("div", { className: "sides" }, ...texts),
    el("p", { className: "buttons" }, keep, write));
  keep.onclick = () => {
    setDraft(number, kind, undefined);
    dialog.close();
  };
  write.onclick = () => {
    dialog.close();
    // The next one, before what was done after it.
    queue.splice(1, 0, textEdit({ number, kind, text: mine, hash: row[kind].hash, what }));
  };
  keep.focus();
  await new Promise((closed) => dialog.addEventListener("close", closed));
}

// Undo

/** Note a step that can be undone. */
export function remember(step) {
  done.push(step);
  undone.length = 0;
  emit("runs");
}

on("replaced", (selected) => remember({ what: say("selection"), selected }));

/** What undo takes back next, or an empty text. */
export const nextUndo = () => done.at(-1)?.what ?? "";

/** Take back the runs of this session that an earlier page made. */
export function restoreSteps(runs) {
  done.unshift(...runs.filter((run) => !run.is_undone && !run.undoes).map(({ what, run }) => ({ what, runs: [run] })));
  emit("runs");
}

export const undo = () => enqueueStep(done, undone, "undid");
export const redo = () => enqueueStep(undone, done, "did_again");

/** Take a step once the edits and steps before it are done. */
function enqueueStep(from, to, key) {
  enqueue({ isStep: true, save: () => step(from, to, key) });
}

async function step(from, to, key) {
  const last = from.pop();
  if (!last) {
    announce(say("nothing_more"));
    return {};
  }
  try {
    const { left, remaining, ...back } = await takeBack(last);
    // Tags that are edited after a step are those that it has left, which are shown by now.
    for (const edit of queue) if (edit.change) edit.seen = rowOf(edit.number)?.tags.hash ?? edit.seen;
    // What a stop has left is the next step again; those that were to follow it are not taken.
    if (remaining) {
      from.push(last);
      queue.splice(1, queue.length, ...queue.slice(1).filter((edit) => !edit.isStep));
    }
    if (!back.runs || back.runs.length) to.push(back);
    if (remaining) announce(say("remaining", { n: remaining }));
    else if (left?.length) announce(say("left", { n: left.length, path: left[0].path }), true);
    else announce(say(key, { what: last.what }));
  } catch (error) {
    from.push(last);
    throw error;
  } finally {
    emit("runs");
  }
  return {};
}

function takeBack(last) {
  if (last.selected) return swapSelection(last);
  return last.stars ? giveStars(last) : reverse(last);
}

/** Give images the stars that they had. */
async function giveStars({ what, stars }) {
  const before = [];
  for (const [count, numbers] of stars) {
    before.push(...(await server.mark(numbers, { stars: count })).before);
    await refreshRows(numbers);
  }
  return { what, stars: before };
}

function swapSelection(last) {
  const before = last.current ?? new Set();
  select(last.selected);
  return { ...last, selected: before, current: last.selected };
}

/** Undo the runs of a step. Returns the step that does them again, and which files stay as they are. */
async function reverse({ what, runs }) {
  const [runsBack, left] = [[], []];
  let remaining = 0;
  for (const run of runs.toReversed()) {
    const answer = await waitInSight(what, server.undo(run));
    if (answer.run) runsBack.push(answer.run);
    left.push(...answer.left);
    remaining = answer.remaining;
    if (remaining) break;
  }
  await lookAgain();
  return { what, runs: runsBack, left, remaining };
}

let since = null;

/** Ask what has changed in the files since the last time, by this page or others. */
export async function lookAgain() {
  const answer = await server.changes(since ?? state.folder.state);
  since = answer.state;
  await refreshRows(answer.numbers);
}

/** Approve the texts of images as they are once the edits before it are saved. */
export function approve(numbers) {
  const [runs, kinds] = [[], ["tags", "caption"]];
  const save = async () => {
    // Tried again, it goes on where it could not.
    for (; kinds.length; kinds.shift()) {
      const { run } = await server.approve({ numbers }, kinds[0]);
      if (run) runs.push(run);
    }
    if (runs.length) remember({ what: say("approved"), runs });
    await refreshRows(numbers);
    return {};
  };
  enqueue({ number: numbers[0], what: say("approved"), save });
}

/** Mark images once the edits before it are saved; only then is it known what they are marked with. */
export function mark(numbers, marks) {
  const save = async () => {
    const wanted = marks();
    if (!wanted) return {};
    const { run, before } = await server.mark(numbers, wanted);
    if (run) remember({ what: say("marked"), runs: [run] });
    if (before) remember({ what: say("marked"), stars: before });
    await refreshRows(numbers);
    return {};
  };
  enqueue({ number: numbers[0], what: say("marked"), save });
}

addEventListener("beforeunload", (event) => {
  if (unsaved()) event.preventDefault();
});

on("edits place", () => {
  const count = unsaved();
  byId("unsaved").textContent = count ? [say("not_saved", { n: count }), waiting].filter(Boolean).join(" · ") : "";
  byId("unsaved").classList.toggle("waiting", Boolean(waiting));
});

