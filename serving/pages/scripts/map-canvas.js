// Draws the points: pixel by pixel into one picture, which takes a few milliseconds for 200,000 of them.

/** @typedef {import("./map-data.js").Points} Points */

const MOST_ZOOM = 400;
const MARGIN = 0.06;
const DIMMED = 0x30;
const FLASH = 2500;

/** Where the map is looked at: the middle, and pixels of the screen for one of its units. */
export class Camera {
  constructor() {
    this.x = 0;
    this.y = 0;
    this.scale = 20;
    this.least = 1;
  }

  /** Show a whole box. @param {import("./map-data.js").Box} box @param {number} width @param {number} height */
  fit(box, width, height) {
    this.x = (box.left + box.right) / 2;
    this.y = (box.top + box.bottom) / 2;
    const room = 1 - 2 * MARGIN;
    this.scale = Math.min((width * room) / (box.right - box.left || 1), (height * room) / (box.bottom - box.top || 1));
    this.least = this.scale / 2;
  }

  /** Zoom so that the place under a point of the screen stays there. @param {number} factor @param {number} dx @param {number} dy From the middle. */
  zoom(factor, dx, dy) {
    const scale = Math.max(this.least, Math.min(this.least * MOST_ZOOM, this.scale * factor));
    this.x += dx / this.scale - dx / scale;
    this.y += dy / this.scale - dy / scale;
    this.scale = scale;
  }
}

export class Painter {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {ImageData | null} */
    this.picture = null;
    /** Colour of each code, as the picture's 32-bit pixels. */
    this.colours = new Uint32Array(65_536);
    /** Rows that stand out; null for all alike. @type {Uint8Array | null} */
    this.found = null;
    /** When each row began to flash. @type {Map<number, number>} */
    this.flashes = new Map();
  }

  /** Take the size that the page gives the canvas. */
  fitPage() {
    const scale = devicePixelRatio || 1;
    const [width, height] = [Math.round(this.canvas.clientWidth * scale), Math.round(this.canvas.clientHeight * scale)];
    if (this.picture && this.canvas.width === width && this.canvas.height === height) return;
    if (!width || !height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.picture = this.context.createImageData(width, height);
  }

  /** @param {Points} points @param {Camera} camera @param {number} chosen Row, -1 for none. @param {number[]} near @param {number} pointed */
  draw(points, camera, chosen, near, pointed) {
    this.fitPage();
    if (!this.picture) return;
    const ratio = devicePixelRatio || 1;
    const { width, height } = this.picture;
    const pixels = new Uint32Array(this.picture.data.buffer);
    pixels.fill(0);
    const scale = camera.scale * ratio;
    const size = Math.max(2, Math.min(7, Math.round(ratio * (1.4 + (0.9 * Math.log2(camera.scale / camera.least)) / 2))));
    const [left, top] = [width / 2 - camera.x * scale - size / 2, height / 2 - camera.y * scale - size / 2];
    const { x, y, code, count } = points;
    const { colours, found } = this;
    for (let row = 0; row < count; row++) {
      const across = (x[row] * scale + left) | 0;
      const down = (y[row] * scale + top) | 0;
      if (across < 0 || down < 0 || across > width - size || down > height - size) continue;
      let colour = colours[code[row]];
      if (found && !found[row]) colour = (colour & 0xffffff) | (DIMMED << 24);
      for (let line = 0, start = down * width + across; line < size; line++, start += width) {
        for (let at = start; at < start + size; at++) if (pixels[at] >>> 24 <= colour >>> 24) pixels[at] = colour;
      }
    }
    this.context.putImageData(this.picture, 0, 0);
    this.marks(points, camera, ratio, chosen, near, pointed);
  }

  /** @param {Points} points @param {Camera} camera @param {number} ratio @param {number} chosen @param {number[]} near @param {number} pointed */
  marks(points, camera, ratio, chosen, near, pointed) {
    const { context } = this;
    const ink = getComputedStyle(this.canvas).color;
    const at = (/** @type {number} */ row) => [
      ((points.x[row] - camera.x) * camera.scale + this.canvas.clientWidth / 2) * ratio,
      ((points.y[row] - camera.y) * camera.scale + this.canvas.clientHeight / 2) * ratio,
    ];
    const ring = (/** @type {number} */ row, /** @type {number} */ radius, /** @type {number} */ line) => {
      const [x, y] = at(row);
      context.lineWidth = line * ratio;
      context.beginPath();
      context.arc(x, y, radius * ratio, 0, 2 * Math.PI);
      context.stroke();
    };
    context.strokeStyle = ink;
    if (chosen >= 0) {
      context.globalAlpha = 0.5;
      context.lineWidth = ratio;
      context.beginPath();
      for (const row of near) {
        context.moveTo(...xy(at(chosen)));
        context.lineTo(...xy(at(row)));
      }
      context.stroke();
      context.globalAlpha = 1;
      ring(chosen, 8, 3);
    }
    if (pointed >= 0) ring(pointed, 6, 2);
    const now = performance.now();
    for (const [row, began] of this.flashes) {
      const done = (now - began) / FLASH;
      if (done >= 1) this.flashes.delete(row);
      else ring(row, 5 + 25 * done, 3 * (1 - done) + 0.5);
    }
  }
}

/** @param {number[]} pair @returns {[number, number]} */
const xy = (pair) => [pair[0], pair[1]];
