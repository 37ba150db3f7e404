/** What pages hold: one connection and everything that is followed over it. */

import { Collection } from "./collection.js";
import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import { isFatal, RealtimeError, wantsRenewal } from "./errors.js";
import { isOffline } from "./lifecycle.js";
import { Session } from "./session.js";
import { Subscription } from "./subscription.js";

/** @typedef {import("./session.js").Effect} Effect */
/** @typedef {import("./session.js").Fault} Fault */

/**
 * @typedef {object} Options
 * @property {string} [path] of the WebSocket, or a URL
 * @property {string} [prefix] where `django_wsrealtime.urls` is included
 * @property {string} [since] the broker time at which the page was rendered
 * @property {string} [token] for clients without a cookie
 * @property {typeof WebSocket} [WebSocket]
 */

export const PROTOCOL = "wsrealtime.v1.json";
const CLIENT = "wsrealtime.js/0.1.0";
/** A whisper that would wait behind this many bytes is dropped. */
const WHISPER_BYTES = 65_536;

const randomId = () =>
  [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join("");

/** @param {Fault} fault */
const errorOf = ({ code, message, retry_after }) => new RealtimeError(code, message, retry_after);

export class Realtime extends Emitter {
  /** Names this page: send it as `X-Realtime-Tab`, and its own echo stays silent. */
  tab = randomId();
  /** Milliseconds of the last round trip. */
  latency = /** @type {number | undefined} */ (undefined);
  /** Who the server takes us for; null if anonymous, undefined before the first `open`. */
  user = /** @type {{ id: string, name: string } | null | undefined} */ (undefined);
  transport = "websocket";
  #options;
  #session;
  #connection;
  /** @type {Map<string, Subscription>} */
  #subscriptions = new Map();
  /** @type {Map<string, Collection>} */
  #collections = new Map();
  #timer = /** @type {any} */ (0);
  #keys = 0;
  #wasOpen = false;
  #shown = "";

  /** @param {Options} [options] */
  constructor(options = {}) {
    super();
    this.#options = { path: "/realtime/ws/", prefix: "/realtime", ...options };
    this.#session = new Session({ tab: this.tab, client: CLIENT, token: options.token });
    const now = Date.now;
    this.#connection = new Connection({
      dial: () => {
        const url = new URL(this.#options.path, globalThis.location?.href);
        const Socket = options.WebSocket ?? WebSocket;
        const socket = new Socket(url.href.replace(/^http/, "ws"), [PROTOCOL]);
        socket.binaryType = "arraybuffer";
        return socket;
      },
      opened: () => this.#run(this.#session.opened(now())),
      message: (data) => this.#run(this.#session.receive(data, now())),
      ping: () => this.#run(this.#session.probe(now())),
      lost: (code, reason, bye) => this.#lost(code, reason, bye),
      changed: () => this.#changed(),
      renew: () => this.#renew(),
    });
  }

  /** @returns {"connecting" | "open" | "reconnecting" | "offline" | "closed"} */
  get state() {
    const { state } = this.#connection;
    if (state === "open") return state;
    if (state === "failed" || state === "closed") return "closed";
    if (state === "waiting" || state === "suspended") return isOffline() ? "offline" : "reconnecting";
    return this.#wasOpen ? "reconnecting" : "connecting";
  }

  /** As the browser's WebSocket counts: 0 connecting, 1 open, 3 closed. */
  get readyState() {
    const { state } = this;
    return state === "open" ? 1 : state === "closed" ? 3 : 0;
  }

  /** Bytes that wait, in our queue and in the browser's. */
  get bufferedAmount() {
    return this.#session.queuedBytes + (this.#connection.socket?.bufferedAmount ?? 0);
  }

  open() {
    this.#connection.open();
  }

  close() {
    this.#connection.close();
    this.#run(this.#session.dropped(Date.now(), { code: "closed" }));
  }

  /**
   * Follow a topic from the time the page was rendered.
   *
   * @param {string} topic
   * @param {import("./subscription.js").SubscribeOptions} [options] `since: null`: from now, with
   *   the topic's snapshot
   * @param {any} [user] who needs it
   */
  subscribe(topic, { grant, since = this.#options.since, position } = {}, user = "page") {
    const start = position ?? (since != null ? { since } : undefined);
    return this.#follow(topic, user, { grant, position: start });
  }

  /**
   * The rows of a stream, kept up to date.
   *
   * @param {string} topic
   * @param {{ grant?: string }} [options]
   */
  collection(topic, { grant } = {}) {
    let collection = this.#collections.get(topic);
    if (!collection) {
      const subscription = this.#follow(topic, "rows", { grant, stateful: true });
      collection = new Collection(subscription, () => {
        subscription.collection = undefined;
        this.#collections.delete(topic);
        this.release(subscription, "rows");
      });
      subscription.collection = collection;
      this.#collections.set(topic, collection);
    }
    return collection;
  }

  // --- for subscriptions and elements ---------------------------------------------------------

  newKey() {
    return `${this.tab}-${++this.#keys}`;
  }

  /**
   * @param {Record<string, any> & { topic: string }} frame
   * @param {number} [timeout]
   * @returns {Promise<any>}
   */
  request(frame, timeout) {
    return new Promise((resolve, reject) => {
      if (this.state === "closed") reject(new RealtimeError("closed"));
      else this.#run(this.#session.request(frame, Date.now(), [resolve, reject], timeout));
    });
  }

  /** @param {{ topic: string, event: string, data: any }} frame */
  whisper(frame) {
    if (this.state === "open" && this.bufferedAmount <= WHISPER_BYTES) {
      this.#run(this.#session.whisper(frame));
    }
  }

  /**
   * @param {string} topic
   * @param {Record<string, any>} state
   */
  setPresence(topic, state) {
    this.#run(this.#session.presence(topic, state, Date.now()));
  }

  /**
   * Somebody no longer needs a topic.
   *
   * @param {Subscription} subscription
   * @param {any} user
   */
  release(subscription, user) {
    const { topic, users } = subscription;
    users.delete(user);
    if (users.size || this.#subscriptions.get(topic) !== subscription) return;
    this.#subscriptions.delete(topic);
    this.#run(this.#session.unsubscribe(topic, Date.now()));
  }

  /**
   * Tell handlers, and whoever mirrors them.
   *
   * @param {string} name
   * @param {any} [detail]
   */
  tell(name, detail) {
    this.emit(name, detail);
    this.emit("*", name, detail);
  }

  // --------------------------------------------------------------------------------------------

  /**
   * @param {string} topic
   * @param {any} user
   * @param {Parameters<Session["subscribe"]>[2]} options
   */
  #follow(topic, user, options) {
    let subscription = this.#subscriptions.get(topic);
    if (!subscription) {
      subscription = new Subscription(this, topic);
      this.#subscriptions.set(topic, subscription);
    }
    subscription.users.add(user);
    this.#run(this.#session.subscribe(topic, Date.now(), options));
    if (this.#connection.state === "idle") this.open();
    return subscription;
  }

  /** @param {Effect[]} effects */
  #run(effects) {
    for (const effect of effects) {
      const subscription = this.#subscriptions.get(/** @type {string} */ (effect[1]));
      switch (effect[0]) {
        case "send":
          this.#connection.socket?.send(/** @type {string} */ (effect[1]));
          break;
        case "open":
          this.user = effect[1].user;
          this.#connection.silence = (effect[1].ping || 25_000) + 10_000;
          this.#wasOpen = true;
          this.#connection.established();
          this.#run(this.#session.probe(Date.now()));
          break;
        case "ready":
          subscription?.joined();
          break;
        case "event":
          subscription?.event(effect[2]);
          break;
        case "snapshot":
        case "reset":
          subscription?.snapshot(effect[2], effect[3], effect[4]);
          break;
        case "presence":
          subscription?.presence.apply(effect[2]);
          break;
        case "end":
          this.#subscriptions.delete(effect[1]);
          this.#collections.delete(effect[1]);
          subscription?.refused(errorOf(effect[2]));
          break;
        case "fault": {
          const error = errorOf(effect[2]);
          subscription?.emit("error", error);
          this.tell("error", error);
          break;
        }
        case "settle": {
          const [, [resolve, reject], fault, data] = effect;
          if (fault) reject(errorOf(fault));
          else resolve(data);
          break;
        }
        case "renew":
          this.#renew();
          break;
        case "pong":
          this.latency = effect[1];
          this.tell("latency", effect[1]);
          break;
        case "bye":
          this.#connection.bye = /** @type {any} */ (effect[1]);
      }
    }
    clearTimeout(this.#timer);
    const now = Date.now();
    const next = this.#session.next(now);
    if (next < Infinity) {
      this.#timer = setTimeout(() => this.#run(this.#session.tick(Date.now())), next - now);
    }
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {import("./connection.js").Bye} [bye]
   * @returns {import("./connection.js").Verdict}
   */
  #lost(code, reason, bye) {
    const stop = bye?.reconnect === undefined ? isFatal(code) : !bye.reconnect;
    const fault = stop ? { code: "closed", message: `${code} ${reason}` } : undefined;
    const refused = code === 1009 ? { code: "too_large" } : undefined;
    this.#run(this.#session.dropped(Date.now(), fault, refused));
    this.tell("close", { code, reason, reconnect: !stop });
    if (fault) {
      const error = errorOf(fault);
      this.tell("error", error);
      for (const subscription of this.#subscriptions.values()) subscription.refused(error);
    }
    let delay = bye?.after;
    if (delay) delay *= code === 4012 ? Math.random() : 1 + Math.random();
    else if ([1013, 4013, 4029].includes(code)) delay = 10_000 + Math.random() * 50_000;
    return { stop, renew: wantsRenewal(code), delay: delay || undefined };
  }

  #changed() {
    const { state } = this;
    if (state === this.#shown) return;
    this.#shown = state;
    this.tell("state", state);
    if (state === "open" || state === "reconnecting") this.tell(state);
  }

  /** Exchange the grants for new ones; those that cannot be asked for stay. */
  async #renew() {
    const grants = this.#session.grants();
    /** @type {Record<string, string | null>} */
    const renewed = {};
    if (grants.length) {
      try {
        const answer = await this.#post("/renew/", { grants: grants.map(({ grant }) => grant) });
        grants.forEach(({ name }, index) => (renewed[name] = answer.grants[index]));
      } catch {
        this.tell("error", new RealtimeError("unavailable", "Grants could not be renewed."));
      }
    }
    this.#run(this.#session.renewed(renewed, Date.now()));
  }

  /**
   * @param {string} path
   * @param {any} body
   */
  async #post(path, body) {
    // The token changes when somebody signs in, so it is fetched when it is needed.
    const { token } = await this.#fetch("/csrf/");
    return this.#fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token },
      body: JSON.stringify(body),
    });
  }

  /**
   * @param {string} path
   * @param {RequestInit} [init]
   */
  async #fetch(path, init) {
    const signal = AbortSignal.timeout?.(10_000);
    const response = await fetch(this.#options.prefix + path, { ...init, signal });
    if (!response.ok) throw response;
    return response.json();
  }
}
