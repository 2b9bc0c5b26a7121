// The panel: the current image with its tags and caption, or what a selection has in common.

import { byId, el, say } from "./dom.js";
import { draftOf, editTags, setDraft, tagsOf, writeDraft } from "./edits.js";
import { openPreview } from "./preview.js";
import * as server from "./server.js";
import { currentNumber, isSingle, on, rowOf, state, target, wantRows } from "./state.js";

// Tags that are shown as chips; a text of 100 kB has thousands.
const CHIPS = 100;
// Likely tags that are offered, and from which probability on; ratings are no tags.
const LIKELY = 12;
const LEAST = 0.1;
const RATINGS = new Set(["general", "sensitive", "questionable", "explicit"]);
const LETTERS = "abcdefghijklmnopqrstuvwxyz";

// The last change of tags, for "repeat": an operation.
export let last = null;

const same = (tag) => tag.trim().toLowerCase().replaceAll("_", " ").replaceAll("\\", "");
const literal = (text) => text.replaceAll("=", "\\=");

// Operations on the target

/** Do an operation on tags to the current image, or open the preview if more images are meant. */
export function operate(operation) {
  last = operation;
  if (!isSingle()) {
    openPreview({ kind: "tags", ...operation });
    return;
  }
  const [number] = target();
  editTags(number, operation, `${say(`op_${operation.name}`)}: ${operation.value}`, changeOf(operation));
}

export const addTag = (tag) => operate({ name: "add", value: tag });
// An empty new tag removes the old one, and what looks like a wildcard in it is not one.
export const removeTag = (tag) => operate({ name: "replace", value: `${literal(tag)}=` });
export const renameTag = (tag, name) => operate({ name: "replace", value: `${literal(tag)}=${literal(name)}` });

export function moveTag(tag, step) {
  const tags = tagsOf(rowOf(currentNumber()));
  const place = Math.min(Math.max(tags.indexOf(tag) + step, 0), tags.length - 1);
  // A pattern for a tag that would be taken for one.
  const entry = /[*?/]/.test(tag) ? `/^${tag.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")}$/` : tag;
  operate({ name: "move", value: `${entry}@${place + 1}`, tag, place });
}

/** What an operation does to a list of tags, to show it before it is saved. */
function changeOf({ name, value, tag, place }) {
  if (name === "add") {
    return (tags) => [...tags, ...value.replace(/@(first|last|\d+)$/, "").split(",").map((each) => each.trim())
      .filter((each) => each && !tags.some((other) => same(other) === same(each)))];
  }
  if (name === "move") {
    return (tags) => {
      const rest = tags.filter((each) => each !== tag);
      return [...rest.slice(0, place), tag, ...rest.slice(place)];
    };
  }
  const [, old, renamed] = value.match(/^((?:\\=|[^=])*)=(.*)$/s).map((side) => side.replaceAll("\\=", "="));
  return (tags) => tags.flatMap((each) => (same(each) !== same(old) ? [each] : renamed ? [renamed] : []));
}

// Letters over chips

let choosing = null;

/** Put letters over chips and call a function with the tag whose letters are typed. */
export function chooseChip(list, chosen) {
  stopChoosing();
  const chips = [...byId(list).querySelectorAll("button")];
  const length = chips.length <= LETTERS.length ? 1 : 2;
  chips.forEach((chip, at) => {
    chip.dataset.letters = length === 1 ? LETTERS[at] : LETTERS[Math.floor(at / 26)] + LETTERS[at % 26];
  });
  if (chips.length) choosing = { chips, chosen, typed: "" };
  document.body.classList.toggle("choosing", Boolean(choosing));
}

/** Take a key while letters are shown. Returns whether they were. */
export function typeLetter(key) {
  if (!choosing) return false;
  const { chips, chosen } = choosing;
  if (key.length === 1) choosing.typed += key.toLowerCase();
  const left = key.length === 1 ? chips.filter((chip) => chip.dataset.letters.startsWith(choosing.typed)) : [];
  const chip = left.find((each) => each.dataset.letters === choosing.typed);
  if (chip || !left.length) stopChoosing();
  if (chip) chosen(chip.dataset.tag, chip);
  return true;
}

export function stopChoosing() {
  for (const chip of choosing?.chips ?? []) delete chip.dataset.letters;
  choosing = null;
  document.body.classList.remove("choosing");
  queueMicrotask(drawIfDue);
}

// Rows that came while a tag was being chosen or renamed are drawn afterwards, or it would be lost.
let isDue = false;

function drawIfDue() {
  if (!isDue || choosing || document.querySelector("#tags .rename")) return;
  isDue = false;
  drawPanel();
}

/** Turn a chip into an input for another name. */
export function renameChip(tag, chip) {
  const input = el("input", { type: "text", value: tag, className: "rename", "aria-label": say("new_name") });
  const finish = (name) => {
    input.onblur = null;
    input.replaceWith(chip);
    byId("grid").focus();
    if (name && name !== tag) renameTag(tag, name);
    drawIfDue();
  };
  input.onblur = () => finish("");
  input.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && !event.isComposing) finish(input.value.trim());
    if (event.key === "Escape") finish("");
  };
  chip.replaceWith(input);
  input.select();
}

