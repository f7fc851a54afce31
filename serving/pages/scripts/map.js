// The map of the whole catalogue: looked at, searched, coloured, and a way to choose.

import { read, reasonOf } from "./api.js";
import { button, byId, element, inputById, option } from "./dom.js";
import { Camera, Painter } from "./map-canvas.js";
import { follow } from "./events.js";
import { followMap, Points } from "./map-data.js";
import { listed } from "./recommendations.js";
import { choose } from "./rows.js";
import { go, inSpace, state } from "./state.js";
import { texts } from "./texts.js";
import { factsOf, nameOf } from "./tracks.js";

const PALETTE = { light: ["#8a3b12", "#1f6f8b", "#2f7d4f", "#7b3f8f", "#b58a00", "#a8324a", "#3b5bdb", "#0d8a7a", "#d2691e", "#5c4a3d"],
  dark: ["#f0a27a", "#7cc4dd", "#84cf9f", "#cf9be0", "#e3c94f", "#f08fa2", "#91a7ff", "#63d8c5", "#ffb066", "#c9b5a4"] };
const OTHER = { light: "#a9a29a", dark: "#5d5863" };
const FIELDS = ["form", "composer", "era", "key_signature", "instrument", "ensemble", "dataset_source", "tags", "year_composed", "artist", "album", "extra.collection", "extra.region"];
const USUAL_FIELD = "form";
const REACH = 14;
const STEP = 40;
const SEARCHED = 500;
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

let points = new Points();
const camera = new Camera();
/** @type {Painter} */
let painter;
let following = new AbortController();
let pointed = -1;
let frame = 0;
let shownField = "";
let shownSpace = "";
let fitted = false;
/** @type {string | null} */
let only = null;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Set the map up; called once, when it is first shown. */
export function start() {
  const canvas = /** @type {HTMLCanvasElement} */ (byId("map"));
  painter = new Painter(canvas);
  byId("map-fields").replaceChildren(...FIELDS.map((name) => option(name, "", false)));
  inputById("map-field").addEventListener("change", () => go({ color: inputById("map-field").value.trim() }));
  byId("map-in").addEventListener("click", () => zoom(1.6));
  byId("map-out").addEventListener("click", () => zoom(1 / 1.6));
  byId("map-whole").addEventListener("click", () => {
    fit();
    ask();
  });
  for (const [type, listener] of Object.entries(LISTENERS)) canvas.addEventListener(type, /** @type {EventListener} */ (listener), { passive: false });
  new ResizeObserver(ask).observe(canvas);
  dark.addEventListener("change", () => legend());
}

/** Show what the URL asks for. @param {import("./state.js").State | null} before */
export function update(before) {
  const field = state().color || USUAL_FIELD;
  inputById("map-field").value = field;
  if (field !== shownField || state().space !== shownSpace) load(field);
  if (state().q !== before?.q) search(state().q);
  ask();
}

/** Stop following, while the map is not shown. */
export function rest() {
  following.abort();
  shownField = "";
}

/** @param {string} field */
function load(field) {
  following.abort();
  following = new AbortController();
  if (state().space !== shownSpace) fitted = false;
  [shownField, shownSpace] = [field, state().space];
  only = null;
  let fresh = new Points();
  // A list that changes flashes where its track stands.
  follow(inSpace("changes"), ({ event, data }) => event === "change" && flash(data.track_id), following.signal);
  followMap(
    field,
    (page, first, begun) => {
      if (begun && fresh.count) {
        fresh = new Points();
        fitted = false;
      }
      points = fresh;
      const added = points.take(page);
      if (!first) for (const row of added) painter.flashes.set(row, performance.now());
      if (!fitted && points.count) {
        fitted = true;
        fit();
      }
      byId("map-told").textContent = points.count ? texts.onMap(points.count) : texts.noMapYet;
      legend();
      search(state().q);
    },
    following.signal,
  ).catch((/** @type {unknown} */ error) => {
    byId("map-told").textContent = reasonOf(error);
  });
}

/** Make a track flash, if it is on the map. @param {string} id */
function flash(id) {
  const row = points.rows.get(id);
  if (row === undefined || !painter) return;
  painter.flashes.set(row, performance.now());
  ask();
}

function fit() {
  const { clientWidth, clientHeight } = painter.canvas;
  if (points.count) camera.fit(points.box(), clientWidth, clientHeight);
}

/** Draw in the next frame; again while anything moves. */
function ask() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const rows = listed().map((id) => points.rows.get(id)).filter((row) => row !== undefined);
    painter.draw(points, camera, points.rows.get(state().track) ?? -1, rows, pointed);
    if (painter.flashes.size) ask();
  });
}

/** @param {number} factor @param {number} [dx] @param {number} [dy] */
function zoom(factor, dx = 0, dy = 0) {
  camera.zoom(factor, dx, dy);
  ask();
}

/** Colour the most frequent values, and say which colour is what. */
function legend() {
  const counts = new Map();
  for (let row = 0; row < points.count; row++) counts.set(points.code[row], (counts.get(points.code[row]) ?? 0) + 1);
  const scheme = dark.matches ? "dark" : "light";
  const most = [...counts].filter(([code]) => points.names[code] !== null).sort((a, b) => b[1] - a[1]).slice(0, PALETTE.light.length);
  painter.colours.fill(pixel(OTHER[scheme]));
  most.forEach(([code], at) => {
    painter.colours[code] = pixel(PALETTE[scheme][at]);
  });
  byId("map-legend").replaceChildren(...most.map(([code, count], at) => entry(String(points.names[code]), count, PALETTE[scheme][at])));
  ask();
}

