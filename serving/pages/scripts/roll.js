// A small piano roll: time to the right, pitch upwards, a colour for each part.

const COLOURS = 6;
const NOTE_AIR = 2;

/** The seconds that an incipit sounds. @param {number[][]} parts */
export const secondsOf = (parts) => Math.max(0, ...parts.flatMap((part) => ends(part))) / 1000;

/** @param {number[]} part */
function ends(part) {
  const found = [];
  for (let at = 0; at < part.length; at += 3) found.push(part[at] + part[at + 1]);
  return found;
}

/**
 * Draw notes and, while they sound, a cursor.
 * @param {HTMLCanvasElement} canvas
 * @param {number[][]} parts Flat lists of onset ms, length ms, MIDI pitch.
 * @param {number | null} [seconds] Where the cursor is.
 */
export function draw(canvas, parts, seconds = null) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  if (!context) return;
  const style = getComputedStyle(canvas);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const pitches = parts.flatMap((part) => part.filter((_, at) => at % 3 === 2));
  const [low, high] = [Math.min(...pitches) - NOTE_AIR, Math.max(...pitches) + NOTE_AIR];
  const across = width / Math.max(secondsOf(parts) * 1000, 1);
  const up = height / (high - low);
  for (const [number, part] of parts.entries()) {
    context.fillStyle = style.getPropertyValue(`--part-${number % COLOURS}`);
    for (let at = 0; at < part.length; at += 3) {
      const length = Math.max(part[at + 1] * across - 1, 1);
      context.fillRect(part[at] * across, height - (part[at + 2] - low + 0.5) * up, length, Math.max(up, 2));
    }
  }
  if (seconds === null) return;
  context.fillStyle = style.getPropertyValue("--ink");
  context.fillRect(seconds * 1000 * across - 0.75, 0, 1.5, height);
}
