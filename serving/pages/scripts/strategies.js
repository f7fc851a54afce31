// Which strategy and mode: the API's own, described in its words.

import { read, reasonOf } from "./api.js";
import { byId, option, selectById } from "./dom.js";
import { go, state } from "./state.js";
import { texts } from "./texts.js";

/** @typedef {{name: string, description: string, formula: string}} Mode */
/** @typedef {Mode & {modes: Mode[], default_mode: string | null}} Strategy */

/** @type {Strategy[]} */
let known = [];
let usual = "similarity";

/** Read the strategies and fill the selects. */
export async function start() {
  selectById("strategy").addEventListener("change", (event) => {
    const name = /** @type {HTMLSelectElement} */ (event.target).value;
    go({ strategy: name === usual ? "" : name, mode: "" });
  });
  selectById("mode").addEventListener("change", (event) => {
    go({ mode: /** @type {HTMLSelectElement} */ (event.target).value });
  });
  try {
    const body = await read("strategies");
    known = body.strategies;
    usual = body.default;
    update();
  } catch (error) {
    byId("about").textContent = texts.strategiesFailed(reasonOf(error));
  }
}

/** Show the strategy that the URL asks for. */
export function update() {
  const name = state().strategy || usual;
  const strategy = known.find((each) => each.name === name);
  selectById("strategy").replaceChildren(...known.map((each) => option(each.name, each.name, each.name === name)));
  const modes = strategy?.modes ?? [];
  const mode = state().mode || strategy?.default_mode;
  selectById("mode").replaceChildren(...modes.map((each) => option(each.name, each.name, each.name === mode)));
  byId("mode-label").hidden = !modes.length;
  const said = modes.find((each) => each.name === mode) ?? strategy;
  if (said) byId("about").textContent = `${said.description}${said.formula ? ` ${said.formula}.` : ""}`;
}
