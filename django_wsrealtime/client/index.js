/** What `wsrealtime.js` gives to pages. */

import { start } from "./page.js";

export { Collection } from "./collection.js";
export { Presence } from "./presence.js";
export { RealtimeError } from "./errors.js";
export { Realtime } from "./realtime.js";
export { Subscription } from "./subscription.js";

export const realtime = start();
