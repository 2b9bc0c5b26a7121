// Inputs for tags, with suggestions: the dataset's own tags first.

import { el, say } from "./dom.js";
import * as server from "./server.js";

/** Give an input suggestions in a list; `take` gets the tag on Enter, `leave` is called on Esc. */
export function suggestOn(input, list, take, leave) {
  let asked = null;
  let chosen = -1;
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", list.id);

  const close = () => {
    asked?.abort();
    list.hidden = true;
    list.replaceChildren();
    choose(-1);
    input.setAttribute("aria-expanded", "false");
  };
  const choose = (place) => {
    chosen = place;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", at === place));
    if (place < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", list.children[place].id);
  };
  const accept = (text) => {
    close();
    input.value = "";
    if (text.trim()) take(text.trim());
  };

  const ask = async () => {
    asked?.abort();
    asked = new AbortController();
    const { signal } = asked;
    if (!input.value.trim()) return close();
    let suggestions;
    try {
      ({ suggestions } = await server.suggest(input.value.trim(), signal));
    } catch (error) {
      if (error.name === "AbortError" || error instanceof server.Refused) return;
      throw error;
    }
    if (signal.aborted) return;
    list.replaceChildren(...suggestions.slice(0, 10).map((each, at) => option(each, `${list.id}-${at}`)));
    list.hidden = !suggestions.length;
    list.scrollIntoView({ block: "nearest" });
    choose(-1);
    input.setAttribute("aria-expanded", String(!list.hidden));
  };

  input.addEventListener("input", ask);
  input.addEventListener("blur", close);
  list.addEventListener("mousedown", (event) => {
    const one = event.target.closest("[role=option]");
    if (!one) return;
    event.preventDefault();
    accept(one.dataset.tag);
  });
  input.addEventListener("keydown", (event) => {
    const options = list.children;
    if (event.isComposing) return;
    if (event.key === "Enter") {
      const isFirst = (event.ctrlKey || event.metaKey) && options.length;
      accept(isFirst ? options[0].dataset.tag : input.value);
    } else if (event.key === "Escape") {
      if (list.hidden) leave();
      else close();
    } else if (["ArrowDown", "ArrowUp"].includes(event.key) && options.length) {
      const step = event.key === "ArrowDown" ? 1 : -1;
      choose((Math.max(chosen, step > 0 ? -1 : 0) + step + options.length) % options.length);
      input.value = options[chosen].dataset.tag;
    } else if (event.key === "Tab" && !event.shiftKey && options.length && chosen < 0) {
      choose(0);
      input.value = options[0].dataset.tag;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

function option({ tag, count, alias }, id) {
  const note = [alias && say("alias", { alias }), count ? count.toLocaleString() : ""].filter(Boolean).join(" ");
  const made = el("li", { id, role: "option", "aria-selected": "false" }, el("span", { dir: "auto" }, tag), el("small", {}, note));
  made.dataset.tag = tag;
  return made;
}
