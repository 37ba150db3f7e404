/** What the session knows of one topic. */

/** The server has not been asked yet, or not again. */
export const IDLE = 0;
/** Asked; the answer is on its way. */
export const JOINING = 1;
export const LIVE = 2;

/** @typedef {Record<string, any> & { type: string }} Frame */
/** @typedef {{ epoch?: string, offset?: number, since?: string | number }} Position */

/**
 * @typedef {object} Topic
 * @property {string} name
 * @property {number} phase
 * @property {number} due when to ask, in ms since 1970
 * @property {number} [id] of the question being answered; undefined if `hello` asked
 * @property {any} [pos] the position after which event we stand; undefined: from now
 * @property {string} [grant]
 * @property {boolean} [renewed] whether a new grant was asked for since the last success
 * @property {boolean} [stateful] whether its followers live on snapshots, so that stale state is
 *   replaced by asking for a new one
 * @property {boolean} [wants] whether to ask without a position, which brings a snapshot
 * @property {Frame} [head] what began the present snapshot
 * @property {any} [parts] its items so far
 * @property {string} [reason] why it replaces what was there; undefined: it is a starting state
 * @property {Frame[]} [held] events that wait for the snapshot before them
 * @property {Set<any>} seen keys of the last snapshot's items, whose events are not shown twice
 * @property {any} [state] this member's presence
 * @property {boolean} [unsaid] whether the server has yet to hear of it
 * @property {number} [seq] the number of the last presence frame
 */

/**
 * @param {string} name
 * @returns {Topic}
 */
export const newTopic = (name) => ({ name, phase: IDLE, due: 0, seen: new Set() });

/**
 * The server is to be asked, again maybe.
 *
 * @param {Topic} topic
 * @param {number} due
 */
export const ask = (topic, due) => {
  topic.phase = IDLE;
  topic.due = due;
};

/**
 * Ask for a snapshot that replaces everything.
 *
 * @param {Topic} topic
 * @param {number} due
 * @param {string} reason
 */
export const refetch = (topic, due, reason) => {
  topic.pos = topic.held = topic.head = undefined;
  topic.wants = true;
  topic.reason = reason;
  ask(topic, due);
};

/** @param {Topic} topic */
export const questionOf = ({ name, grant, wants, pos }) => ({
  topic: name,
  grant,
  position: wants ? undefined : pos,
});
