// The search: words in, works out, a page at a time.

import { read, reasonOf } from "./api.js";
import { byId, inputById } from "./dom.js";
import { showIncipits } from "./incipits.js";
import { markChosen, trackRow } from "./rows.js";
import { go, inSpace, state } from "./state.js";
import { texts } from "./texts.js";

const PAGE = 25;
const PAUSE = 150;
let latest = 0;
/** @type {string | null} */
let next = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing;

/** Set the search up and show what the URL asks for. */
export function start() {
  const input = inputById("search");
  input.placeholder = texts.searchExample;
  input.value = state().q;
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => go({ q: input.value.trim() }, { replace: true }), PAUSE);
  });
  byId("more").addEventListener("click", () => find(state().q, next));
  find(state().q, null);
}

/** @param {import("./state.js").State} now @param {import("./state.js").State} before */
export function update(now, before) {
  markChosen();
  if (now.q === before.q && now.space === before.space) return;
  const input = inputById("search");
  if (input.value.trim() !== now.q) input.value = now.q;
  find(now.q, null);
}

/** @param {string} words @param {string | null} cursor */
async function find(words, cursor) {
  const mine = ++latest;
  const query = new URLSearchParams({ limit: String(PAGE) });
  if (words) query.set("search", words);
  if (cursor) query.set("cursor", cursor);
  try {
    const page = await read(inSpace(`tracks?${query}`));
    if (mine !== latest) return;
    show(page, cursor !== null);
    byId("found").textContent = texts.found(page.total, page.total_exact);
    if (!words) byId("size").textContent = texts.inCatalogue(page.total);
  } catch (error) {
    if (mine === latest) byId("found").textContent = texts.searchFailed(reasonOf(error));
  }
}

/** @param {{tracks: import("./tracks.js").Track[], next: string | null}} page @param {boolean} further */
function show(page, further) {
  if (!further) byId("results").replaceChildren();
  byId("results").append(...page.tracks.map(trackRow));
  next = page.next;
  byId("more").hidden = !next;
  markChosen();
  showIncipits();
}
