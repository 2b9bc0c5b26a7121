// A grid of equal cells that has elements only for what is in sight, and touches only cells that enter or change.

import { el, say } from "./dom.js";
import { emit, goTo, on, rowOf, select, setLarge, state, toggleSelected, wantRows } from "./state.js";

const CELL = { width: 184, height: 216 };
// Browsers cut a box at 17 to 33 million pixels. Above this height, the scroll bar is a scale of the rows.
const MOST_PIXELS = 8_000_000;
// Cells are placed from a base that moves with the view, since browsers round large positions.
const FAR = 1_000_000;
// Rows kept ready above and below, and how long a cell is in sight before its thumbnail is asked for.
const MARGIN = 1;
const SETTLED = 80;
// Thumbnails that are asked for at once: a browser has six connections, and some stay free for what is asked meanwhile.
const LOADING = 4;

export class Grid {
  #box;
  #tall = el("div", { className: "tall" });
  #layer = el("div", { className: "layer", role: "presentation" });
  #cells = new Map();
  #spare = [];
  #offset = 0;
  #base = 0;
  #expected = -1;
  #frame = 0;
  #timer = 0;
  #scrolled = -SETTLED;
  // The size of the box, which is measured when it changes: asking for it makes the browser lay out the page.
  #width = 0;
  #seen = 0;

