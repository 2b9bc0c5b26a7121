// Starts the page and keeps it in step with the folder.

import { announce, byId, el, fillWords, say } from "./dom.js";
import { lookAgain, nextUndo, restoreSteps } from "./edits.js";
import { suggestOn } from "./entry.js";
import { Grid } from "./grid.js";
import { drawQuick, startKeys } from "./keys.js";
import { drawCounts, startLists } from "./lists.js";
import { addTag, startPanel } from "./panel.js";
import * as server from "./server.js";
import { emit, filter, on, state } from "./state.js";

// How long a fault in a filter is kept back, which may be half typed, and how long to wait between two looks at the folder.
const TYPED = 400;
const LOOK = 2000;
const READING = 500;
// After how long a filter is shown to be under way.
const SOON = 500;

// The filter

let asking = null;
let isLooking = false;
// The filter that was last asked for; its answer may still be under way.
let wanted = "";
// The filter that Enter was pressed on: as soon as its images are shown, the grid has the focus. With a fault in it, what
// is typed next mends it: on the grid, its letters would be commands.
let entered = null;
let faulting = 0;

/** Filter the images; a fault in the filter is shown after some milliseconds. */
async function applyFilter(where, wait = 0) {
  asking?.abort();
  wanted = where;
  const mine = (asking = new AbortController());
  clearTimeout(faulting);
  // What a filter asks for may have to be read of every image first.
  const looking = setTimeout(() => {
    isLooking = true;
    drawHead();
  }, SOON);
  try {
    await filter(where, mine.signal);
    showFault(null);
    if (where === entered) leaveFilter();
  } catch (error) {
    if (error.name !== "AbortError") {
      if (!(error instanceof server.Refused)) throw error;
      faulting = setTimeout(showFault, wait, error);
    }
  } finally {
    clearTimeout(looking);
    if (mine === asking) {
      isLooking = false;
      drawHead();
    }
  }
}

function leaveFilter() {
  entered = null;
  byId("grid").focus();
}

/** Say what is wrong with the filter, and where. */
function showFault(error) {
  const [box, input] = [byId("fault"), byId("where")];
  input.setAttribute("aria-invalid", String(Boolean(error)));
  box.hidden = !error;
  if (!error) return;
  const { at } = error.body;
  // The next lines show the place, for a terminal.
  box.replaceChildren(error.message.split("\n")[0].replace(/^--where: /, ""));
  if (Number.isInteger(at)) {
    box.append(" ", el("code", {}, input.value.slice(0, at), el("mark", {}, input.value.slice(at, at + 1) || "␣"), input.value.slice(at + 1)));
  }
}

function startFilter() {
  const input = byId("where");
  input.placeholder = say("filter_example");
  input.addEventListener("input", () => {
    entered = null;
    applyFilter(input.value, TYPED);
  });
  byId("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    entered = input.value;
    if (state.where === entered && wanted === entered && !state.list) leaveFilter();
    else applyFilter(entered);
  });
  on("ask", (where) => {
    input.value = where;
    applyFilter(where);
  });
}

// The head of the page

function drawHead() {
  const { found, read, is_reading: isReading, name } = state.folder;
  if (!found) return;
  byId("name").textContent = name;
  document.title = `${name} - sdprep review`;
  const count = isLooking ? say("planning") : say("of", { n: state.numbers.length, of: found });
  const parts = [state.list || null, count, isReading ? say("reading", { n: read }) : null];
  byId("found").textContent = parts.filter(Boolean).join(" · ");
  byId("chosen").textContent = state.selected.size ? say("selected", { n: state.selected.size }) : "";
  byId("notice").hidden = !state.folder.is_read_only;
  byId("notice").textContent = say("read_only");
}

async function readFolder() {
  const wasReading = state.folder.is_reading;
  state.folder = await server.folder();
  emit("folder");
  if (state.folder.is_reading) setTimeout(readFolder, READING);
  else if (wasReading) {
    await lookAgain();
    if (wanted && !state.list) await applyFilter(wanted);
    else await drawCounts();
  }
}

/** Ask what has changed, as long as somebody is looking. */
async function keepLooking() {
  try {
    if (!document.hidden && !state.folder.is_reading) await lookAgain();
  } catch (error) {
    if (!(error instanceof server.Refused)) throw error;
    announce(error.message, true);
  }
  setTimeout(keepLooking, LOOK);
}

async function start() {
  fillWords();
  startKeys(new Grid(byId("grid")));
  startPanel();
  startLists();
  startFilter();
  suggestOn(byId("add"), byId("suggestions"), addTag, () => byId("grid").focus());
  on("view selection folder", drawHead);
  on("runs", () => (byId("open-session").title = nextUndo() && say("next_undo", { what: nextUndo() })));
  byId("where").value = "";
  await Promise.all([readFolder(), applyFilter("")]);
  // Whoever was faster may be typing by now.
  if (document.activeElement === document.body) byId("grid").focus();
  drawQuick();
  restoreSteps((await server.session()).runs);
  keepLooking();
}

await start();
