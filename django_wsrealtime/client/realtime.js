/** What pages hold: one connection and everything that is followed over it. */

import { Collection } from "./collection.js";
import { CLOSED, createConnection, IDLE, OPEN, WAITING } from "./connection.js";
import { createEmitter } from "./emitter.js";
import { CROWDED, FATAL, RealtimeError, RENEW } from "./errors.js";
import { follow as followPage, isOffline } from "./lifecycle.js";
import { createSession } from "./session.js";
import { createSubscription } from "./subscription.js";

/** @typedef {import("./session.js").Effects} Effects */

/**
 * @typedef {object} Options
 * @property {string} [path] of the WebSocket, or a URL
 * @property {string} [prefix] where `django_wsrealtime.urls` is included
 * @property {string} [since] the broker time at which the page was rendered
 * @property {string} [token] for clients without a cookie
 */

/** A whisper that would wait behind this many bytes is dropped. */
const WHISPER_BYTES = 65_536;
/** How much later than announced the server's heartbeat may come. */
const GRACE = 10_000;
/** How soon the session is looked at again while something waits in it. */
const SOON = 100;

/** @typedef {ReturnType<typeof createRealtime>} Realtime */

/** @param {Options} [options] */
export const createRealtime = ({
  path = "/realtime/ws/",
  prefix = "/realtime",
  since: rendered,
  token,
} = {}) => {
  const { on, emit } = createEmitter();
  const client = "wsrealtime/0.1.0";
  const tab = crypto.getRandomValues(new Uint32Array(4)).join("-");
  /** @type {Map<string, import("./subscription.js").Subscription>} */
  const subscriptions = new Map();
  /** @type {any} */
  let timer;
  let shown = "";

  /**
   * Tell handlers, and whoever mirrors them.
   *
   * @param {string} name
   * @param {any} [detail]
   */
  const tell = (name, detail) => {
    emit(name, detail);
    emit("*", name, detail);
  };

  /**
   * @param {string} path
   * @param {RequestInit} [init]
   */
  const load = async (path, init) =>
    (await fetch(prefix + path, { signal: AbortSignal.timeout(10_000), ...init })).json();

  /** Exchange the grants for new ones; if they cannot be asked for, the old ones are tried again. */
  const renew = async () => {
    const old = session.grants();
    /** @type {string[] | undefined} */
    let grants;
    try {
      if (old.length) {
        // The token changes when somebody signs in, so it is fetched when it is needed.
        const { token } = await load("/csrf/");
        const headers = { "Content-Type": "application/json", "X-CSRFToken": token };
        const body = JSON.stringify({ grants: old });
        ({ grants } = await load("/renew/", { method: "POST", headers, body }));
      }
    } catch {
      // As when the answer holds none: the server will say what is wrong with the old ones.
    }
    session.renewed(old, grants);
    run();
  };

  /** @type {{ [What in keyof Effects]: (...details: Effects[What]) => void }} */
  const effects = {
    send: (message) => connection.socket()?.send(/** @type {string} */ (message)),
    about(topic, what, ...details) {
      const subscription = /** @type {any} */ (subscriptions.get(topic));
      if (what === "refused") subscriptions.delete(topic);
      subscription?.[what](...details);
    },
    settle([resolve, reject], fault, data) {
      if (fault) reject(new RealtimeError(fault));
      else resolve(data);
    },
    open: ({ user, ping }) => {
      realtime.user = user;
      connection.established(ping + GRACE);
      session.probe();
    },
    pong: (latency) => {
      realtime.latency = latency;
      tell("latency", latency);
    },
    bye: (bye) => connection.farewell(/** @type {any} */ (bye)),
    renew,
    fault: (fault) => tell("error", new RealtimeError(fault)),
  };

  const session = createSession(
    { client, tab, token },
    (what, ...details) => /** @type {any} */ (effects)[what](...details),
    Date.now,
  );

  /**
   * Let the session do what is due, and look at it again while something waits in it.
   *
   * @param {void} [input] what it was told before
   */
  const run = (input) => {
    clearTimeout(timer);
    if (session.tick()) timer = setTimeout(run, SOON);
  };

  const connection = createConnection({
    dial() {
      const url = new URL(path, location.href).href.replace(/^http/, "ws");
      const socket = new WebSocket(url, "wsrealtime.v1.json");
      socket.binaryType = "arraybuffer";
      return socket;
    },
    opened: () => run(session.opened()),
    message: (data) => run(session.receive(data)),
    ping: () => run(session.probe()),
    lost(code, reason, clean, bye) {
      const reconnect = bye?.reconnect ?? !FATAL.test(/** @type {any} */ (code));
      const random = Math.random();
      run(session.dropped(!reconnect, code === 1009));
      tell("close", { code, reason, reconnect });
      if (!reconnect) {
        const fault = { code: "closed", message: `${code} ${reason}` };
        for (const subscription of subscriptions.values()) subscription.refused(fault);
      }
      let told;
      if (bye?.after) told = bye.after * (code === 4012 ? random : 1 + random);
      else if (CROWDED.test(/** @type {any} */ (code))) told = 10_000 + random * 50_000;
      return { stop: !reconnect, told, first: RENEW.test(/** @type {any} */ (code)) ? renew() : undefined };
    },
    noticed: () => {
      const { state } = realtime;
      if (state === shown) return;
      shown = state;
      tell("state", state);
      tell(state);
    },
  });

  /** @type {import("./subscription.js").Wires} */
  const wires = {
    tab,
    session,
    run,
    tell,
    quick: () => realtime.bufferedAmount <= WHISPER_BYTES,
    followed: subscriptions,
  };

  /**
   * @param {string} topic
   * @param {any} user
   * @param {NonNullable<Parameters<import("./session.js").Session["subscribe"]>[1]>} options
   */
  const follow = (topic, user, options) => {
    const subscription = subscriptions.get(topic) ?? createSubscription(wires, topic);
    subscriptions.set(topic, subscription);
    subscription.users.add(user);
    run(session.subscribe(topic, options));
    if (connection.state() === IDLE) connection.open();
    return subscription;
  };

  const realtime = {
    /** Names this page: send it as `X-Realtime-Tab`, and its own echo stays silent. */
    tab,
    on,
    transport: "websocket",
    /** Milliseconds of the last round trip. @type {number | undefined} */
    latency: undefined,
    /** Who the server takes us for; null if anonymous. @type {{ id: string, name: string } | null | undefined} */
    user: undefined,

    /** @returns {"connecting" | "open" | "reconnecting" | "offline" | "closed"} */
    get state() {
      const state = connection.state();
      if (state === OPEN) return "open";
      if (state === CLOSED) return "closed";
      if (state !== WAITING && realtime.user === undefined) return "connecting";
      return state === WAITING && isOffline() ? "offline" : "reconnecting";
    },

    /** As the browser's WebSocket counts: 0 connecting, 1 open, 3 closed. */
    get readyState() {
      const { state } = realtime;
      return state === "open" ? 1 : state === "closed" ? 3 : 0;
    },

    /** Bytes that wait, in our queue and in the browser's. */
    get bufferedAmount() {
      return session.outbox.bytes() + (connection.socket()?.bufferedAmount ?? 0);
    },

    open: connection.open,

    close() {
      connection.close();
      run(session.dropped(true));
    },

    /**
     * Follow a topic from the time the page was rendered.
     *
     * @param {string} topic
     * @param {import("./subscription.js").SubscribeOptions} [options] `since: null`: from now, with
     *   the topic's snapshot
     * @param {any} [user] who needs it
     */
    subscribe: (topic, { grant, since = rendered, position } = {}, user = "page") =>
      follow(topic, user, { grant, position: position ?? (since ? { since } : undefined) }),

    /**
     * The rows of a stream, kept up to date.
     *
     * @param {string} topic
     * @param {{ grant?: string }} [options]
     */
    collection(topic, { grant } = {}) {
      const subscription = follow(topic, "rows", { grant, stateful: true });
      return (subscription.collection ??= new Collection(subscription, () => {
        subscription.collection = undefined;
        subscription.unsubscribe("rows");
      }));
    },
  };

  followPage(connection);
  return realtime;
};
