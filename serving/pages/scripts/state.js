// What the page shows is its URL: read from it, written to it, told to who listens.

/**
 * @typedef {object} State
 * @property {string} view "", "map" or "live": what stands above the lists.
 * @property {string} color The field that colours the map, empty for the usual one.
 * @property {string} space Which space is looked at, empty for the API's default.
 * @property {string} q What is searched for.
 * @property {string} track The chosen track's id, empty for none.
 * @property {string} strategy Empty for the API's default.
 * @property {string} mode Empty for the strategy's default.
 * @property {string} pair The track that the chosen one is compared with, empty for none.
 * @property {boolean} compare Whether the strategies stand side by side.
 * @property {[string, string][]} conditions Parameters of the recommendation, as the API names them.
 */

/** @typedef {(now: State, before: State) => void} Listener */

const OWN = new Set(["view", "color", "space", "q", "track", "pair", "strategy", "mode", "compare"]);
/** @type {Listener[]} */
const listeners = [];
let current = parse(location);

/** @param {{search: string, hash: string}} place @returns {State} */
export function parse(place) {
  const query = new URLSearchParams(place.search);
  return {
    view: query.get("view") ?? "",
    color: query.get("color") ?? "",
    space: query.get("space") ?? "",
    q: query.get("q") ?? "",
    track: query.get("track") ?? fromHash(place.hash),
    pair: query.get("pair") ?? "",
    strategy: query.get("strategy") ?? "",
    mode: query.get("mode") ?? "",
    compare: query.has("compare"),
    conditions: [...query].filter(([name]) => !OWN.has(name)),
  };
}

/** Links of earlier versions named the track behind the `#`. @param {string} hash */
function fromHash(hash) {
  try {
    const id = decodeURIComponent(hash.slice(1));
    return document.getElementById(id) ? "" : id;
  } catch {
    return "";
  }
}

/** @param {State} state @returns {string} */
export function serialise(state) {
  const query = new URLSearchParams();
  for (const name of /** @type {const} */ (["view", "color", "space", "q", "track", "pair", "strategy", "mode"])) if (state[name]) query.set(name, state[name]);
  for (const [name, value] of state.conditions) query.append(name, value);
  if (state.compare) query.set("compare", "");
  const text = query.toString().replace(/compare=$/, "compare");
  return text ? `?${text}` : location.pathname;
}

export const state = () => current;

/** A path of the API in the space that is looked at. @param {string} path @param {{space: string}} [asked] */
export function inSpace(path, { space } = current) {
  return space ? `${path}${path.includes("?") ? "&" : "?"}space=${encodeURIComponent(space)}` : path;
}

/**
 * Show something else.
 * @param {Partial<State>} changes
 * @param {{replace?: boolean}} [how] `replace` leaves no step to go back to, as for each letter of a search.
 */
export function go(changes, { replace = false } = {}) {
  const next = { ...current, ...changes };
  const url = serialise(next);
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  become(next);
}

/** @param {Listener} listener */
export function onChange(listener) {
  listeners.push(listener);
}

/** @param {State} next */
function become(next) {
  const before = current;
  current = next;
  for (const listener of listeners) listener(next, before);
}

addEventListener("popstate", () => become(parse(location)));
