// What the page knows: the folder, the view, the current image, the selection, and rows that the server sent.
// The files are the truth; rows here are forgotten when they change or when there are too many.

import * as server from "./server.js";

// Rows that are kept, and those that are asked for at once.
const KEPT = 3000;
const BATCH = 200;

export const state = {
  // As the server tells of it; this until it has.
  folder: { name: "", found: 0, read: 0, is_reading: false, is_read_only: false, state: 0 },
  // Whether images have been shown yet.
  hasView: false,
  where: "",
  numbers: new Uint32Array(0),
  at: 0,
  selected: new Set(),
  isLarge: false,
  // About how many images are in sight at a time.
  inSight: 0,
  // What the view is if it is not a filter: a sentence that names the list.
  list: "",
};

const events = new EventTarget();

/** Call a function when something changes: "asking", "view", "place", "selection", "rows", "edits", "runs", "folder", "large". */
export function on(names, heard) {
  for (const name of names.split(" ")) events.addEventListener(name, (event) => heard(event.detail));
}

export function emit(name, detail) {
  events.dispatchEvent(new CustomEvent(name, { detail }));
}

// The view

/** Show these images; the current image stays current if it is among them. */
export function setView(numbers, { where = "", list = "" } = {}) {
  const current = currentNumber();
  Object.assign(state, { hasView: true, numbers, where, list });
  state.at = Math.max(0, numbers.indexOf(current));
  range = null;
  emit("view");
  emit("place");
}

/** Ask for the images that match a filter. Raises Refused for a fault in it. */
export async function filter(where, signal) {
  emit("asking");
  const when = (asked += 1);
  const { numbers, rows } = await server.view(where, { near: currentNumber(), rows: state.inSight, signal });
  putRows(rows, when);
  setView(numbers, { where });
}

export function currentNumber() {
  return state.numbers[state.at];
}

/** The numbers that an action is about: the selection, or the current image. */
export function target() {
  if (state.selected.size) return [...state.selected];
  return state.numbers.length ? [currentNumber()] : [];
}

/** Whether an action is about the current image alone. */
export function isSingle() {
  const numbers = target();
  return numbers.length === 1 && numbers[0] === currentNumber();
}

// The current image and the selection

// What is selected by Shift: the place where it began, and what was selected before.
let range = null;

/** Make another place current; with `isRange` everything from the last place on is selected. */
export function goTo(place, isRange = false) {
  const last = state.numbers.length - 1;
  if (last < 0) return;
  const from = state.at;
  state.at = Math.min(Math.max(place, 0), last);
  if (isRange) {
    range ??= { from, before: state.selected };
    const [low, high] = [Math.min(range.from, state.at), Math.max(range.from, state.at)];
    state.selected = new Set([...range.before, ...state.numbers.subarray(low, high + 1)]);
    emit("selection");
  } else {
    range = null;
  }
  emit("place");
}

export function select(numbers) {
  range = null;
  state.selected = new Set(numbers);
  emit("selection");
}

export function toggleSelected(number) {
  const selected = new Set(state.selected);
  if (!selected.delete(number)) selected.add(number);
  select(selected);
}

export function setLarge(isLarge) {
  state.isLarge = isLarge;
  emit("large");
}

// Rows

const kept = new Map();
const wanted = new Set();
let isAsking = false;

/** The row of an image, or undefined if it is not known yet; `wantRows` asks for it. */
export const rowOf = (number) => kept.get(number);

/** Ask for rows that are not known; "rows" tells of them. */
export function wantRows(numbers) {
  for (const number of numbers) if (!kept.has(number)) wanted.add(number);
  if (wanted.size && !isAsking) ask();
}

async function ask() {
  isAsking = true;
  try {
    while (wanted.size) {
      // The newest first: those are in sight.
      const numbers = [...wanted].slice(-BATCH);
      for (const number of numbers) wanted.delete(number);
      await fetchRows(numbers);
    }
  } finally {
    isAsking = false;
  }
}

// Answers may overtake each other: a row counts from the moment it was asked for.
let asked = 0;

async function fetchRows(numbers) {
  const when = (asked += 1);
  const rows = await server.rows(numbers);
  putRows(rows, when);
  return rows;
}

/** Take rows that the server sent, unless newer ones have come. */
export function putRows(rows, when = (asked += 1)) {
  for (const row of rows) {
    if (kept.get(row.number)?.when > when) continue;
    row.when = when;
    kept.delete(row.number);
    kept.set(row.number, row);
  }
  for (const number of kept.keys()) {
    if (kept.size <= KEPT) break;
    kept.delete(number);
  }
  emit("rows", new Set(rows.map((row) => row.number)));
}

/** Ask again for rows that have changed, if they are known. */
export async function refreshRows(numbers) {
  const known = numbers.filter((number) => kept.has(number));
  for (let start = 0; start < known.length; start += BATCH) {
    await fetchRows(known.slice(start, start + BATCH));
  }
}

/** The row of an image as the file is now. */
export async function freshRow(number) {
  const [row] = await fetchRows([number]);
  return row;
}
