// Elements without a library.

import { exact, short } from "./format.js";

export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.includes("-") && key !== "list") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function num(value, { text = short(value), kind = "" } = {}) {
  return h(`span.num${kind ? `.${kind}` : ""}`, { "data-exact": exact(value) }, text);
}

// What changes many times a second is set in place, and only where it differs: a new element is laid out anew.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setNum(element, value, text = short(value)) {
  element.dataset.exact = exact(value);
  setText(element, text);
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

export function $(selector) {
  return document.querySelector(selector);
}

// What can be done by keys; hidden where a finger is the pointer and there is no keyboard.
export function byKeys(text) {
  return h("span.by-keys", {}, ` ${text}`);
}

let spoken = 0;
export function say(text) {
  const live = $("#live");
  spoken += 1;
  live.textContent = text + (spoken % 2 ? "" : "\u00a0"); // a repeated text is spoken again
}

let hideNotice = 0;
let lasting = () => null; // what is told again behind every other notice
export function notice(text, stay = false) {
  const box = $("#notice");
  clearTimeout(hideNotice);
  box.textContent = text ?? "";
  box.hidden = !text;
  if (text && !stay) hideNotice = setTimeout(retell, 5000);
}

// What is so until it is taken back: ``tell`` gives it in the language of the page.
export function retell(tell = lasting) {
  lasting = tell;
  notice(lasting(), true);
}
