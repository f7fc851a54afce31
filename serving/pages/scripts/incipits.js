// How works begin: asked for what is on screen, drawn beside each work, ready for the player.

import { read } from "./api.js";
import { byId } from "./dom.js";
import { draw } from "./roll.js";
import { texts } from "./texts.js";

/** @typedef {{track_id: string, status: "ready" | "pending" | "none", parts: number[][] | null, detail: string | null}} Incipit */

const AT_ONCE = 60;
const AGAIN_ON_SCREEN = 1000;
const AGAIN_WAITING = 250;
const PATIENCE = 20_000;
const KEPT = 2000;
/** @type {Map<string, Incipit>} */
const known = new Map();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let looking;
let nothingHere = false;

/** @param {string[]} ids */
async function ask(ids) {
  const query = new URLSearchParams(ids.map((id) => ["track_id", id]));
  const body = await read(`incipits?${query}`);
  nothingHere = body.missing !== null;
  const note = byId("missing");
  note.hidden = !nothingHere;
  note.textContent = body.missing ?? "";
  for (const incipit of body.incipits) {
    if (incipit.status !== "pending") known.set(incipit.track_id, incipit);
  }
  for (const old of known.keys()) {
    if (known.size <= KEPT) break;
    known.delete(old);
  }
}

/** Draw the works that are on screen, now and as they are derived. */
export function showIncipits() {
  clearTimeout(looking);
  looking = setTimeout(look, 0);
}

async function look() {
  const places = /** @type {HTMLCanvasElement[]} */ ([...document.querySelectorAll("canvas.roll[data-track]:not([data-drawn])")]);
  const visible = places.filter((place) => place.offsetParent !== null);
  const unknown = [...new Set(visible.map(idOf))].filter((id) => !known.has(id)).slice(0, AT_ONCE);
  try {
    if (unknown.length) await ask(unknown);
  } catch {
    return; // the lists say what is wrong with the API
  }
  let pending = false;
  for (const place of visible) {
    const incipit = known.get(idOf(place));
    if (incipit) show(place, incipit);
    else pending = true;
  }
  if (pending && !nothingHere) looking = setTimeout(look, AGAIN_ON_SCREEN);
}

/** @param {HTMLCanvasElement} place */
const idOf = (place) => place.dataset.track ?? "";

/** @param {HTMLCanvasElement} place @param {Incipit} incipit */
function show(place, incipit) {
  place.dataset.drawn = incipit.status;
  if (!incipit.parts) return;
  place.setAttribute("aria-label", texts.roll(incipit.parts.length, incipit.parts.reduce((sum, part) => sum + part.length / 3, 0)));
  draw(place, incipit.parts);
}

/**
 * The incipit of a work, waited for while it is derived.
 * @param {string} id
 * @returns {Promise<Incipit>}
 */
export async function incipitOf(id) {
  for (const until = Date.now() + PATIENCE; ; ) {
    if (!known.has(id)) await ask([id]);
    const found = known.get(id);
    if (found) return found;
    if (Date.now() > until) return { track_id: id, status: "none", parts: null, detail: texts.notInTime };
    await new Promise((over) => {
      setTimeout(over, AGAIN_WAITING);
    });
  }
}
