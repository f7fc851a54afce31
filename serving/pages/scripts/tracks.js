// What is said of a track in a line or two.

/**
 * @typedef {object} Track
 * @property {string} track_id
 * @property {string | null} [title]
 * @property {string | null} [composer]
 * @property {string | null} [composer_full]
 * @property {string | null} [form]
 * @property {string | null} [era]
 * @property {string | null} [key_signature]
 * @property {string[]} [tags]
 * @property {Record<string, any>} [metadata]
 */

/**
 * @typedef {Track & {rank: number, score: number, similarity_score: number, explanation: string,
 *   components: Record<string, number>, relaxed: string[]}} Recommendation
 */

/** @param {Track} track */
export const nameOf = (track) => track.title || track.track_id;

/** @param {Track} track */
export const factsOf = (track) =>
  [track.composer_full || track.composer, track.form, track.key_signature, track.era].filter(Boolean).join(" · ");

/** The track's parts of a recommendation's path. @param {string} id */
export const recommendPath = (id) => `recommend/${encodeURIComponent(id)}`;
