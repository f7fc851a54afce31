// Sound: one work at a time, by Web Audio from its notes, or a catalogue's own preview.

import { incipitOf } from "./incipits.js";
import { draw, secondsOf } from "./roll.js";
import { state } from "./state.js";
import { tell, texts } from "./texts.js";

/** @typedef {import("./tracks.js").Track} Track */

const ATTACK = 0.015;
const RELEASE = 0.12;
const LOUDNESS = 0.3;
const START_DELAY = 0.06;
const CONCERT_A = 440;
const MIDI_OF_A = 69;

/** @type {AudioContext | null} */
let audio = null;
/** @type {{id: string, stop: () => void} | null} */
let sounding = null;
let turn = 0;

/** A catalogue's own preview of a track, if it has a usable one. @param {Track} track */
export function previewOf(track) {
  const given = track.metadata?.extra?.preview_url;
  if (typeof given !== "string" || !URL.canParse(given, document.baseURI)) return null;
  const url = new URL(given, document.baseURI);
  return ["http:", "https:"].includes(url.protocol) ? url.href : null;
}

/** Play a track, or stop it where it is playing. @param {Track} track */
export function toggle(track) {
  if (sounding?.id === track.track_id) return stop();
  return void playAll([track]);
}

/** Stop whatever is playing. */
export function stop() {
  turn++;
  sounding?.stop();
}

/** Play tracks one after the other. @param {Track[]} tracks */
export async function playAll(tracks) {
  stop();
  const mine = ++turn;
  for (const track of tracks) {
    if (mine !== turn) return;
    mark(track.track_id, "waiting");
    try {
      const preview = previewOf(track);
      await (preview ? playPreview(track.track_id, preview) : playNotes(track.track_id, () => mine === turn));
    } catch (error) {
      tell(texts.cannotPlay(error instanceof Error ? error.message : String(error)));
    } finally {
      mark(track.track_id, "");
    }
  }
}

/** @param {string} id @param {string} url */
function playPreview(id, url) {
  const element = new Audio(url);
  return new Promise((resolve, reject) => {
    const end = () => {
      element.pause();
      sounding = null;
      resolve(undefined);
    };
    sounding = { id, stop: end };
    element.addEventListener("ended", end);
    element.addEventListener("error", () => reject(new Error(texts.previewFailed)));
    element.play().then(() => mark(id, "playing"), reject);
  });
}

/** @param {string} id @param {() => boolean} wanted Whether nobody has stopped it meanwhile. */
async function playNotes(id, wanted) {
  const { parts, detail } = await incipitOf(id);
  if (!parts) throw new Error(detail ?? "");
  if (!wanted()) return;
  audio ??= new AudioContext();
  await audio.resume();
  const context = audio;
  const master = new GainNode(context, { gain: LOUDNESS / Math.sqrt(parts.length) });
  master.connect(context.destination);
  const start = context.currentTime + START_DELAY;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += 3) {
      sound(context, master, start + part[at] / 1000, part[at + 1] / 1000, part[at + 2]);
    }
  }
  mark(id, "playing");
  await new Promise((resolve) => {
    const end = () => {
      cancelAnimationFrame(frame);
      master.disconnect();
      redraw(id, parts, null);
      sounding = null;
      resolve(undefined);
    };
    sounding = { id, stop: end };
    const until = start + secondsOf(parts) + RELEASE;
    const move = () => {
      if (context.currentTime >= until) return end();
      redraw(id, parts, Math.max(0, context.currentTime - start));
      frame = requestAnimationFrame(move);
    };
    let frame = requestAnimationFrame(move);
  });
}

/** One note. @param {AudioContext} context @param {AudioNode} to @param {number} at @param {number} length @param {number} pitch */
function sound(context, to, at, length, pitch) {
  const tone = new OscillatorNode(context, { type: "triangle", frequency: CONCERT_A * 2 ** ((pitch - MIDI_OF_A) / 12) });
  const envelope = new GainNode(context, { gain: 0 });
  envelope.gain.setValueAtTime(0, at);
  envelope.gain.linearRampToValueAtTime(1, at + ATTACK);
  envelope.gain.setTargetAtTime(0.6, at + ATTACK, 0.2);
  envelope.gain.setTargetAtTime(0, at + Math.max(length - 0.03, ATTACK), RELEASE / 4);
  tone.connect(envelope).connect(to);
  tone.start(at);
  tone.stop(at + length + RELEASE);
}

/** Move the cursor on every roll of the work. @param {string} id @param {number[][]} parts @param {number | null} seconds */
function redraw(id, parts, seconds) {
  for (const canvas of of(id, "canvas.roll")) draw(/** @type {HTMLCanvasElement} */ (canvas), parts, seconds);
}

/** Show on its buttons whether a work is playing. @param {string} id @param {string} how */
function mark(id, how) {
  for (const button of of(id, "button.play")) {
    button.setAttribute("aria-pressed", String(how === "playing"));
    button.classList.toggle("waiting", how === "waiting");
  }
}

/** @param {string} id @param {string} selector */
const of = (id, selector) => document.querySelectorAll(`${selector}[data-track="${CSS.escape(id)}"]`);

/** Play or stop the chosen work. */
export function toggleChosen() {
  if (sounding) stop();
  else if (state().track) document.querySelector(/** @type {"button"} */ ("#seed button.play"))?.click();
}
