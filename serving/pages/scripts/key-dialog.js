// Asks for the API's key, and keeps it until the window closes.

import { byId, inputById } from "./dom.js";

const STORED = "key";
/** @type {Promise<boolean> | null} */
let asking = null;

/** The key that was given, if any. */
export const key = () => sessionStorage.getItem(STORED);

/**
 * Ask for a key unless another has been given since `tried` was; requests that wait share one dialog.
 * @param {string | null} tried
 * @param {string} reason
 * @returns {Promise<boolean>} Whether it is worth trying again.
 */
export function askForKey(tried, reason) {
  if (key() !== tried) return Promise.resolve(true);
  asking ??= ask(reason).finally(() => {
    asking = null;
  });
  return asking;
}

/** @param {string} reason @returns {Promise<boolean>} */
function ask(reason) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("key-dialog"));
  byId("key-reason").textContent = reason;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = inputById("key-value").value.trim();
        inputById("key-value").value = "";
        const use = dialog.returnValue === "given" && given !== "";
        if (use) sessionStorage.setItem(STORED, given);
        resolve(use);
      },
      { once: true },
    );
  });
}
