/** What `wsrealtime.js` gives to pages. */

import { start } from "./page.js";
import { createRealtime } from "./realtime.js";

export { RealtimeError } from "./errors.js";

/** A connection of one's own. */
export class Realtime {
  /** @param {import("./realtime.js").Options} [options] */
  constructor(options) {
    return createRealtime(options);
  }
}

export const realtime = start();
