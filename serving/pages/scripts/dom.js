// Elements: made and found. Text always goes in as text, never as markup.

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} [className]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function element(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** A button that submits nothing. @param {string} className @param {() => void} onClick @param {...(Node | string)} children */
export function button(className, onClick, ...children) {
  const made = element("button", className, ...children);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

/**
 * The element of index.html with this id.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/** @param {string} id */
export const inputById = (id) => /** @type {HTMLInputElement} */ (byId(id));

/** @param {string} id */
export const selectById = (id) => /** @type {HTMLSelectElement} */ (byId(id));

/** @param {string} value @param {string} text @param {boolean} chosen */
export function option(value, text, chosen) {
  const made = element("option", "", text);
  made.value = value;
  made.selected = chosen;
  return made;
}
