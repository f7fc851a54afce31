// The pipeline at work: what changes, as it changes, and its health as small lines over the last minutes.

import { read, reasonOf } from "./api.js";
import { button, byId, element } from "./dom.js";
import { follow } from "./events.js";
import { choose } from "./rows.js";
import { go, inSpace } from "./state.js";
import { texts } from "./texts.js";

const EVERY = 2000;
const KEPT = 150;
const CHANGES_SHOWN = 200;
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [160, 32];

/** @typedef {{status: string, detail: string} & Record<string, any>} Check */
/** @typedef {{name: string, running_seconds: number, partitions: number[], freshness_seconds?: {p50: number | null, p99: number | null}, recall?: {mean: number | null}, wrong_lists?: number, dead_letters?: Record<string, number>}} Worker */
/** @typedef {{at: number, consumed: number | null, changes: number, checks: Record<string, Check>}} Look */

/** @type {Look[]} */
let looks = [];
let changes = 0;
/** What is looked at; empty while nothing is. */
let running = "";
let following = new AbortController();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let looking;

/** What is drawn: a name, and its value at each look; null where it is not known. @type {[string, (now: Look, before: Look | undefined) => number | null][]} */
const LINES = [
  [texts.lineRate, (now, before) => rate(now, before, (look) => look.consumed)],
  [texts.lineChanges, (now, before) => rate(now, before, (look) => look.changes)],
  [texts.lineLag, ({ checks }) => checks.consumer_lag?.lag ?? null],
  [texts.lineMissing, ({ checks }) => (checks.lists ? checks.catalogue?.tracks - checks.lists.full_lists : null)],
  [texts.lineTracks, ({ checks }) => checks.catalogue?.tracks ?? null],
  [texts.lineFreshness, (look) => worst(look, (worker) => worker.freshness_seconds?.p99)],
  [texts.lineRecall, (look) => least(look, (worker) => worker.recall?.mean)],
  [texts.lineDeadLetters, (look) => summed(look, (worker) => count(worker.dead_letters))],
  [texts.lineDatabase, ({ checks }) => checks.database?.latency_ms ?? null],
];

/** Set the view up. */
export function start() {}

/** Look and listen while the view is shown. */
export function update() {
  const path = inSpace("changes");
  if (running === path) return;
  rest();
  running = path;
  following = new AbortController();
  follow(path, ({ event, data }) => event === "change" && told(data), following.signal);
  look();
}

/** Stop, while the view is not shown. */
export function rest() {
  running = "";
  following.abort();
  clearTimeout(looking);
  looks = [];
  byId("changes").replaceChildren();
}

/** @param {{track_id: string, reason: string, added: string[] | null, removed: string[] | null}} change */
function told(change) {
  changes++;
  const list = byId("changes");
  const open = button("pick", () => {
    go({ view: "" });
    choose(change.track_id);
  }, element("span", "title", change.track_id), element("span", "facts", texts.change(change.reason, change.added?.length ?? 0, change.removed?.length ?? 0)));
  list.prepend(element("li", "row flash", open));
  while (list.children.length > CHANGES_SHOWN) list.lastElementChild?.remove();
}

async function look() {
  const place = byId("live-told");
  try {
    const report = await read(inSpace("health/detailed"), following.signal);
    looks.push({ at: Date.now() / 1000, consumed: report.checks.consumer_lag?.consumed ?? null, changes, checks: report.checks });
    looks = looks.slice(-KEPT);
    place.textContent = texts.state(report.status, report.version);
    byId("lines").replaceChildren(...LINES.map(([name, value]) => drawn(name, value)));
    showWorkers(workersOf(looks[looks.length - 1]));
    byId("checks").replaceChildren(...Object.entries(report.checks).map(([name, check]) => row(name, check)));
  } catch (error) {
    if (following.signal.aborted) return;
    place.textContent = reasonOf(error);
  }
  looking = setTimeout(look, EVERY);
}

/** @param {Look} now @param {Look | undefined} before @param {(look: Look) => number | null} of */
function rate(now, before, of) {
  const [later, earlier] = [of(now), before ? of(before) : null];
  return before && later !== null && earlier !== null ? Math.max(0, (later - earlier) / (now.at - before.at)) : null;
}

/** @param {Look} look @returns {Worker[]} */
const workersOf = ({ checks }) => checks.workers?.workers ?? [];

/** What the workers say, where they say it. @param {Look} look @param {(worker: Worker) => number | null | undefined} of */
const said = (look, of) => workersOf(look).map(of).filter((value) => value !== null && value !== undefined);

/** @param {Look} look @param {(worker: Worker) => number | null | undefined} of */
const worst = (look, of) => said(look, of).reduce((most, value) => Math.max(most ?? value, value), /** @type {number | null} */ (null));

/** @param {Look} look @param {(worker: Worker) => number | null | undefined} of */
const least = (look, of) => said(look, of).reduce((few, value) => Math.min(few ?? value, value), /** @type {number | null} */ (null));

/** @param {Look} look @param {(worker: Worker) => number | null | undefined} of */
const summed = (look, of) => said(look, of).reduce((sum, value) => (sum ?? 0) + value, /** @type {number | null} */ (null));

/** @param {Record<string, number> | undefined} reasons */
const count = (reasons) => (reasons ? Object.values(reasons).reduce((sum, each) => sum + each, 0) : null);

/** @param {Worker[]} workers */
function showWorkers(workers) {
  byId("no-workers").hidden = workers.length > 0;
  const head = element("tr", "", ...texts.workerColumns.map((name) => element("th", "", name)));
  byId("workers").replaceChildren(...(workers.length ? [element("thead", "", head), element("tbody", "", ...workers.map(worked))] : []));
}

/** @param {Worker} worker */
function worked(worker) {
  const seconds = (/** @type {number | null | undefined} */ value) => (value === null || value === undefined ? "–" : `${value} s`);
  const reasons = Object.entries(worker.dead_letters ?? {}).sort(([, one], [, other]) => other - one);
  const cells = [
    worker.partitions.join(", ") || "–",
    texts.lasting(worker.running_seconds),
    `${seconds(worker.freshness_seconds?.p50)}, ${seconds(worker.freshness_seconds?.p99)}`,
    worker.recall?.mean?.toFixed(4) ?? "–",
    worker.wrong_lists ?? "–",
    reasons.map(([reason, times]) => `${reason} ${times.toLocaleString("en")}`).join(", ") || "0",
  ];
  return element("tr", "", element("th", "", worker.name), ...cells.map((text) => element("td", "", String(text))));
}

/** @param {string} name @param {(now: Look, before: Look | undefined) => number | null} value */
function drawn(name, value) {
  const values = looks.map((now, at) => value(now, looks[at - 1]));
  const known = values.filter((each) => each !== null);
  // What nobody says at rest, as nothing is on its way, is as it was last.
  const last = known.at(-1);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "polyline");
  const most = Math.max(1e-9, ...known);
  line.setAttribute("points", values.flatMap((each, at) => (each === null ? [] : [`${WIDTH - (values.length - 1 - at) * (WIDTH / KEPT)},${HEIGHT - 2 - (each / most) * (HEIGHT - 4)}`])).join(" "));
  svg.append(line);
  const shown = last === undefined ? texts.unknown : last.toLocaleString("en", { maximumFractionDigits: 3 });
  return element("li", "line", element("span", "facts", name), element("strong", "", shown), svg);
}

/** @param {string} name @param {Check} check */
function row(name, check) {
  const status = element("td", `state ${check.status}`, check.status);
  return element("tr", "", element("th", "", name.replaceAll("_", " ")), status, element("td", "", check.detail));
}
