// Which space is looked at: offered where more than one serves.

import { read } from "./api.js";
import { byId, option, selectById } from "./dom.js";
import { go, state } from "./state.js";

/** @type {string[]} */
let known = [];
let usual = "default";

/** Read which spaces serve, and offer them. */
export async function start() {
  selectById("space").addEventListener("change", (event) => {
    const name = /** @type {HTMLSelectElement} */ (event.target).value;
    go({ space: name === usual ? "" : name });
  });
  try {
    const body = await read("spaces");
    known = body.spaces.map((/** @type {{space: string}} */ each) => each.space);
    usual = body.default;
  } catch {
    // what is read next says what is wrong
  }
  update();
}

/** Show the space that the URL asks for, also one that does not serve: the way back is beside it. */
export function update() {
  const name = state().space || usual;
  const offered = known.includes(name) ? known : [...known, name];
  selectById("space").replaceChildren(...offered.map((each) => option(each, each, each === name)));
  byId("space-label").hidden = offered.length < 2;
}
