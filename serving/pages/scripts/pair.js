// Two works side by side: heard one after the other, what they share, and where each stands in the other's list.

import { read, reasonOf } from "./api.js";
import { button, byId, element } from "./dom.js";
import { showIncipits } from "./incipits.js";
import { playAll } from "./player.js";
import { go, inSpace, state } from "./state.js";
import { playButton, roll } from "./sounding.js";
import { conditionNames, texts } from "./texts.js";
import { nameOf } from "./tracks.js";

/** @typedef {import("./tracks.js").Track} Track */
/** @typedef {{listed: boolean, rank: number | null, stage: string, detail: string, similarity_score: number, aspects: Record<string, number | null>, recommendation: any}} Placement */

/** Fields that are compared, in the order they are shown. */
const COMPARED = ["composer", "composer_full", "form", "era", "key_signature", "instrument", "ensemble", "tempo_marking", "year_composed", "artist", "album"];
let shown = "";

/** Show or hide the pair, as the URL says. */
export function update() {
  const { track, pair, space } = state();
  const key = track && pair ? JSON.stringify([space, track, pair, state().strategy, state().mode, state().conditions]) : "";
  byId("pair").hidden = !key;
  if (key && key !== shown) show(track, pair, key);
  shown = key;
}

/** @param {string} seed @param {string} other @param {string} key */
async function show(seed, other, key) {
  const place = byId("pair");
  place.replaceChildren(element("p", "status", texts.comparingPair));
  try {
    const [one, two, there, back] = await Promise.all([
      read(inSpace(`tracks/${encodeURIComponent(seed)}`)),
      read(inSpace(`tracks/${encodeURIComponent(other)}`)),
      read(explainPath(seed, other)),
      read(explainPath(other, seed)),
    ]);
    if (key !== shown) return;
    place.replaceChildren(...content(one, two, there.placement, back.placement));
    showIncipits();
    byId("pair-title").focus({ preventScroll: true });
    place.scrollIntoView({ block: "nearest" });
  } catch (error) {
    if (key === shown) place.replaceChildren(element("p", "status", reasonOf(error)), closing());
  }
}

/** @param {string} seed @param {string} candidate */
function explainPath(seed, candidate) {
  const { strategy, mode, conditions } = state();
  const query = new URLSearchParams({ seed, candidate });
  if (strategy) query.set("strategy", strategy);
  if (mode) query.set("mode", mode);
  for (const [name, value] of conditions) if (name !== "top_k") query.append(name, value);
  return inSpace(`explain?${query}&top_k=50`);
}

function closing() {
  return button("", () => go({ pair: "" }), texts.closePair);
}

/** @param {Track} one @param {Track} two @param {Placement} there @param {Placement} back */
function content(one, two, there, back) {
  const title = element("h3", "", texts.pairTitle(nameOf(one), nameOf(two)));
  title.id = "pair-title";
  title.tabIndex = -1;
  const both = button("", () => playAll([one, two]), texts.playBoth);
  return [
    title,
    element("p", "facts", texts.pairSimilarity(there.similarity_score.toFixed(3), there.listed && back.listed)),
    ...byAspect(there.aspects),
    element("ul", "places", element("li", "", place(two, one, there)), element("li", "", place(one, two, back))),
    lane(one),
    lane(two),
    element("p", "actions", both, closing()),
    comparison(one, two),
  ];
}

/** How alike they are in each aspect, the most alike first; nothing where the catalogue has no aspects. @param {Placement["aspects"]} aspects */
function byAspect(aspects) {
  const rows = Object.entries(aspects).sort(([, a], [, b]) => (b ?? -2) - (a ?? -2));
  if (!rows.length) return [];
  const list = element("ul", "aspects", ...rows.map(([name, cosine]) => element("li", "", ...aspect(name, cosine))));
  list.setAttribute("aria-label", texts.byAspect);
  return [list];
}

/** @param {string} name @param {number | null} cosine */
function aspect(name, cosine) {
  const bar = document.createElement("meter");
  bar.value = Math.max(0, cosine ?? 0);
  bar.setAttribute("aria-hidden", "true");
  return [element("span", "name", name), bar, element("span", "cosine", cosine === null ? texts.noSuchPart : cosine.toFixed(2))];
}

/** @param {Track} track */
const lane = (track) => element("div", "lane", playButton(track), element("span", "title", nameOf(track)), roll(track, "wide"));

/** Where `candidate` stands in the list of `seed`. @param {Track} candidate @param {Track} seed @param {Placement} placement */
function place(candidate, seed, placement) {
  const rank = placement.rank === null ? texts.unranked : texts.ranked(placement.rank);
  const why = placement.listed ? placement.recommendation?.explanation ?? "" : placement.detail;
  const parts = Object.entries(placement.recommendation?.components ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")} ${+Number(value).toFixed(3)}`);
  return `${texts.stands(nameOf(candidate), nameOf(seed), rank)} ${[why, parts.join(", ")].filter(Boolean).join("; ")}`;
}

/** @param {Track} one @param {Track} two */
function comparison(one, two) {
  const rows = COMPARED.map((name) => [name, one.metadata?.[name], two.metadata?.[name]]).filter(([, a, b]) => a ?? b);
  const tags = [one.tags ?? [], two.tags ?? []];
  if (tags.flat().length) rows.push(["tags", ...tags.map((each) => each.join(", "))]);
  const table = element("table");
  table.append(row("th", texts.field, nameOf(one), nameOf(two), texts.shared));
  for (const [name, a, b] of rows) {
    const spoken = conditionNames[/** @type {keyof typeof conditionNames} */ (name)] ?? String(name).replaceAll("_", " ");
    const same = a !== null && a !== undefined && a === b;
    table.append(row("td", spoken, String(a ?? "–"), String(b ?? "–"), same ? texts.yes : ""));
  }
  const scroll = element("div", "scroll", table);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", texts.sharedTitle);
  return scroll;
}

/** @param {"th" | "td"} kind @param {...string} cells */
const row = (kind, ...cells) => element("tr", "", ...cells.map((cell) => element(kind, "", cell)));
