// The preview of a bulk edit: how many files change, and the changed tags of samples. What it shows is what is written.

import { announce, byId, el, openDialog, say } from "./dom.js";
import { lookAgain, remember } from "./edits.js";
import { showProgress } from "./progress.js";
import * as server from "./server.js";
import { currentNumber, isSingle, state, target } from "./state.js";

// A held Enter key applies no more than this.
const BY_ENTER = 100;
const TYPED = 200;
const OPERATIONS = {
  tags: ["add", "remove", "replace", "regex", "move", "sort", "dedupe", "prefix", "suffix"],
  caption: ["replace", "regex", "prefix", "suffix"],
};
const WITHOUT_VALUE = ["sort", "dedupe"];

/** Open the preview, for the selection or everything in the filter; with an operation it is filled in. */
export function openPreview({ kind = "tags", name = "replace", value = "", scope } = {}) {
  const form = el("form", { method: "dialog" });
  const [kinds, names, scopes] = [select("kind"), select("operation"), select("scope")];
  const entry = el("input", { type: "text", id: "value", value, autocomplete: "off", spellcheck: false,
    "aria-label": say("value") });
  const head = el("p", { id: "plan", role: "status" });
  const samples = el("ul", { id: "samples", tabIndex: 0, "aria-label": say("samples") });
  const apply = el("button", { type: "button", id: "apply" }, say("apply"));
  form.append(scopes, kinds, names, entry);
  const dialog = openDialog("preview", say("bulk"), form, head, samples, el("p", { className: "buttons" }, apply));
  fill(kinds, ["tags", "caption"].map((each) => [each, say(each)]), kind);
  fill(scopes, scopesNow(), scope ?? (isSingle() ? "filter" : "selection"));
  const fillNames = () => fill(names, OPERATIONS[kinds.value].map((each) => [each, say(`op_${each}`)]),
    OPERATIONS[kinds.value].includes(names.value || name) ? names.value || name : "replace");
  fillNames();

  let made = null;
  let asked = 0;
  // What is shown until the next plan has come: nothing of the last one, which can no longer be applied.
  const clear = () => {
    asked += 1;
    made = null;
    apply.disabled = true;
    samples.replaceChildren();
    head.className = "";
    head.textContent = entry.hidden || entry.value ? say("planning") : say("type_value");
  };
  const plan = async () => {
    entry.hidden = WITHOUT_VALUE.includes(names.value);
    entry.placeholder = entry.hidden ? "" : say(`value_${names.value}`);
    clear();
    const mine = asked;
    if (!entry.hidden && !entry.value) return;
    try {
      const operation = { name: names.value, value: entry.hidden ? "" : entry.value };
      const answer = await server.plan(targetOf(scopes.value), kinds.value, operation);
      if (mine !== asked) return;
      made = { ...answer, what: `${say(`op_${operation.name}`)}: ${operation.value}` };
      show(answer, head, samples);
      apply.disabled = !answer.changes;
    } catch (error) {
      if (!(error instanceof server.Refused)) throw error;
      if (mine !== asked) return;
      head.className = "error";
      head.textContent = error.message;
    }
  };
  let typing = 0;
  entry.addEventListener("input", () => {
    clear();
    clearTimeout(typing);
    typing = setTimeout(plan, TYPED);
  });
  kinds.onchange = () => { fillNames(); plan(); };
  names.onchange = scopes.onchange = plan;
  const begin = () => {
    if (!made?.changes) return;
    applyPlan(made, dialog);
    made = null;
  };
  apply.onclick = begin;
  form.onsubmit = (event) => event.preventDefault();
  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.target.closest("button")) return;
    event.preventDefault();
    if (event.repeat || !made?.changes) return;
    if (made.changes <= BY_ENTER || event.ctrlKey || event.metaKey) begin();
    else announceIn(head, say("press_ctrl_enter", { n: made.changes }));
  });
  entry.focus();
  plan();
}

function announceIn(head, text) {
  head.className = "error";
  head.textContent = text;
}

function select(id) {
  return el("select", { id, "aria-label": say(id) });
}

function fill(box, options, chosen) {
  box.replaceChildren(...options.map(([value, text]) => el("option", { value, textContent: text, selected: value === chosen })));
}

function scopesNow() {
  const scopes = [["current", say("scope_current")], ["filter", say("scope_filter", { n: state.numbers.length })]];
  if (state.selected.size) scopes.splice(1, 0, ["selection", say("scope_selection", { n: state.selected.size })]);
  return scopes;
}

function targetOf(scope) {
  if (scope === "current") return { numbers: [currentNumber()] };
  // The numbers in view, also where a filter would match others by now: they are what is seen.
  return { numbers: scope === "selection" ? target() : [...state.numbers] };
}

function show({ changes, of, samples, missing, left }, head, list) {
  head.textContent = say("plan", { changes, of });
  if (changes > BY_ENTER) head.textContent += ` ${say("press_ctrl_enter", { n: changes })}`;
  if (missing) head.textContent += ` ${say("plan_missing", { n: missing })}`;
  if (left.length) head.textContent += ` ${say("plan_left", { n: left.length, ...left[0] })}`;
  list.replaceChildren(...samples.map(({ path, parts }) => el("li", {}, el("code", { dir: "auto" }, path), " ",
    ...changedOnly(parts).map(({ text, kind }) => part(text, kind)))));
}

/** The parts that change, with what stays shortened to a sign. */
function changedOnly(parts) {
  return parts.map((each) => (each.kind === "same" ? { ...each, text: " … " } : each));
}

function part(text, kind) {
  if (kind === "same") return el("span", { className: "same" }, text);
  const name = kind === "added" ? "ins" : "del";
  return el(name, { dir: "auto", "aria-label": say(kind, { text }) }, text);
}

/** Apply a plan, with progress and a way to stop. */
async function applyPlan({ plan, what }, dialog) {
  for (const each of dialog.querySelectorAll("select, input")) each.disabled = true;
  try {
    const applied = showProgress(dialog.querySelector(".buttons"), server.apply(plan));
    const { run, written, remaining, left } = await applied;
    if (run) remember({ what: `${what} (${written})`, runs: [run] });
    announce(remaining ? say("remaining", { n: remaining }) : say("written", { n: written }));
    await lookAgain();
    if (left.length) showLeft(left);
  } catch (error) {
    if (!(error instanceof server.Refused)) throw error;
    announce(error.message, true);
  } finally {
    dialog.close();
    byId("grid").focus();
  }
}

function showLeft(left) {
  const files = left.slice(0, 100).map(({ path, reason }) => el("li", {}, el("code", { dir: "auto" }, path), ` ${reason}`));
  openDialog("left-files", say("left_title", { n: left.length }), el("ul", {}, ...files));
}
