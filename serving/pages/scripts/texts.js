// Every English text of the page that does not come from the API.

/** @param {number} count */
const works = (count) => (count === 1 ? "1 work" : `${count.toLocaleString("en")} works`);

/** Texts of the markup, by the name in its `data-text`. */
export const markup = {
  "view.lists": "Lists",
  "view.map": "Map",
  "view.live": "Live",
  "space.label": "Similar in",
  "live.changes": "Lists as they change",
  "live.checks": "Checks",
  "live.workers": "Workers",
  "live.noWorkers": "No worker is alive.",
  "map.field": "Coloured by",
  "map.in": "Zoom in",
  "map.out": "Zoom out",
  "map.whole": "Whole map",
  "map.hint":
    "Near works are near; lines lead to the listed works. Drag and scroll to move, click to choose. Keys: arrows point at works, + and − zoom, Shift and arrows move, Enter chooses.",
  skip: "Skip to the chosen work",
  lead: "Find a work, and the works most like it.",
  "search.label": "Search title, composer, form, opus, performer",
  "search.more": "Show more",
  "keyboard.hint": "Keys: / searches, arrows move through works, Enter chooses, Space plays and stops.",
  "work.none": "No work chosen yet",
  "work.choose": "Choose one from the search to see its recommendations.",
  "strategy.label": "Strategy",
  "strategy.mode": "Mode",
  "conditions.field": "Only works whose",
  "conditions.value": "is",
  "conditions.add": "Add",
  "comparison.open": "Compare strategies",
  "curl.copy": "Copy as curl",
  "footer.docs": "API reference",
  "footer.health": "health",
  "footer.metrics": "metrics",
  "key.title": "This API asks for a key",
  "key.label": "Key",
  "key.use": "Use it",
  "key.cancel": "Cancel",
};

/** Names of the conditions that the page offers, and what a person reads. */
export const conditionNames = {
  era: "era",
  composer: "composer",
  form: "form",
  key_signature: "key",
  instrument: "instrument",
  ensemble: "ensemble",
  tags: "tag",
  era_not: "era, not",
  composer_not: "composer, not",
  form_not: "form, not",
  year_composed_min: "year, at least",
  year_composed_max: "year, at most",
  max_per_composer: "works of a composer, at most",
  max_per_artist: "works of an artist, at most",
  near_duplicates: "near duplicates left out (true)",
  at_least: "conditions kept below this many results",
  weights: "aspects weighed, such as rhythm:1,harmony:-0.5",
};

