// The points of the map: read in pages, then followed as places change and tracks come.

import { read } from "./api.js";
import { inSpace, state } from "./state.js";

const PAGE = 20_000;
const AGAIN_AFTER = 2500;
const GRID = 128;

/** All points as columns, and the grid that finds the one under a pointer. */
export class Points {
  constructor() {
    /** @type {string[]} */
    this.ids = [];
    /** @type {Map<string, number>} */
    this.rows = new Map();
    this.x = new Float32Array(1024);
    this.y = new Float32Array(1024);
    this.code = new Uint16Array(1024);
    /** @type {(string | null)[]} */
    this.names = [];
    /** @type {Map<string | null, number>} */
    this.codes = new Map();
    /** @type {{starts: Uint32Array, rows: Uint32Array, box: Box} | null} */
    this.grid = null;
  }

  get count() {
    return this.ids.length;
  }

  /** Take a page in; returns the rows that are new. @param {Page} page @returns {number[]} */
  take(page) {
    const codes = page.names.map((name) => this.codeOf(name));
    const added = [];
    for (let at = 0; at < page.ids.length; at++) {
      let row = this.rows.get(page.ids[at]);
      if (row === undefined) {
        row = this.ids.push(page.ids[at]) - 1;
        this.rows.set(page.ids[at], row);
        added.push(row);
        if (row >= this.x.length) this.grow();
      }
      this.x[row] = page.x[at];
      this.y[row] = page.y[at];
      this.code[row] = codes[page.values[at]];
    }
    this.grid = null;
    return added;
  }

  /** @param {string | null} name */
  codeOf(name) {
    let code = this.codes.get(name);
    if (code === undefined) {
      code = Math.min(this.names.push(name) - 1, 65_535);
      this.codes.set(name, code);
    }
    return code;
  }

  grow() {
    const size = this.x.length * 2;
    const larger = (/** @type {Float32Array} */ old) => {
      const made = new Float32Array(size);
      made.set(old);
      return made;
    };
    this.x = larger(this.x);
    this.y = larger(this.y);
    const code = new Uint16Array(size);
    code.set(this.code);
    this.code = code;
  }

  /** The smallest box around all points. @returns {Box} */
  box() {
    const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
    for (let row = 0; row < this.count; row++) {
      if (this.x[row] < box.left) box.left = this.x[row];
      if (this.x[row] > box.right) box.right = this.x[row];
      if (this.y[row] < box.top) box.top = this.y[row];
      if (this.y[row] > box.bottom) box.bottom = this.y[row];
    }
    return box;
  }

  index() {
    if (this.grid) return this.grid;
    const box = this.box();
    const starts = new Uint32Array(GRID * GRID + 1);
    const cells = new Uint32Array(this.count);
    for (let row = 0; row < this.count; row++) {
      cells[row] = cellOf(box, this.x[row], this.y[row]);
      starts[cells[row] + 1]++;
    }
    for (let cell = 0; cell < GRID * GRID; cell++) starts[cell + 1] += starts[cell];
    const next = starts.slice();
    const rows = new Uint32Array(this.count);
    for (let row = 0; row < this.count; row++) rows[next[cells[row]]++] = row;
    this.grid = { starts, rows, box };
    return this.grid;
  }

  /**
   * The row nearest to a place and within `reach`, -1 for none.
   * @param {number} x @param {number} y @param {number} reach @param {(row: number) => boolean} [fits]
   */
  nearest(x, y, reach, fits) {
    if (!this.count) return -1;
    const { starts, rows, box } = this.index();
    const [left, top] = place(box, x - reach, y - reach);
    const [right, bottom] = place(box, x + reach, y + reach);
    let best = -1;
    let least = reach * reach;
    for (let down = top; down <= bottom; down++) {
      for (let at = starts[down * GRID + left]; at < starts[down * GRID + right + 1]; at++) {
        const row = rows[at];
        const distance = (this.x[row] - x) ** 2 + (this.y[row] - y) ** 2;
        if (distance <= least && (!fits || fits(row))) [best, least] = [row, distance];
      }
    }
    return best;
  }
}

/** @typedef {{left: number, top: number, right: number, bottom: number}} Box */
/** @typedef {{ids: string[], x: number[], y: number[], values: number[], names: (string | null)[], generation: number, next: number, more: boolean}} Page */

/** @param {Box} box @param {number} x @param {number} y */
function place(box, x, y) {
  const across = Math.floor(((x - box.left) / (box.right - box.left || 1)) * GRID);
  const down = Math.floor(((y - box.top) / (box.bottom - box.top || 1)) * GRID);
  return [across, down].map((cell) => Math.max(0, Math.min(GRID - 1, cell)));
}

/** @param {Box} box @param {number} x @param {number} y */
function cellOf(box, x, y) {
  const [across, down] = place(box, x, y);
  return down * GRID + across;
}

/**
 * Read the whole map and follow it until `signal` aborts.
 * @param {string} field
 * @param {(page: Page, first: boolean, begun: boolean) => void} onPage `first`: a map is being read for the first time; `begun`:
 *   this is its first page.
 * @param {AbortSignal} signal
 */
export async function followMap(field, onPage, signal) {
  let after = 0;
  let first = true;
  let generation = 0;
  const asked = state();
  while (!signal.aborted) {
    try {
      const query = new URLSearchParams({ after: String(after), limit: String(PAGE) });
      if (field) query.set("field", field);
      const page = await read(inSpace(`map?${query}`, asked), signal);
      if (signal.aborted) return;
      const begun = page.generation !== generation;
      generation = page.generation;
      if (begun && after) {
        // Another generation serves, and its map is another one.
        [after, first, generation] = [0, true, 0];
        continue;
      }
      after = page.next;
      if (page.ids.length || first) onPage(page, first, begun);
      if (page.more) continue;
      first = first && !page.ids.length;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Error && "status" in error && error.status === 422) throw error;
    }
    await new Promise((over) => {
      setTimeout(over, AGAIN_AFTER);
    });
  }
}
