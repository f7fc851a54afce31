// What the page shows, as a command for a terminal.

import { byId } from "./dom.js";
import { pathOf } from "./recommendations.js";
import { state } from "./state.js";
import { texts } from "./texts.js";

/** Set the button up. */
export function start() {
  byId("curl").addEventListener("click", copy);
}

/** Quoted for a POSIX shell. @param {string} text */
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The command that asks for the shown list. */
export const command = () => `curl -s ${quoted(new URL(pathOf(state()), document.baseURI).href)}`;

async function copy() {
  const shown = byId("curl-command");
  shown.hidden = false;
  const text = command();
  try {
    await navigator.clipboard.writeText(text);
    shown.textContent = `${text}  ${texts.copied}`;
  } catch {
    shown.textContent = text; // no clipboard outside a secure context: it can be selected
  }
}