  constructor(box) {
    this.#box = box;
    this.#tall.append(this.#layer);
    box.append(this.#tall);
    box.addEventListener("scroll", () => this.#onScroll());
    box.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    box.addEventListener("click", (event) => this.#onClick(event));
    box.addEventListener("dblclick", () => setLarge(true));
    for (const end of ["load", "error"]) box.addEventListener(end, () => this.#timer || this.#load(), true);
    new ResizeObserver(() => this.#resize()).observe(box);
    this.#measure();
    on("view", () => this.#reset());
    on("place", () => this.#show(state.at));
    on("selection", () => this.#mark());
    on("rows", (numbers) => this.#refresh(numbers));
  }

  /** Cells in a row. */
  get columns() {
    return Math.max(1, Math.floor(this.#width / CELL.width));
  }

  /** Whole rows in sight. */
  get rowsInSight() {
    return Math.max(1, Math.floor(this.#seen / CELL.height));
  }

  get #height() {
    return Math.ceil(state.numbers.length / this.columns) * CELL.height;
  }

  /** Pixels of the view per pixel of the scroll bar: 1 unless the view is too tall for a browser. */
  get #scale() {
    return this.#height <= MOST_PIXELS ? 1 : (this.#height - this.#seen) / (MOST_PIXELS - this.#seen);
  }

  #measure() {
    [this.#width, this.#seen] = [this.#box.clientWidth, this.#box.clientHeight];
    state.inSight = this.columns * (Math.ceil(this.#seen / CELL.height) + MARGIN);
  }

  #resize() {
    const width = this.#width;
    this.#measure();
    if (this.#width === width) this.#show(state.at);
    else this.#reset();
  }

  #reset() {
    if (!this.#width) return;
    for (const [place, cell] of this.#cells) this.#leave(place, cell);
    const height = Math.min(this.#height, MOST_PIXELS);
    this.#tall.style.height = `${height}px`;
    this.#layer.style.setProperty("--cell-width", `${this.#width / this.columns}px`);
    this.#offset = Math.min(this.#offset, Math.max(0, this.#height - this.#seen));
    this.#show(state.at);
    this.#draw();
  }

  #onScroll() {
    if (Math.abs(this.#box.scrollTop - this.#expected) < 1) return;
    this.#offset = this.#box.scrollTop * this.#scale;
    this.#later();
  }

  #onWheel(event) {
    // Where a pixel of the bar is many of the view, the wheel moves the view itself.
    if (this.#scale === 1 || event.ctrlKey) return;
    event.preventDefault();
    this.#scrollTo(this.#offset + event.deltaY);
  }

  #scrollTo(offset) {
    this.#offset = Math.min(Math.max(offset, 0), Math.max(0, this.#height - this.#seen));
    this.#box.scrollTop = this.#offset / this.#scale;
    this.#expected = this.#box.scrollTop;
    this.#later();
  }

  #later() {
    this.#scrolled = performance.now();
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  /** Scroll as far as needed to have a place in sight. */
  #show(place) {
    const top = Math.floor(place / this.columns) * CELL.height;
    const bottom = top + CELL.height - this.#seen;
    if (top < this.#offset) this.#scrollTo(top);
    else if (bottom > this.#offset) this.#scrollTo(bottom);
    this.#draw();
    this.#mark();
  }

  #draw() {
    const { columns } = this;
    const first = Math.floor(this.#offset / CELL.height) - MARGIN;
    const last = Math.ceil((this.#offset + this.#seen) / CELL.height) + MARGIN;
    const [from, to] = [Math.max(0, first * columns), Math.min(state.numbers.length, last * columns)];
    for (const [place, cell] of this.#cells) if (place < from || place >= to) this.#leave(place, cell);
    this.#rebase();
    for (let place = from; place < to; place += 1) if (!this.#cells.has(place)) this.#enter(place);
    const asked = state.numbers.subarray(from, to);
    const wait = this.#scrolled + SETTLED - performance.now();
    clearTimeout(this.#timer);
    if (wait <= 0) this.#fill(asked);
    else this.#timer = setTimeout(() => this.#fill(asked), SETTLED);
  }

  #rebase() {
    const isScaled = this.#scale !== 1;
    const isFar = isScaled && (!this.#base || Math.abs(this.#offset - this.#base) > FAR);
    if (isFar || (!isScaled && this.#base)) {
      this.#base = isScaled ? Math.max(CELL.height, Math.floor(this.#offset / CELL.height) * CELL.height) : 0;
      for (const [place, cell] of this.#cells) this.#put(place, cell);
    }
    const top = isScaled ? this.#box.scrollTop - this.#offset + this.#base : 0;
    this.#layer.style.transform = `translateY(${top}px)`;
  }

  #put(place, cell) {
    const { columns } = this;
    const left = (place % columns) * (this.#width / columns);
    const top = Math.floor(place / columns) * CELL.height - this.#base;
    cell.style.transform = `translate(${left}px, ${top}px)`;
  }

  #enter(place) {
    const cell = this.#spare.pop() ?? makeCell();
    cell.id = `cell-${place}`;
    cell.place = place;
    cell.number = state.numbers[place];
    cell.since = performance.now();
    cell.setAttribute("aria-posinset", place + 1);
    cell.setAttribute("aria-setsize", state.numbers.length);
    this.#put(place, cell);
    describe(cell);
    markCell(cell);
    this.#cells.set(place, cell);
    if (!cell.isConnected) this.#layer.append(cell);
    cell.hidden = false;
  }

  #leave(place, cell) {
    this.#cells.delete(place);
    cell.image.removeAttribute("src");
    cell.hidden = true;
    if (this.#spare.length < 60) this.#spare.push(cell);
    else cell.remove();
  }

  /** Ask for the rows and thumbnails of what has stayed in sight. */
  #fill(numbers) {
    this.#timer = 0;
    wantRows(numbers);
    this.#load();
  }

  #load() {
    const cells = [...this.#cells.values()];
    const waiting = cells.filter(({ image }) => !image.hasAttribute("src"));
    const loading = cells.filter(({ image }) => !image.complete).length;
    for (const cell of waiting.slice(0, Math.max(0, LOADING - loading))) cell.image.src = `thumb/${cell.number}`;
  }

  #refresh(numbers) {
    for (const cell of this.#cells.values()) if (numbers.has(cell.number)) describe(cell);
  }

  #mark() {
    for (const cell of this.#cells.values()) markCell(cell);
    if (this.#cells.has(state.at)) this.#box.setAttribute("aria-activedescendant", `cell-${state.at}`);
    else this.#box.removeAttribute("aria-activedescendant");
  }

  #onClick(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    if (event.ctrlKey || event.metaKey) toggleSelected(cell.number);
    else if (!event.shiftKey && state.selected.size) {
      emit("replaced", state.selected);
      select([]);
    }
    goTo(cell.place, event.shiftKey);
  }
}

function makeCell() {
  const cell = el("div", { className: "cell", role: "option" });
  cell.image = el("img", { alt: "", draggable: false });
  cell.words = el("span", { className: "words", dir: "auto" });
  cell.corner = el("span", { className: "corner" });
  cell.append(cell.image, cell.words, cell.corner);
  cell.image.addEventListener("error", () => cell.classList.add("broken"));
  cell.image.addEventListener("load", () => cell.classList.remove("broken"));
  return cell;
}

function markCell(cell) {
  const isSelected = state.selected.has(cell.number);
  cell.classList.toggle("current", cell.place === state.at);
  if (isSelected !== (cell.getAttribute("aria-selected") === "true")) cell.setAttribute("aria-selected", isSelected);
}

/** Write what is known of an image on its cell. */
function describe(cell) {
  const row = rowOf(cell.number);
  cell.classList.toggle("broken", Boolean(row?.failure));
  if (!row) {
    cell.words.textContent = cell.corner.textContent = "";
    cell.removeAttribute("aria-label");
    return;
  }
  const words = row.tags.list.length ? row.tags.list.slice(0, 12).join(", ") : row.caption.text;
  cell.words.textContent = words.slice(0, 200);
  const notes = notesOf(row);
  cell.corner.textContent = notes.map(([sign]) => sign).join("");
  cell.corner.title = notes.map(([, note]) => note).join(", ");
  cell.setAttribute("aria-label", [row.path, ...notes.map(([, note]) => note), cell.words.textContent].join(", "));
}

function notesOf(row) {
  const notes = [];
  if (row.failure || row.tags.failure || row.caption.failure) notes.push(["!", say("failed")]);
  if (!row.tags.exists && !row.caption.exists) notes.push(["∅", say("missing")]);
  if (row.tags.is_approved || row.caption.is_approved) notes.push(["✓", say("approved")]);
  if (row.stars) notes.push(["★".repeat(row.stars), say("stars", { n: row.stars })]);
  if (row.is_rejected) notes.push(["✕", say("rejected")]);
  return notes;
}
