/** Checked by `npm run check`, never built: the declarations that we ship are true of the sources. */

import * as sources from "../index.js";
import { ReconnectingWebSocket } from "../websocket.js";
import type * as shipped from "./wsrealtime.js";
import type * as shippedSocket from "./websocket.js";

const instance: Omit<shipped.Realtime, "collection"> = sources.realtime;
const rows: shipped.Collection = sources.realtime.collection("orders/7");
const error: shipped.RealtimeError = new sources.RealtimeError({ code: "timeout" });
const socket: shippedSocket.ReconnectingWebSocket = new ReconnectingWebSocket("/ws/");
const Socket: typeof shippedSocket.ReconnectingWebSocket = ReconnectingWebSocket;
/** And a drop-in is one: whatever takes a WebSocket's parts takes ours. */
const dropIn: Pick<
  WebSocket,
  "readyState" | "bufferedAmount" | "binaryType" | "url" | "protocol" | "extensions"
> & { send(data: string): void; close(code?: number, reason?: string): void } = socket;

export { dropIn, error, instance, rows, socket, Socket };
