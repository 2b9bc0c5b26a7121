// The whole keyboard map in one table: it is what keys do, what `?` shows, and what Ctrl+K finds by name.

import { announce, byId, el, openDialog, say } from "./dom.js";
import { approve, lookAgain, mark, redo, undo } from "./edits.js";
import { openFindings, openSession, toggleCrop } from "./lists.js";
import { addTag, chooseChip, last, moveTag, operate, removeTag, renameChip, stopChoosing, typeLetter } from "./panel.js";
import { openPreview } from "./preview.js";
import * as server from "./server.js";
import { currentNumber, emit, filter, goTo, isSingle, on, rowOf, select, setLarge, state, target, toggleSelected } from "./state.js";

let grid = null;

const move = (by) => (isRange) => goTo(state.at + by(), isRange);
const page = () => grid.columns * grid.rowsInSight;

// Keys, the name of the command (its words are in the messages), and what it does.
export const COMMANDS = [
  { name: "left", keys: ["ArrowLeft"], run: move(() => -1), extends: true },
  { name: "right", keys: ["ArrowRight"], run: move(() => 1), extends: true },
  { name: "up", keys: ["ArrowUp"], run: move(() => (state.isLarge ? -1 : -grid.columns)), extends: true },
  { name: "down", keys: ["ArrowDown"], run: move(() => (state.isLarge ? 1 : grid.columns)), extends: true },
  { name: "page_up", keys: ["PageUp"], run: move(() => -page()), extends: true },
  { name: "page_down", keys: ["PageDown"], run: move(() => page()), extends: true },
  { name: "first", keys: ["Home"], run: (isRange) => goTo(0, isRange), extends: true },
  { name: "last", keys: ["End"], run: (isRange) => goTo(state.numbers.length - 1, isRange), extends: true },
  { name: "next_machine", keys: ["n"], run: () => goToMachine(1) },
  { name: "previous_machine", keys: ["Shift+n"], run: () => goToMachine(-1) },
  { name: "large", keys: ["Enter"], run: () => setLarge(!state.isLarge) },
  { name: "back", keys: ["Escape"], run: goBack },
  { name: "toggle", keys: [" "], run: toggleCurrent },
  { name: "select_all", keys: ["Ctrl+a"], run: () => select(state.numbers) },
  { name: "filter", keys: ["/"], run: () => byId("where").select() },
  { name: "add", keys: ["t"], run: () => byId("add").focus() },
  { name: "remove", keys: ["x"], run: () => chooseChip("tags", removeTag) },
  { name: "rename", keys: ["r"], run: renameTarget },
  { name: "move_left", keys: ["["], run: () => moveChosen(-1) },
  { name: "move_right", keys: ["]"], run: () => moveChosen(1) },
  { name: "scores", keys: ["s"], run: () => chooseChip("scores", addTag) },
  { name: "repeat", keys: ["."], run: () => (last ? operate(last) : announce(say("nothing_to_repeat"))) },
  { name: "caption", keys: ["c"], run: () => byId("caption").focus() },
  { name: "raw", keys: ["w"], run: openRaw },
  { name: "approve", keys: ["a"], run: approveTarget },
  { name: "bulk", keys: ["e"], run: () => openPreview({ scope: state.selected.size ? "selection" : "filter" }) },
  { name: "undo", keys: ["z", "Ctrl+z"], run: undo },
  { name: "redo", keys: ["Shift+z", "Ctrl+y"], run: redo },
  { name: "look_again", keys: ["u"], run: lookAtFolder },
  { name: "more_stars", keys: ["+", "="], run: () => addStars(1) },
  { name: "fewer_stars", keys: ["-"], run: () => addStars(-1) },
  { name: "reject", keys: ["Delete"], run: rejectTarget },
  { name: "crop", keys: ["b"], run: toggleCrop },
  { name: "findings", keys: ["f"], run: openFindings },
  { name: "session", keys: ["h"], run: openSession },
  { name: "commands", keys: ["Ctrl+k"], run: openCommands },
  { name: "help", keys: ["?"], run: openHelp },
  ...Array.from({ length: 9 }, (_, at) => String(at + 1)).flatMap((digit) => [
    { name: "quick", digit, keys: [digit], run: () => useQuick(digit) },
    { name: "set_quick", digit, keys: [`Shift+${digit}`], run: () => setQuick(digit) },
  ]),
];

