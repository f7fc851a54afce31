// What stands above the lists: nothing, the map, or the pipeline at work. Each is loaded when it is first shown.

import { byId } from "./dom.js";
import { go, state } from "./state.js";

/** @typedef {{start: () => void, update: (before: import("./state.js").State | null) => void, rest: () => void}} View */

/** @type {Record<string, () => Promise<View>>} */
const LOADERS = { map: () => import("./map.js"), live: () => import("./live.js") };
/** @type {Record<string, View>} */
const loaded = {};

/** Set the links up and show what the URL asks for. */
export function start() {
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("nav [data-view]"))) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go({ view: link.dataset.view ?? "" });
    });
  }
  document.addEventListener("listed", () => loaded[state().view]?.update(state()));
  update(null);
}

/** @param {import("./state.js").State | null} before */
export async function update(before) {
  const { view } = state();
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("nav [data-view]"))) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const name of Object.keys(LOADERS)) byId(`${name}-view`).hidden = name !== view;
  byId("explore").hidden = view === "live";
  if (before && before.view !== view) loaded[before.view]?.rest();
  if (!(view in LOADERS)) return;
  if (!loaded[view]) {
    const made = await LOADERS[view]();
    if (!loaded[view]) made.start();
    loaded[view] = made;
    before = null;
  }
  if (view === state().view) loaded[view].update(before);
}
