// What a work has to be heard and seen: its play button and its roll.

import { button, element } from "./dom.js";
import { toggle } from "./player.js";
import { texts } from "./texts.js";
import { nameOf } from "./tracks.js";

/** @typedef {import("./tracks.js").Track} Track */

/** @param {Track} track */
export function playButton(track) {
  const made = button("play", () => toggle(track));
  made.dataset.track = track.track_id;
  made.setAttribute("aria-label", texts.play(nameOf(track)));
  made.setAttribute("aria-pressed", "false");
  return made;
}

/** @param {Track} track @param {string} [size] */
export function roll(track, size = "") {
  const made = element("canvas", `roll ${size}`.trim());
  made.dataset.track = track.track_id;
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", texts.noRoll);
  return made;
}
