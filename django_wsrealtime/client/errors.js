/**
 * What can go wrong: the error that pages see, and what each close code asks for.
 *
 * The codes are those of the server's `errors.py`; the client adds `timeout`, `unknown_outcome`,
 * `overflow` and `closed`.
 */

/** Rejects calls and publishes, refuses subscriptions, and is the payload of `error` events. */
export class RealtimeError extends Error {
  name = "RealtimeError";

  /** @param {{ code: string, message?: string, retry_after?: number }} fault as in an `error` frame */
  constructor({ code, message = code, retry_after }) {
    super(message);
    /** One of the catalogue, or the application's own. */
    this.code = code;
    /** Milliseconds until trying again may succeed. */
    this.retryAfter = retry_after;
  }
}

/*
 * Close codes: RFC 6455 section 7.4, and the table in `docs/reference/frames.md`.
 */

/** Dialling again cannot help: a bug, a policy, a refusal. */
export const FATAL = /^(100[2378]|1010|4[45]..)$/;
/** The server has too much to do. */
export const CROWDED = /^(1013|4013|4029)$/;
/** The grants have to be renewed before dialling again. */
export const RENEW = /^41..$/;
