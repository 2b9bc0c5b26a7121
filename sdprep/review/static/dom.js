// Elements and words: nothing here or elsewhere turns text into markup.

const isChinese = navigator.languages.find((language) => /^(zh|en)/i.test(language))?.toLowerCase().startsWith("zh");
const { messages, findings } = await import(isChinese ? "./messages.zh-CN.js" : "./messages.en.js");
document.documentElement.lang = isChinese ? "zh-CN" : "en";

/** A message in the language of the browser, with {names} replaced by values. */
export function say(key, values = {}) {
  if (!(key in messages)) throw new Error(`no message is named ${key}`);
  return messages[key].replace(/\{(\w+)\}/g, (_, name) => shown(values[name]));
}

/** What a finding of `sdprep check` means, in the language of the browser. */
export const sayFinding = ({ code, message }) => findings[code] ?? message;

function shown(value) {
  return typeof value === "number" ? value.toLocaleString(document.documentElement.lang) : String(value);
}

export const byId = (id) => document.getElementById(id);

/** A new element; properties whose names have a hyphen, and role, are attributes. */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** Fill in the words of the page. */
export function fillWords() {
  for (const each of document.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", say(each.dataset.label));
  for (const each of document.querySelectorAll("[data-placeholder]")) each.placeholder = say(each.dataset.placeholder);
}

let fading = 0;

/** Show a short message, which screen readers read out too. */
export function announce(text, isError = false) {
  const box = byId("said");
  box.textContent = text;
  box.className = isError ? "error" : "";
  clearTimeout(fading);
  fading = setTimeout(() => (box.textContent = ""), isError ? 10000 : 4000);
}

/** Open a dialog that is gone once it is closed. Returns it; Esc closes it. */
export function openDialog(id, title, ...children) {
  const dialog = el("dialog", { id, "aria-label": title }, el("h1", {}, title), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
