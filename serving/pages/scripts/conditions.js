// Filters and caps as chips that can be added and taken off, and what each stage left.

import { read } from "./api.js";
import { button, byId, element, inputById, option, selectById } from "./dom.js";
import { go, inSpace, state } from "./state.js";
import { conditionNames, texts } from "./texts.js";

const NAMED = { composer: "composers", composer_not: "composers", tags: "tags" };
/** @type {Record<string, Promise<string[]>>} */
const values = {};

/** @param {string} name */
const spoken = (name) => conditionNames[/** @type {keyof typeof conditionNames} */ (name)] ?? name;

/** Set the form up. */
export function start() {
  const names = selectById("condition-name");
  names.replaceChildren(...Object.entries(conditionNames).map(([name, text], at) => option(name, text, at === 0)));
  names.addEventListener("change", suggest);
  byId("how").addEventListener("submit", (event) => {
    event.preventDefault();
    const value = inputById("condition-value").value.trim();
    if (!value) return inputById("condition-value").focus();
    inputById("condition-value").value = "";
    go({ conditions: [...state().conditions, [names.value, value]] });
  });
  update();
}

/** Offer what the catalogue has under this name. */
async function suggest() {
  const name = selectById("condition-name").value;
  const path = NAMED[/** @type {keyof typeof NAMED} */ (name)];
  const list = byId("condition-values");
  if (!path) return list.replaceChildren();
  const where = inSpace(`${path}?limit=200`);
  values[where] ??= read(where).then(
    (body) => body[path].map((/** @type {{name: string}} */ each) => each.name),
    () => [],
  );
  list.replaceChildren(...(await values[where]).map((value) => option(value, "", false)));
}

/** Show the chips of the conditions that the URL has. */
export function update() {
  byId("conditions").replaceChildren(...state().conditions.map(chip));
}

/** @param {[string, string]} condition @param {number} at */
function chip([name, value], at) {
  const text = `${spoken(name)}: ${value}`;
  const remove = button("remove", () => go({ conditions: state().conditions.filter((_, each) => each !== at) }), "×");
  remove.setAttribute("aria-label", texts.removeCondition(text));
  return element("li", "chip", element("span", "", text), remove);
}

/** @param {{stage: string, held: number}[]} stages */
export function showStages(stages) {
  const shown = stages.length > 1 ? stages : [];
  byId("stages").replaceChildren(...shown.map(({ stage, held }) => element("li", "", texts.stage(stage, held))));
}
