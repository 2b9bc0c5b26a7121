// Lists beside the grid: the tags of the filter, what `sdprep check` finds, this session's runs, the trainer's crop.

import { byId, el, openDialog, say, sayFinding } from "./dom.js";
import * as server from "./server.js";
import { currentNumber, emit, on, rowOf, setView, state } from "./state.js";

const COUNTS = 40;
// The training resolution for which the crop is shown.
const RESOLUTION = 1024;
const TARGETS = ["dreambooth", "sd-scripts", "onetrainer", "simpletuner", "ai-toolkit", "diffusion-pipe", "imagefolder"];

// Counts come after the images, and not before the next letter of a filter.
const CALM = 100;
let calming = 0;
let counting = null;

/** Draw the most frequent tags of the filter; one click limits the filter to a tag, Shift leaves it out. */
export async function drawCounts() {
  counting?.abort();
  const mine = (counting = new AbortController());
  let answer;
  try {
    answer = state.list ? await server.counts([...state.numbers]) : await server.countsOf(state.where, mine.signal);
  } catch (error) {
    if (error.name === "AbortError" || error instanceof server.Refused) return;
    throw error;
  }
  if (mine.signal.aborted) return;
  byId("counts").replaceChildren(...answer.counts.slice(0, COUNTS).map(([tag, count]) => {
    const button = el("button", { type: "button", dir: "auto", title: say("count_help") }, tag);
    button.dataset.note = count.toLocaleString();
    button.onclick = (event) => narrow(tag, event.shiftKey);
    return button;
  }));
}

function narrow(tag, isLeftOut) {
  const value = `tag:"${tag.replace(/["\\*?]/g, "\\$&")}"`;
  const term = isLeftOut ? `NOT ${value}` : value;
  const before = / OR /.test(state.where) ? `(${state.where})` : state.where;
  emit("ask", before ? `${before} AND ${term}` : term);
}

/** Show what `sdprep check` finds; choosing one shows its images. */
export async function openFindings() {
  const list = el("ul", { className: "rows" });
  const target = el("select", { "aria-label": say("trainer") }, ...TARGETS.map((name) => el("option", {}, name)));
  const dialog = openDialog("findings", say("do_findings"), target, list);
  const draw = async () => {
    const asked = target.value;
    list.replaceChildren(el("li", {}, say("planning")));
    let findings;
    try {
      ({ findings } = await server.findings(asked));
    } catch (error) {
      if (!(error instanceof server.Refused)) throw error;
      if (asked === target.value) list.replaceChildren(el("li", { role: "alert" }, error.message));
      return;
    }
    if (asked !== target.value) return;
    const rows = findings.map(({ code, message, numbers }) => {
      const button = el("button", { type: "button", title: message }, `${code}: ${sayFinding({ code, message })}`);
      button.dataset.note = numbers.length.toLocaleString();
      button.onclick = () => {
        dialog.close();
        setView(Uint32Array.from(numbers), { list: `${code} (${asked})` });
      };
      return el("li", {}, button);
    });
    list.replaceChildren(...(rows.length ? rows : [el("li", {}, say("no_findings"))]));
  };
  target.onchange = draw;
  await draw();
}

/** Show the runs of this session. */
export async function openSession() {
  const { runs } = await server.session();
  const rows = runs.toReversed().slice(0, 200).map(({ run, what, files, is_undone }) =>
    el("tr", { className: is_undone ? "undone" : "" }, el("td", {}, el("code", {}, run)), el("td", {}, what),
      el("td", {}, say("files", { n: files })), el("td", {}, is_undone ? say("is_undone") : "")));
  openDialog("session", say("do_session"), rows.length ? el("table", {}, ...rows) : el("p", {}, say("no_runs")));
}

// The crop of the trainer, over the large image

let isCropped = false;

export function toggleCrop() {
  isCropped = !isCropped;
  return drawCrop();
}

async function drawCrop() {
  const [image, box, number] = [byId("image"), byId("crop"), currentNumber()];
  box.hidden = true;
  if (!isCropped || number === undefined) return;
  const { bucket, crop } = await server.crop(number, RESOLUTION);
  const size = rowOf(number);
  if (number !== currentNumber() || !size?.width || !image.clientWidth) return;
  // The image is fitted into its box: `scale` pixels of the page per pixel of the image.
  const scale = Math.min(image.clientWidth / size.width, image.clientHeight / size.height);
  const left = image.offsetLeft + (image.clientWidth - size.width * scale) / 2;
  const top = image.offsetTop + (image.clientHeight - size.height * scale) / 2;
  Object.assign(box.style, { left: `${left + crop[0] * scale}px`, top: `${top + crop[1] * scale}px`,
    width: `${crop[2] * scale}px`, height: `${crop[3] * scale}px` });
  box.textContent = bucket.join(" × ");
  box.hidden = false;
}

export function startLists() {
  on("asking view", () => {
    counting?.abort();
    clearTimeout(calming);
  });
  on("view", () => (calming = setTimeout(drawCounts, CALM)));
  byId("image").addEventListener("load", drawCrop);
  // Its place changes with the window, the large view, and a scroll bar that comes or goes.
  new ResizeObserver(drawCrop).observe(byId("image"));
}