/** @param {string} name @param {number} count @param {string} colour */
function entry(name, count, colour) {
  const dot = element("span", "dot");
  dot.style.background = colour;
  const made = button("", () => {
    only = only === name ? null : name;
    mark();
    legend();
  }, dot, `${name} ${count.toLocaleString("en")}`);
  made.setAttribute("aria-pressed", String(only === name));
  return element("li", "", made);
}

/** @param {string} colour As #rrggbb. */
function pixel(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** @type {string[] | null} */
let hits = null;

/** Make the hits of the search stand out. @param {string} words */
async function search(words) {
  hits = null;
  if (words) {
    try {
      const page = await read(inSpace(`tracks?${new URLSearchParams({ search: words, limit: String(SEARCHED) })}`));
      if (words !== state().q) return;
      hits = page.tracks.map((/** @type {{track_id: string}} */ track) => track.track_id);
    } catch {
      return; // the search itself says what is wrong
    }
  }
  mark();
}

/** Dim what neither the search nor the legend asks for. */
function mark() {
  const code = only === null ? -1 : points.codeOf(only);
  painter.found = hits || only !== null ? new Uint8Array(points.count).fill(hits ? 0 : 1) : null;
  if (painter.found) {
    for (const id of hits ?? []) painter.found[points.rows.get(id) ?? -1] = 1;
    if (only !== null) for (let row = 0; row < points.count; row++) if (points.code[row] !== code) painter.found[row] = 0;
  }
  ask();
}

/** @param {number} row */
async function point(row) {
  if (row === pointed) return;
  pointed = row;
  ask();
  const place = byId("map-told");
  if (row < 0) {
    place.textContent = texts.onMap(points.count);
    return;
  }
  const id = points.ids[row];
  place.textContent = id;
  try {
    const track = await read(inSpace(`tracks/${encodeURIComponent(id)}`));
    if (pointed === row) place.textContent = [nameOf(track), factsOf(track)].filter(Boolean).join(" · ");
  } catch {
    // its id is there
  }
}

/** Where on the map the pointer is. @param {PointerEvent | WheelEvent} event */
function placeOf(event) {
  const box = painter.canvas.getBoundingClientRect();
  const [dx, dy] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  return { dx, dy, x: camera.x + dx / camera.scale, y: camera.y + dy / camera.scale };
}

/** @type {Map<number, PointerEvent>} */
const held = new Map();
let moved = 0;

const LISTENERS = {
  /** @param {WheelEvent} event */
  wheel(event) {
    event.preventDefault();
    const { dx, dy } = placeOf(event);
    zoom(2 ** (-event.deltaY / 250), dx, dy);
  },
  /** @param {PointerEvent} event */
  pointerdown(event) {
    painter.canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, event);
    if (held.size === 1) moved = 0;
  },
  /** @param {PointerEvent} event */
  pointermove(event) {
    const before = held.get(event.pointerId);
    if (!before) return void point(points.nearest(placeOf(event).x, placeOf(event).y, REACH / camera.scale));
    const other = [...held.values()].find((each) => each.pointerId !== event.pointerId);
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (other) {
      const apart = (/** @type {PointerEvent} */ one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const middle = placeOf(other);
      zoom(apart(event) / (apart(before) || 1), middle.dx, middle.dy);
    }
    moved += Math.abs(dx) + Math.abs(dy);
    camera.x -= dx / camera.scale / held.size;
    camera.y -= dy / camera.scale / held.size;
    held.set(event.pointerId, event);
    ask();
  },
  /** @param {PointerEvent} event */
  pointerup(event) {
    held.delete(event.pointerId);
    if (moved > 6) return;
    const { x, y } = placeOf(event);
    const row = points.nearest(x, y, REACH / camera.scale);
    if (row >= 0) choose(points.ids[row]);
  },
  /** @param {PointerEvent} event */
  pointercancel(event) {
    held.delete(event.pointerId);
  },
  pointerleave() {
    if (!held.size) point(-1);
  },
  /** @param {KeyboardEvent} event */
  keydown(event) {
    const direction = DIRECTIONS[/** @type {keyof typeof DIRECTIONS} */ (event.key)];
    if (direction && event.shiftKey) {
      camera.x += (direction[0] * STEP) / camera.scale;
      camera.y += (direction[1] * STEP) / camera.scale;
      ask();
    } else if (direction) step(direction);
    else if (event.key === "+" || event.key === "=") zoom(1.6);
    else if (event.key === "-") zoom(1 / 1.6);
    else if (event.key === "Enter" && pointed >= 0) choose(points.ids[pointed]);
    else if (event.key === "Escape") point(-1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  },
};

/** Point at the nearest track in a direction; at first, at the one nearest to the middle. @param {number[]} direction */
function step([across, down]) {
  const from = pointed >= 0 ? pointed : (points.rows.get(state().track) ?? -1);
  const [x, y] = from >= 0 ? [points.x[from], points.y[from]] : [camera.x, camera.y];
  const fits = (/** @type {number} */ row) => {
    if (from < 0) return true;
    const [dx, dy] = [points.x[row] - x, points.y[row] - y];
    const ahead = dx * across + dy * down;
    return row !== from && ahead > 0 && Math.abs(dx * down - dy * across) <= ahead;
  };
  for (let reach = REACH / camera.scale; reach < 1e4; reach *= 3) {
    const row = points.nearest(x, y, reach, fits);
    if (row < 0) continue;
    point(row);
    const [sx, sy] = [(points.x[row] - camera.x) * camera.scale, (points.y[row] - camera.y) * camera.scale];
    if (Math.abs(sx) > painter.canvas.clientWidth / 2 - STEP || Math.abs(sy) > painter.canvas.clientHeight / 2 - STEP) {
      camera.x = points.x[row];
      camera.y = points.y[row];
      ask();
    }
    return;
  }
}