// What the panel shows is what these are about.
const OF_PANEL = new Set(["add", "remove", "rename", "move_left", "move_right", "scores", "repeat", "caption", "raw", "approve",
  "more_stars", "fewer_stars", "reject", "quick"]);
// One key press is one step, however long the key is held.
const STEPS = new Set(["undo", "redo"]);

const wordsOf = ({ name, digit }) => say(`do_${name}`, { digit });

// What keys do

function goBack() {
  if (state.isLarge) setLarge(false);
  else if (state.selected.size) {
    emit("replaced", state.selected);
    select([]);
  } else byId("grid").focus();
}

function toggleCurrent() {
  if (state.numbers.length) toggleSelected(currentNumber());
}

async function goToMachine(step) {
  const machine = new Set((await server.view("source:machine")).numbers);
  for (let place = state.at + step; place >= 0 && place < state.numbers.length; place += step) {
    if (machine.has(state.numbers[place])) return goTo(place);
  }
  announce(say("nothing_more"));
}

function renameTarget() {
  chooseChip("tags", (tag, chip) => {
    if (isSingle()) renameChip(tag, chip);
    else openPreview({ name: "replace", value: `${tag.replaceAll("=", "\\=")}=` });
  });
}

function moveChosen(step) {
  const chip = document.activeElement.closest?.("#tags button");
  if (chip) moveTag(chip.dataset.tag, step);
  else chooseChip("tags", (tag) => moveTag(tag, step));
}

function openRaw() {
  byId("raw").open = true;
  byId("text").focus();
}

function approveTarget() {
  const wasSingle = isSingle();
  const numbers = target();
  if (wasSingle) goTo(state.at + 1);
  if (numbers.length) approve(numbers);
}

async function lookAtFolder() {
  await lookAgain();
  if (!state.list) await filter(state.where);
  announce(say("looked_again"));
}

/** Mark the target as follows from the marks of the current image. */
function markTarget(marksAfter) {
  const [numbers, number] = [target(), currentNumber()];
  if (numbers.length) mark(numbers, () => marksAfter(rowOf(number)));
}

function addStars(step) {
  markTarget((row) => {
    const stars = (row?.stars ?? 0) + step;
    return stars >= 0 && stars <= 5 ? { stars } : null;
  });
}

function rejectTarget() {
  markTarget((row) => ({ is_rejected: !row?.is_rejected }));
}

// Quick tags

const quickKey = () => `sdprep quick tags ${state.folder.name}`;
const quickTags = () => JSON.parse(localStorage.getItem(quickKey()) ?? "{}");

function useQuick(digit) {
  const tag = quickTags()[digit];
  if (tag) addTag(tag);
  else setQuick(digit);
}

function setQuick(digit) {
  const input = el("input", { type: "text", value: quickTags()[digit] ?? "", "aria-label": say("quick_tag", { digit }) });
  const form = el("form", { method: "dialog" }, input);
  const dialog = openDialog("quick-tag", say("quick_tag", { digit }), form);
  form.onsubmit = () => {
    const { [digit]: _, ...tags } = quickTags();
    const tag = input.value.trim();
    localStorage.setItem(quickKey(), JSON.stringify(tag ? { ...tags, [digit]: tag } : tags));
    drawQuick();
  };
  dialog.addEventListener("close", () => byId("grid").focus());
  input.select();
}

export function drawQuick() {
  const tags = Object.entries(quickTags());
  byId("quick").replaceChildren(...tags.map(([digit, tag]) => {
    const button = el("button", { type: "button", dir: "auto", onclick: () => addTag(tag) }, tag);
    return el("li", { value: Number(digit) }, button);
  }));
}

// Help

const shown = (key) => (key === " " ? say("space") : key.replace("Arrow", "").replace(/(^|\+)[a-z]$/, (end) => end.toUpperCase()));

function openHelp() {
  const rows = COMMANDS.filter(({ digit }) => !digit || digit === "1").map((command) => {
    const names = command.digit ? command.keys.map((key) => key.replace("1", "1-9")) : command.keys.map(shown);
    const keys = names.map((name) => el("kbd", {}, name));
    const more = command.extends ? ` ${say("shift_extends")}` : "";
    return el("tr", {}, el("td", {}, ...keys), el("td", {}, say(`do_${command.name}`, { digit: "1-9" }) + more));
  });
  openDialog("help", say("keys"), el("table", {}, ...rows));
}

