// What the browser keeps between visits; nothing where it keeps nothing, as in a frame of its own.

export function recall(key) {
  try {
    return localStorage.getItem(`convscope.${key}`);
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(`convscope.${key}`, value);
  } catch {
    // a page that is not allowed to remember works all the same
  }
}