// Drawing

let drawn = -1;
let counting = null;

export function drawPanel() {
  const number = currentNumber();
  const row = number === undefined ? undefined : rowOf(number);
  if (drawn !== number) drawImage(number);
  if (number !== undefined && !row) wantRows([number]);
  stopChoosing();
  byId("panel").classList.toggle("empty", !row);
  if (!row) return;
  byId("path").textContent = row.path;
  byId("facts").textContent = factsOf(row);
  drawTags(row);
  drawText("caption", row, "caption", "caption-state");
  drawText("text", row, "tags", "text-state");
}

function drawImage(number) {
  drawn = number;
  const image = byId("image");
  if (number === undefined) image.removeAttribute("src");
  else image.src = `picture/${number}`;
  image.alt = "";
  // The next one is likely to be looked at next.
  const next = state.numbers[state.at + 1];
  if (state.isLarge && next !== undefined) new Image().src = `picture/${next}`;
}

function factsOf(row) {
  const size = row.width ? [`${row.width} × ${row.height}`] : [];
  const facts = [...size, say("tokens", { n: row.tokens, most: row.most_tokens })];
  for (const kind of ["tags", "caption"]) {
    const { exists, source, is_approved: isApproved, failure } = row[kind];
    const how = failure || (exists ? (isApproved ? say("approved") : source && say(`source_${source}`)) : say("no_file"));
    if (how) facts.push(`${say(kind)}: ${how}`);
  }
  if (row.failure) facts.push(row.failure);
  return facts.join(" · ");
}

function drawTags(row) {
  const isMany = !isSingle();
  byId("tags-title").textContent = isMany ? say("tags_of", { n: target().length }) : say("tags");
  if (isMany) {
    drawCounts();
    byId("likely").hidden = true;
    return;
  }
  const tags = tagsOf(row);
  const scores = new Map(Object.entries(row.scores ?? {}).map(([tag, score]) => [same(tag), score]));
  byId("tags").replaceChildren(...tags.slice(0, CHIPS).map((tag) => chip(tag, percent(scores.get(same(tag))))),
    ...(tags.length > CHIPS ? [el("li", {}, say("more_tags", { n: tags.length - CHIPS }))] : []));
  drawLikely(row, tags);
}

function drawLikely(row, tags) {
  const has = new Set(tags.map(same));
  const likely = Object.entries(row.scores ?? {})
    .filter(([tag, score]) => score >= LEAST && !RATINGS.has(tag) && !has.has(same(tag)));
  likely.sort((one, other) => other[1] - one[1]);
  byId("scores").replaceChildren(...likely.slice(0, LIKELY).map(([tag, score]) => chip(tag, percent(score))));
  byId("likely").hidden = !likely.length;
}

const percent = (score) => (score === undefined ? "" : score.toFixed(2).replace(/^0/, ""));

async function drawCounts() {
  counting?.abort();
  const mine = (counting = new AbortController());
  const numbers = target();
  const { counts, of } = await server.counts(numbers);
  if (mine.signal.aborted || isSingle()) return;
  byId("tags").replaceChildren(...counts.slice(0, CHIPS).map(([tag, count]) => {
    const made = chip(tag, count < of ? String(count) : "");
    made.classList.toggle("partly", count < of);
    return made;
  }));
}

function chip(tag, note) {
  const button = el("button", { type: "button", dir: "auto" }, tag);
  button.dataset.tag = tag;
  if (note) button.dataset.note = note;
  button.onkeydown = (event) => {
    if (event.key === "Delete" || event.key === "Backspace") removeTag(tag);
  };
  button.onclick = () => (button.closest("#scores") ? addTag(tag) : isSingle() ? renameChip(tag, button) : removeTag(tag));
  return el("li", {}, button);
}

function drawText(id, row, kind, stateId) {
  const box = byId(id);
  const draft = draftOf(row.number, kind);
  const text = draft ?? row[kind].text;
  if (box.value !== text) box.value = text;
  box.readOnly = state.folder.is_read_only || Boolean(row[kind].failure);
  byId(stateId).textContent = draft === undefined ? "" : say("draft");
}

function listen(id, kind) {
  const box = byId(id);
  box.addEventListener("input", () => {
    const row = rowOf(currentNumber());
    setDraft(row.number, kind, box.value === row[kind].text ? undefined : box.value);
  });
  box.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const row = rowOf(currentNumber());
    if (event.key === "Escape") byId("grid").focus();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (draftOf(row.number, kind) !== undefined) writeDraft(row.number, kind);
      byId("grid").focus();
    }
  });
}

export function startPanel() {
  listen("caption", "caption");
  listen("text", "tags");
  on("view place selection folder", drawPanel);
  on("edits", () => {
    const row = rowOf(currentNumber());
    if (!row) return;
    drawText("caption", row, "caption", "caption-state");
    drawText("text", row, "tags", "text-state");
  });
  on("rows", (numbers) => {
    if (numbers.has(currentNumber()) || (!isSingle() && target().some((number) => numbers.has(number)))) {
      isDue = true;
      drawIfDue();
    }
  });
  on("large", () => document.body.classList.toggle("large", state.isLarge));
}
