/** Calls and publishes until they are answered; those that wait are bounded in number and bytes. */

const MOST = 256;
const MOST_BYTES = 65_536;
/** How long a request may wait unsent, and by default for its answer; milliseconds. */
export const PATIENCE = 60_000;

/** @typedef {{ code: string, message?: string, retry_after?: number }} Fault */

/**
 * @typedef {object} Request
 * @property {number} id
 * @property {string} topic
 * @property {string | Blob} message as it goes over the wire
 * @property {number} size in bytes
 * @property {boolean} repeatable whether sending it twice is harmless
 * @property {number} since when it was asked for
 * @property {number} by when it is given up, in ms since 1970
 * @property {boolean} [sent]
 * @property {any} tag the asker's own
 */

/** @param {(tag: any, fault?: Fault, data?: any) => void} settle */
export const createOutbox = (settle) => {
  /** In the order of asking. @type {Set<Request>} */
  const requests = new Set();

  /**
   * @param {Request} request
   * @param {Fault} [fault]
   * @param {any} [data]
   */
  const end = (request, fault, data) => {
    requests.delete(request);
    settle(request.tag, fault, data);
  };

  /**
   * @param {Request} request
   * @param {string} code
   */
  const fail = (request, code) => end(request, { code });

  const unsent = () => [...requests].filter(({ sent }) => !sent);

  const bytes = () => unsent().reduce((sum, { size }) => sum + size, 0);

  return {
    requests,
    end,
    bytes,

    /**
     * Take it in, or refuse it where there is no room.
     *
     * @param {Request} request
     * @param {number} limit bytes that the server reads
     */
    add(request, limit) {
      requests.add(request);
      if (request.size > limit) fail(request, "too_large");
      else if (unsent().length > MOST || bytes() > MOST_BYTES) fail(request, "overflow");
    },

    /** @param {number} now */
    expire(now) {
      for (const request of requests) {
        const { sent, by, since } = request;
        if (now >= (sent ? by : Math.min(by, since + PATIENCE))) {
          fail(request, sent ? "unknown_outcome" : "timeout");
        }
      }
    },

    /**
     * The connection is gone: what is harmless to repeat waits for the next one.
     *
     * @param {boolean} [stop] there is none
     * @param {boolean} [once] nothing is repeated
     */
    drop(stop, once) {
      for (const request of requests) {
        if (request.sent && (stop || once || !request.repeatable)) fail(request, "unknown_outcome");
        else if (stop) fail(request, "closed");
        else request.sent = false;
      }
    },
  };
};
