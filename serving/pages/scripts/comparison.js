// Every strategy's list as a column, shared works joined by lines.

import { read, reasonOf } from "./api.js";
import { button, byId, element } from "./dom.js";
import { choose } from "./rows.js";
import { go, inSpace, state } from "./state.js";
import { texts } from "./texts.js";
import { factsOf, nameOf, recommendPath } from "./tracks.js";

/** @typedef {import("./tracks.js").Recommendation} Recommendation */
/**
 * @typedef {{strategy: string, mode: string | null, recommendations: Recommendation[], intra_list_diversity: number,
 *   mean_similarity: number, novelty: number | null}} ComparedList
 */
/** @typedef {{lists: ComparedList[], overlap: {one: string, other: string, jaccard: number}[]}} Comparison */

const SVG = "http://www.w3.org/2000/svg";
const SHOWN = 10;
let shown = "";

/** Set the button up. */
export function start() {
  byId("compare").addEventListener("click", () => go({ compare: !state().compare }));
  addEventListener("resize", join);
  update();
}

/** Show or hide the comparison, as the URL says. */
export function update() {
  const { compare, track } = state();
  const wanted = compare && track ? pathOf(track) : "";
  byId("compare").setAttribute("aria-pressed", String(compare));
  byId("comparison").hidden = !wanted;
  if (wanted && wanted !== shown) show(wanted);
  shown = wanted;
}

/** @param {string} id */
function pathOf(id) {
  const weights = state().conditions.filter(([name]) => name === "weights");
  return inSpace(`${recommendPath(id)}/compare?${new URLSearchParams([["top_k", String(SHOWN)], ...weights])}`);
}

/** @param {string} path */
async function show(path) {
  const place = byId("comparison");
  place.setAttribute("aria-label", texts.comparisonTitle);
  place.replaceChildren(element("p", "status", texts.comparing));
  try {
    const { comparison } = await read(path);
    if (path !== shown) return;
    const columns = element("div", "side-by-side", ...comparison.lists.map((/** @type {ComparedList} */ list) => column(list, comparison)));
    const lines = document.createElementNS(SVG, "svg");
    lines.setAttribute("aria-hidden", "true");
    columns.prepend(lines);
    place.replaceChildren(element("p", "about", texts.comparisonHint), columns);
    join();
  } catch (error) {
    if (path === shown) place.replaceChildren(element("p", "status", reasonOf(error)));
  }
}

/** @param {ComparedList} list */
const nameOfList = (list) => [list.strategy, list.mode].filter(Boolean).join("/");

/** @param {ComparedList} list @param {Comparison} comparison */
function column(list, comparison) {
  const name = nameOfList(list);
  const shared = comparison.overlap.find(
    (each) => [each.one, each.other].includes(name) && [each.one, each.other].includes("similarity"),
  );
  const figures = [
    `${texts.diversity} ${list.intra_list_diversity.toFixed(3)}`,
    `${texts.meanSimilarity} ${list.mean_similarity.toFixed(3)}`,
    list.novelty === null ? "" : `${texts.novelty} ${list.novelty.toFixed(1)}`,
    shared && name !== "similarity" ? texts.sharedWith(shared.jaccard) : "",
  ];
  const works = element("ol", "", ...list.recommendations.map(work));
  return element("section", "strategy", element("h3", "", name), element("p", "facts", figures.filter(Boolean).join(" · ")), works);
}

/** @param {Recommendation} track */
function work(track) {
  const item = element("li");
  const made = button("work", () => choose(track.track_id), nameOf(track));
  made.title = factsOf(track) || track.track_id;
  made.dataset.track = track.track_id;
  for (const event of ["mouseenter", "focus"]) made.addEventListener(event, () => trace(track.track_id));
  for (const event of ["mouseleave", "blur"]) made.addEventListener(event, () => trace(""));
  item.append(made);
  return item;
}

/** Make one work stand out in all lists. @param {string} id */
function trace(id) {
  for (const each of byId("comparison").querySelectorAll("[data-track]")) {
    each.classList.toggle("traced", id !== "" && each.getAttribute("data-track") === id);
  }
}

/** Draw the lines between neighbouring lists. */
function join() {
  const columns = [...byId("comparison").querySelectorAll(".strategy")];
  const svg = byId("comparison").querySelector("svg");
  if (!svg || byId("comparison").hidden) return;
  const origin = svg.getBoundingClientRect();
  const lines = [];
  for (let at = 1; at < columns.length; at++) {
    for (const right of /** @type {NodeListOf<HTMLElement>} */ (columns[at].querySelectorAll(".work"))) {
      const left = columns[at - 1].querySelector(`.work[data-track="${CSS.escape(right.dataset.track ?? "")}"]`);
      if (left) lines.push(line(left.getBoundingClientRect(), right.getBoundingClientRect(), origin, right.dataset.track ?? ""));
    }
  }
  svg.replaceChildren(...lines);
}

/** @param {DOMRect} from @param {DOMRect} to @param {DOMRect} origin @param {string} track */
function line(from, to, origin, track) {
  const made = document.createElementNS(SVG, "path");
  const [x1, y1] = [from.right - origin.left, from.top + from.height / 2 - origin.top];
  const [x2, y2] = [to.left - origin.left, to.top + to.height / 2 - origin.top];
  const bend = (x2 - x1) / 2;
  made.setAttribute("d", `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`);
  made.setAttribute("data-track", track);
  return made;
}