function openCommands() {
  const input = el("input", { type: "text", "aria-label": say("command"), placeholder: say("command") });
  const list = el("ul", { id: "commands", role: "listbox", "aria-label": say("keys") });
  const dialog = openDialog("palette", say("do_commands"), input, list);
  let [found, chosen] = [[], 0];
  const draw = () => {
    const typed = input.value.toLowerCase();
    found = COMMANDS.filter((command) => wordsOf(command).toLowerCase().includes(typed)).slice(0, 12);
    list.replaceChildren(...found.map((command, at) => el("li", { role: "option", "aria-selected": String(at === chosen),
      onclick: () => choose(command) }, wordsOf(command), el("kbd", {}, shown(command.keys[0])))));
  };
  const choose = (command) => {
    dialog.close();
    byId("grid").focus();
    run(command);
  };
  input.oninput = () => {
    chosen = 0;
    draw();
  };
  input.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Enter: 0 }[event.key];
    if (step === undefined || event.isComposing || !found.length) return;
    event.preventDefault();
    chosen = (chosen + step + found.length) % found.length;
    if (step) draw();
    else choose(found[chosen]);
  };
  draw();
}

// Keys

/** The names of a key, the most exact first; letters by their place where the layout has other scripts. */
function namesOf(event) {
  const isWritten = event.getModifierState("AltGraph");
  const ctrl = (event.ctrlKey || event.metaKey) && !isWritten ? "Ctrl+" : "";
  let { key } = event;
  if (/^Key[A-Z]$/.test(event.code) && !/^[\x20-\x7e]$/.test(key)) key = event.code.slice(3);
  if (/^[a-z]$/i.test(key)) return [`${ctrl}${event.shiftKey ? "Shift+" : ""}${key.toLowerCase()}`];
  const digit = event.code.match(/^(?:Digit|Numpad)([1-9])$/)?.[1];
  return [`${ctrl}${key}`, ...(digit && !ctrl ? [event.shiftKey ? `Shift+${digit}` : digit] : [])];
}

// A command about the panel, which does not show the image yet. Letters after it are not for other commands: they were to be
// typed in the panel.
let due = null;

function runDue() {
  if (!due || !rowOf(currentNumber())) return;
  const command = due;
  due = null;
  // Whoever types elsewhere by now has given it up.
  if (!document.activeElement?.closest("input, textarea, select, dialog")) run(command);
}

/** Whether the panel will show an image, and does not yet. */
function isComing() {
  return state.numbers.length ? !rowOf(currentNumber()) : !state.hasView;
}

function onKey(event) {
  const isTyped = event.target.closest("input, textarea, select");
  const dialog = document.querySelector("dialog[open]");
  if (dialog?.id === "help" && event.key === "?") dialog.close();
  if (event.defaultPrevented || dialog) return;
  if (event.key === "Escape" && isTyped) {
    byId("grid").focus();
    return;
  }
  if (isTyped || (event.altKey && !event.getModifierState("AltGraph"))) return;
  const isCommand = event.ctrlKey || event.metaKey;
  if (!isCommand && ((due && event.key.length === 1) || (event.key !== "Shift" && typeLetter(event.key)))) {
    event.preventDefault();
    return;
  }
  // A focused button is pressed by Enter and Space, and a chip is removed by Delete.
  if (event.target.closest("button, summary") && ["Enter", " ", "Delete"].includes(event.key)) return;
  const names = namesOf(event);
  const command = names.map((name) => COMMANDS.find(({ keys }) => keys.includes(name))).find(Boolean);
  if (!command) return;
  event.preventDefault();
  if (!(event.repeat && STEPS.has(command.name))) run(command, event.shiftKey);
}

/** Run a command by itself or by its name. */
export async function run(command, isRange = false) {
  const found = typeof command === "string" ? COMMANDS.find(({ name }) => name === command) : command;
  stopChoosing();
  due = OF_PANEL.has(found.name) && isComing() ? found : null;
  if (due) return;
  try {
    await found.run(isRange);
  } catch (error) {
    if (!(error instanceof server.Refused)) throw error;
    announce(error.message, true);
  }
}

export function startKeys(made) {
  grid = made;
  document.addEventListener("keydown", onKey);
  // After the panel has drawn them.
  on("rows view", () => queueMicrotask(runDue));
  for (const button of document.querySelectorAll("[data-command]")) {
    const { keys } = COMMANDS.find(({ name }) => name === button.dataset.command);
    button.append(say(`do_${button.dataset.command}`), " ", el("kbd", {}, shown(keys[0])));
    button.addEventListener("click", () => run(button.dataset.command));
  }
}
