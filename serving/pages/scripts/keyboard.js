// Everything by keyboard: `/` searches, arrows move through the works of a list, Space plays and stops.

import { byId } from "./dom.js";
import { toggleChosen } from "./player.js";

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

/** Listen to keys. */
export function start() {
  addEventListener("keydown", onKey);
  addEventListener("keyup", (event) => {
    // A button would be pressed as well when the key that played its work comes up.
    if (event.key === " " && /** @type {HTMLElement} */ (event.target).matches(".pick")) event.preventDefault();
  });
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = /** @type {HTMLElement} */ (event.target);
  const writing = target.matches("input, select, textarea");
  if (event.key === "/" && !writing) {
    byId("search").focus();
    event.preventDefault();
  } else if (event.key === " " && !writing && !target.matches("button:not(.pick), a")) {
    const play = /** @type {HTMLElement | null} */ (target.closest(".row")?.querySelector("button.play"));
    if (play) play.click();
    else toggleChosen();
    event.preventDefault();
  } else if (event.key in STEPS && (!writing || target.id === "search")) {
    if (move(target, STEPS[/** @type {keyof typeof STEPS} */ (event.key)])) event.preventDefault();
  }
}

/** @param {HTMLElement} from @param {number} step */
function move(from, step) {
  const list = from.id === "search" || from === document.body ? byId("results") : from.closest(".rows");
  if (!list) return false;
  const picks = /** @type {HTMLElement[]} */ ([...list.querySelectorAll(".pick")]);
  const at = picks.findIndex((pick) => pick.closest(".row")?.contains(from));
  if (at + step < 0 && list.id === "results") byId("search").focus();
  else picks[at + step]?.focus();
  return true;
}
