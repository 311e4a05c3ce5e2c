// The page's own colours, for what is drawn on the canvas.

export const palette = {};

export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "surface", "raised", "ink", "soft", "line", "line-strong", "accent", "accent-soft", "warn", "activation", "weight", "delta", "gradient"]) {
    palette[name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())] = style.getPropertyValue(`--${name}`).trim();
  }
}
