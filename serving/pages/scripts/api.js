// Reads the API, with a key where it asks for one.

import { askForKey, key } from "./key-dialog.js";
import { texts } from "./texts.js";

/** An answer that is a problem document. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** @param {Record<string, string>} headers @returns {Record<string, string>} */
export function withKey(headers) {
  const known = key();
  return known ? { ...headers, "x-api-key": known } : headers;
}

/**
 * The JSON at `path`.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function read(path, signal) {
  const tried = key();
  const response = await fetch(path, { headers: withKey({ accept: "application/json" }), signal });
  const body = await response.json().catch(() => ({}));
  if (response.status === 401 && (await askForKey(tried, body.detail))) return read(path, signal);
  if (!response.ok) throw new ApiError(body.detail || texts.httpError(response.status), response.status);
  return body;
}

/** What an error says to a person. @param {unknown} error */
export const reasonOf = (error) => (error instanceof Error ? error.message : String(error));
