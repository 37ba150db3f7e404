/**
 * What can go wrong: the error that pages see, and what each close code asks for.
 *
 * The codes are those of the server's `errors.py`; the client adds `timeout`, `unknown_outcome`,
 * `overflow` and `closed`.
 */

/** Rejects calls and publishes, refuses subscriptions, and is the payload of `error` events. */
export class RealtimeError extends Error {
  /**
   * @param {string} code one of the catalogue, or the application's own
   * @param {string} [message]
   * @param {number} [retryAfter] milliseconds until trying again may succeed
   */
  constructor(code, message, retryAfter) {
    super(message || code);
    this.name = "RealtimeError";
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/**
 * Whether a close code means that dialling again cannot help: a bug, a policy, a refusal.
 *
 * @param {number} code RFC 6455 section 7.4, and the table in `docs/reference/frames.md`
 */
export const isFatal = (code) =>
  [1002, 1003, 1007, 1008, 1010].includes(code) || (code >= 4400 && code < 4600);

/**
 * Whether the grants have to be renewed before dialling again.
 *
 * @param {number} code
 */
export const wantsRenewal = (code) => code >= 4100 && code < 4200;
