// A track as a row of a list: what it is, and the way to its own list.

import { button, element } from "./dom.js";
import { playButton, roll } from "./sounding.js";
import { go, state } from "./state.js";
import { texts } from "./texts.js";
import { factsOf, nameOf } from "./tracks.js";

/** @typedef {import("./tracks.js").Track} Track */
/** @typedef {import("./tracks.js").Recommendation} Recommendation */

/** @param {Track} track */
export function trackRow(track) {
  const row = element("li", "row");
  row.dataset.track = track.track_id;
  const pick = button("pick", () => choose(track.track_id));
  pick.append(element("span", "title", nameOf(track)), element("span", "facts", factsOf(track) || track.track_id));
  const pair = button("pair", () => go({ pair: track.track_id }), "⇄");
  pair.setAttribute("aria-label", texts.pair(nameOf(track)));
  pair.title = texts.pair(nameOf(track));
  row.append(playButton(track), pick, roll(track), pair);
  return row;
}

/** @param {Recommendation} track */
export function recommendationRow(track) {
  const row = trackRow(track);
  const pick = /** @type {HTMLElement} */ (row.querySelector(".pick"));
  pick.append(element("span", "why", track.explanation));
  const parts = Object.entries(track.components ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")} ${+value.toFixed(3)}`);
  if (parts.length) pick.append(element("span", "parts", parts.join(" · ")));
  for (const condition of track.relaxed ?? []) pick.append(element("span", "tag", texts.unmet(condition)));
  row.prepend(element("span", "rank", String(track.rank)));
  row.querySelector(".pair")?.before(score(track));
  return row;
}

/** @param {Recommendation} track */
function score(track) {
  const filled = element("span");
  filled.style.width = `${Math.max(0, Math.min(1, track.similarity_score)) * 100}%`;
  const bar = element("span", "bar", filled);
  bar.setAttribute("aria-hidden", "true");
  const made = element("span", "score", track.score.toFixed(3), bar);
  made.title = texts.similarity(track.similarity_score.toFixed(3));
  return made;
}

/** @param {string} id */
export function choose(id) {
  go({ track: id, compare: false, pair: "" });
}

/** Mark the rows of the chosen track. */
export function markChosen() {
  for (const row of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("#results .row"))) {
    row.querySelector(".pick")?.setAttribute("aria-current", String(row.dataset.track === state().track));
  }
}