export const texts = {
  searchExample: "for example: bach fugue",
  /** @param {number} total @param {boolean} exact */
  found: (total, exact) => (exact ? works(total) : `more than ${works(total)}`),
  /** @param {number} total */
  inCatalogue: (total) => `${works(total)} in the catalogue.`,
  /** @param {string} reason */
  searchFailed: (reason) => `The search failed: ${reason}`,
  /** @param {string} reason */
  strategiesFailed: (reason) => `The strategies cannot be read: ${reason}`,
  asking: "asking…",
  comparing: "comparing…",
  nothingYet: "There is no other work to recommend yet.",
  nothingLeft: "No work meets these conditions.",
  /** @param {string} condition */
  unmet: (condition) => `does not meet ${condition}`,
  /** @param {string} similarity */
  similarity: (similarity) => `cosine similarity ${similarity}`,
  /** @param {string} condition */
  removeCondition: (condition) => `Remove the condition ${condition}`,
  /** @param {string} stage @param {number} held */
  stage: (stage, held) => `${held.toLocaleString("en")} ${stage.replaceAll("_", " ")}`,
  /** @param {string} when @param {boolean} stale @param {number} milliseconds @param {boolean} cached */
  whence: (when, stale, milliseconds, cached) =>
    `List of ${when}${stale ? ", being renewed" : ""}; ${cached ? "read" : "computed"} in ${milliseconds} ms.`,
  provisional: "Searched for now, as its own list is not there yet.",
  /** @param {string} strategy @param {string} reason */
  chosenStrategy: (strategy, reason) => `Chosen: ${strategy}, as ${reason}.`,
  /** @param {string[]} conditions */
  relaxed: (conditions) => `Given up, so that the list is long enough: ${conditions.join(", ")}.`,
  comparisonTitle: "Strategies side by side",
  comparisonHint: "Lines join the same work in neighbouring lists. Point at a work to follow it.",
  diversity: "diversity",
  meanSimilarity: "similarity",
  novelty: "novelty, bits",
  /** @param {number} share */
  sharedWith: (share) => `${Math.round(share * 100)} % as similarity`,
  /** @param {string} title */
  play: (title) => `Play ${title}`,
  /** @param {number} parts @param {number} notes */
  roll: (parts, notes) => `Piano roll of the beginning: ${notes} notes in ${parts === 1 ? "one part" : `${parts} parts`}`,
  noRoll: "No notes yet",
  notInTime: "it was not derived in time: try again",
  /** @param {string} reason */
  cannotPlay: (reason) => `This work cannot be played: ${reason}`,
  previewFailed: "its preview could not be loaded",
  /** @param {string} title */
  pair: (title) => `Compare with ${title}`,
  comparingPair: "looking from both sides…",
  /** @param {string} one @param {string} two */
  pairTitle: (one, two) => `${one} and ${two}`,
  /** @param {string} similarity @param {boolean} mutual */
  pairSimilarity: (similarity, mutual) =>
    `Cosine similarity ${similarity}; ${mutual ? "each is in the other's list" : "not each is in the other's list"}.`,
  byAspect: "Similarity by aspect",
  noSuchPart: "one of them has none",
  /** @param {string} candidate @param {string} seed @param {string} rank */
  stands: (candidate, seed, rank) => `“${candidate}” for “${seed}”: ${rank}.`,
  /** @param {number} rank */
  ranked: (rank) => `rank ${rank}`,
  unranked: "not ranked",
  playBoth: "Play one after the other",
  closePair: "Close",
  field: "field",
  shared: "shared",
  sharedTitle: "What they share",
  yes: "yes",
  /** @param {number} count */
  onMap: (count) => `${works(count)} on the map.`,
  noMapYet: "The map is not laid out yet: it takes a minute after the catalogue has come.",
  lineRate: "events a second",
  lineChanges: "changes told a second",
  lineLag: "events behind",
  lineMissing: "lists to come",
  lineTracks: "tracks",
  lineDatabase: "database, ms",
  lineFreshness: "event to lists, p99, s",
  lineRecall: "recall@50 of sampled lists",
  lineDeadLetters: "dead letters",
  workerColumns: ["worker", "partitions", "runs for", "event to lists, p50 and p99", "recall@50", "wrong lists", "dead letters"],
  /** @param {number} seconds */
  lasting: (seconds) => (seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`),
  unknown: "not known",
  /** @param {string} status @param {string} version */
  state: (status, version) => `The pipeline is ${status} (version ${version}).`,
  /** @param {string} reason @param {number} added @param {number} removed */
  change: (reason, added, removed) => `${reason}: ${added} added, ${removed} removed`,
  copied: "Copied.",
  changed: "The list has changed.",
  /** @param {number} status */
  httpError: (status) => `HTTP ${status}`,
};

/** Say something to everybody, those who hear the page included. @param {string} text */
export function tell(text) {
  const place = document.getElementById("told");
  if (place) place.textContent = text;
}

/** Put the markup's texts in their places. @param {ParentNode} root */
export function fillIn(root) {
  for (const place of root.querySelectorAll("[data-text]")) {
    const name = /** @type {keyof typeof markup} */ (/** @type {HTMLElement} */ (place).dataset.text);
    place.textContent = markup[name];
  }
}
