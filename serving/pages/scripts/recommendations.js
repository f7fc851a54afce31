// The chosen work and its list, kept as new as the API's.

import { read, reasonOf } from "./api.js";
import { showStages } from "./conditions.js";
import { byId } from "./dom.js";
import { follow } from "./events.js";
import { showIncipits } from "./incipits.js";
import { recommendationRow } from "./rows.js";
import { playButton, roll } from "./sounding.js";
import { inSpace, state } from "./state.js";
import { texts } from "./texts.js";
import { factsOf, nameOf, recommendPath } from "./tracks.js";

/** @typedef {import("./state.js").State} State */

const SHOWN = 20;
let following = new AbortController();

/** The path, without its origin, of the list that is shown. @param {State} asked */
export function pathOf(asked) {
  const query = new URLSearchParams({ top_k: String(SHOWN) });
  if (asked.strategy) query.set("strategy", asked.strategy);
  if (asked.mode) query.set("mode", asked.mode);
  for (const [name, value] of asked.conditions) {
    if (name === "top_k") query.set(name, value);
    else query.append(name, value);
  }
  return inSpace(`${recommendPath(asked.track)}?${query}`, asked);
}

/** @param {State} now @param {State | null} before */
export function update(now, before) {
  byId("asking").hidden = !now.track;
  document.body.classList.toggle("has-work", now.track !== "");
  const another = !before || now.track !== before.track;
  if (!now.track) return nothingChosen();
  if (!another && pathOf(now) === pathOf(before)) return;
  byId("freshness").textContent = texts.asking;
  byId("list").replaceChildren();
  if (another || now.space !== before.space) followTrack(now.track);
  show(another && before !== null);
}

function nothingChosen() {
  following.abort();
  byId("list").replaceChildren();
  byId("seed").replaceChildren();
  byId("freshness").textContent = "";
}

/** @param {string} id */
function followTrack(id) {
  following.abort();
  following = new AbortController();
  follow(
    inSpace(`${recommendPath(id)}/stream`),
    ({ event, data }) => {
      if (event === "change") show(false, new Set(data.added ?? []));
    },
    following.signal,
  );
}

/**
 * @param {boolean} arrived Whether the work was chosen just now: the reader is taken to it.
 * @param {Set<string>} [added] Tracks that have just come into the list.
 */
async function show(arrived, added) {
  const path = pathOf(state());
  try {
    const body = await read(path);
    if (path !== pathOf(state())) return;
    showWork(body);
    showList(body, added);
  } catch (error) {
    if (path !== pathOf(state())) return;
    if (arrived) {
      byId("chosen").textContent = state().track;
      byId("chosen-facts").textContent = "";
    }
    byId("freshness").textContent = reasonOf(error);
    byId("list").replaceChildren();
    showStages([]);
  }
  if (arrived) {
    byId("chosen").focus({ preventScroll: true });
    byId("chosen").scrollIntoView({ block: "nearest" });
  }
}

/** @param {any} body */
function showWork(body) {
  const seed = { track_id: state().track, ...body.reference_metadata };
  byId("chosen").textContent = nameOf(seed);
  byId("chosen-facts").textContent = [factsOf(seed), seed.track_id].filter(Boolean).join(" · ");
  const track = { ...seed, metadata: body.reference_metadata };
  if (byId("seed").dataset.shown !== seed.track_id) {
    byId("seed").replaceChildren(playButton(track), roll(track, "wide"));
    byId("seed").dataset.shown = seed.track_id;
  }
}

/** @param {any} body @param {Set<string>} [added] */
function showList(body, added) {
  const rows = body.recommendations.map(recommendationRow);
  for (const row of rows) row.classList.toggle("flash", added?.has(row.dataset.track) ?? false);
  byId("list").replaceChildren(...rows);
  const empty = state().conditions.length ? texts.nothingLeft : texts.nothingYet;
  byId("freshness").textContent = [added ? texts.changed : "", rows.length ? "" : empty, whence(body)].filter(Boolean).join(" ");
  showStages(body.stages);
  showIncipits();
  document.dispatchEvent(new Event("listed"));
}

/** The ids of the works in the list, as it is shown. @returns {string[]} */
export const listed = () =>
  [...byId("list").querySelectorAll(".row")].map((row) => /** @type {HTMLElement} */ (row).dataset.track ?? "");

/** @param {any} body */
function whence(body) {
  const made = new Date(body.generated_at).toLocaleString();
  const said = [texts.whence(made, body.stale, body.computation_time_ms, body.cached)];
  if (body.provisional) said.push(texts.provisional);
  if (body.chosen) {
    const name = [body.chosen.strategy, body.chosen.mode].filter(Boolean).join("/");
    said.push(texts.chosenStrategy(name, body.chosen.reason));
  }
  if (body.relaxed.length) said.push(texts.relaxed(body.relaxed));
  return [...said, ...body.notes].join(" ");
}
