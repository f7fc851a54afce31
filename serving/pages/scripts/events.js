// Server-sent events by fetch: an EventSource could send no key.

import { withKey } from "./api.js";

const AGAIN_AFTER = 1000;

/**
 * Follow a stream until `signal` aborts or the API refuses it; broken off, it goes on from what was heard last.
 * @param {string} path
 * @param {(event: {event: string, data: any}) => void} onEvent
 * @param {AbortSignal} signal
 */
export async function follow(path, onEvent, signal) {
  let last = "";
  while (!signal.aborted) {
    try {
      /** @type {Record<string, string>} */
      const place = last ? { "last-event-id": last } : {};
      const response = await fetch(path, { headers: withKey({ accept: "text/event-stream", ...place }), signal });
      if (response.status >= 400 && response.status < 500) return;
      for await (const fields of blocks(response)) {
        last = fields.id || last;
        if (fields.event && fields.data) onEvent({ event: fields.event, data: JSON.parse(fields.data) });
      }
    } catch {
      if (signal.aborted) return;
    }
    await new Promise((over) => {
      setTimeout(over, AGAIN_AFTER);
    });
  }
}

/** @param {Response} response @returns {AsyncGenerator<Record<string, string>>} */
async function* blocks(response) {
  if (!response.ok || !response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", part; !(part = await reader.read()).done; ) {
    const parts = (text + part.value).split(/\r?\n\r?\n/);
    text = parts.pop() ?? "";
    for (const block of parts) yield Object.fromEntries(block.split(/\r?\n/).map(field));
  }
}

/** @param {string} line */
const field = (line) => [line.split(":", 1)[0], line.replace(/^[^:]*: ?/, "")];
