/** What waits to be sent, bounded in number and bytes: what does not fit is refused at once. */

const MOST = 256;
const MOST_BYTES = 65_536;

/**
 * A call or publish on its way. The session knows when it may be sent again and when it is late.
 *
 * @typedef {object} Request
 * @property {number} id
 * @property {string} topic
 * @property {string | Uint8Array} message as it goes over the wire
 * @property {number} size in bytes
 * @property {boolean} repeatable whether sending it twice is harmless
 * @property {number} by when it is given up, in ms since 1970
 * @property {number} since when it was asked for
 * @property {any} tag the asker's own
 */

export class Outbox {
  /** @type {Request[]} */
  requests = [];
  bytes = 0;

  /**
   * @param {Request} request
   * @returns {boolean} whether there was room
   */
  add(request) {
    if (this.requests.length >= MOST || this.bytes + request.size > MOST_BYTES) {
      return false;
    }
    this.bytes += request.size;
    this.requests.push(request);
    return true;
  }

  /**
   * Take out what passes the test, oldest first.
   *
   * @param {(request: Request) => boolean} test
   * @returns {Request[]}
   */
  take(test) {
    /** @type {Request[]} */
    const taken = [];
    this.requests = this.requests.filter((request) => {
      if (!test(request)) return true;
      this.bytes -= request.size;
      taken.push(request);
      return false;
    });
    return taken;
  }
}
