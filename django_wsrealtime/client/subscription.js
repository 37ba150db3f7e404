/** One topic as the page follows it. */

import { RealtimeError } from "./errors.js";
import { Emitter } from "./emitter.js";
import { Presence } from "./presence.js";

/** @typedef {import("./session.js").Frame} Frame */
/** @typedef {{ grant?: string, since?: string | null, position?: { epoch: string, offset: number } }} SubscribeOptions */

/**
 * What comes with an event besides its data.
 *
 * @typedef {object} Meta
 * @property {string} topic
 * @property {string} event
 * @property {"row" | "html" | "metric" | "app" | "client" | "whisper"} kind who made it; set by the server
 * @property {string} [epoch]
 * @property {number} [offset]
 * @property {number} [time] microseconds of the broker's clock
 * @property {{ id: string, name: string }} [from] the member who published it
 * @property {string} [key]
 */

/** What no event of the application may be taken for. */
const OURS = ["*", "reset", "snapshot", "error"];

export class Subscription extends Emitter {
  /** Who needs this topic: the page, a collection, elements. */
  users = new Set();
  /** Sees every event, kind and key included, before the page does. */
  collection = /** @type {import("./collection.js").Collection | undefined} */ (undefined);
  presence;
  /** Resolves when the server has taken the subscription, rejects when it refuses. */
  ready;
  #settle = /** @type {[(value: any) => void, (error: any) => void]} */ (/** @type {any} */ ([]));
  #realtime;

  /**
   * @param {import("./realtime.js").Realtime} realtime
   * @param {string} topic
   */
  constructor(realtime, topic) {
    super();
    this.#realtime = realtime;
    this.topic = topic;
    this.presence = new Presence((state) => realtime.setPresence(topic, state));
    this.ready = new Promise((...settle) => (this.#settle = settle));
    this.ready.catch(() => {});
  }

  /**
   * Run an `@action`.
   *
   * @param {string} action
   * @param {any} [data] its arguments by name
   * @param {{ timeout?: number, key?: string }} [options] milliseconds; with `key` the call is
   *   repeated after a lost connection
   * @returns {Promise<any>} rejects with a RealtimeError
   */
  call(action, data = {}, { timeout, key } = {}) {
    return this.#request({ type: "call", action, data, key }, timeout);
  }

  /**
   * @param {string} event
   * @param {any} [data]
   * @param {{ timeout?: number, key?: string }} [options] the key is what makes repeating harmless
   * @returns {Promise<any>} rejects with a RealtimeError
   */
  publish(event, data = null, { timeout, key = this.#realtime.newKey() } = {}) {
    return this.#request({ type: "publish", event, data, key }, timeout);
  }

  /**
   * @param {string} event
   * @param {ArrayBuffer | Blob | ArrayBufferView<ArrayBuffer>} data
   * @param {{ timeout?: number }} [options]
   * @returns {Promise<any>} rejects with a RealtimeError
   */
  async publishBytes(event, data, { timeout } = {}) {
    const payload = await new Response(data).arrayBuffer();
    return this.#request({ type: "publish", event, payload }, timeout);
  }

  /**
   * Tell the members something that may get lost; dropped unless the connection is open and quick.
   *
   * @param {string} event
   * @param {any} [data]
   */
  whisper(event, data = {}) {
    this.#realtime.whisper({ topic: this.topic, event, data });
  }

  /** The page no longer follows this topic. */
  unsubscribe() {
    super.clear();
    this.presence.clear();
    this.#realtime.release(this, "page");
  }

  /** @param {Frame} frame */
  event(frame) {
    const { type, data, origin, ...meta } = frame;
    this.collection?.event(frame);
    // What this very page caused it knows already.
    if (origin === this.#realtime.tab) return;
    this.#realtime.tell("event", { ...meta, data });
    if (!OURS.includes(frame.event)) this.emit(frame.event, data, meta);
    this.emit("*", data, meta);
  }

  /**
   * @param {Frame} frame
   * @param {any} snapshot
   * @param {string} [reason] why it replaces what was there
   */
  snapshot(frame, snapshot, reason) {
    this.collection?.replace(frame, snapshot);
    const { topic, epoch, offset } = frame;
    const detail = { topic, epoch, offset, reason, snapshot };
    if (reason) {
      this.#realtime.tell("reset", detail);
      this.emit("reset", detail);
    } else if (snapshot != null) this.emit("snapshot", snapshot, detail);
  }

  joined() {
    this.#settle[0](this);
  }

  /** @param {RealtimeError} error */
  refused(error) {
    this.#settle[1](error);
    this.emit("error", error);
  }

  /**
   * @param {Record<string, any>} frame
   * @param {number} [timeout]
   */
  #request(frame, timeout) {
    return this.#realtime.request({ topic: this.topic, ...frame }, timeout);
  }
}
