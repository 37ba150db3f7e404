/** One topic as the page follows it. */

import { RealtimeError } from "./errors.js";
import { createEmitter } from "./emitter.js";
import { createPresence } from "./presence.js";

/** @typedef {import("./topic.js").Frame} Frame */
/** @typedef {import("./outbox.js").Fault} Fault */
/** @typedef {{ grant?: string, since?: string | null, position?: { epoch: string, offset: number } }} SubscribeOptions */
/** @typedef {{ timeout?: number, key?: string }} RequestOptions milliseconds; what makes repeating harmless */
/** @typedef {ReturnType<typeof createSubscription>} Subscription */

/**
 * What a subscription needs of the page's instance that it belongs to.
 *
 * @typedef {object} Wires
 * @property {string} tab
 * @property {import("./session.js").Session} session
 * @property {(input: void) => void} run carries out what the session wants after it was told something
 * @property {(name: string, detail: any) => void} tell
 * @property {() => boolean} quick whether what is sent now goes out at once
 * @property {Map<string, any>} followed subscriptions by topic
 */

/** What no event of the application may be taken for. */
const OURS = ["*", "reset", "snapshot", "error"];

/**
 * @param {Wires} wires
 * @param {string} topic
 */
export const createSubscription = ({ tab, session, run, tell, quick, followed }, topic) => {
  const { on, emit } = createEmitter();
  /** Who needs this topic: the page, a collection, elements. */
  const users = new Set();
  const presence = createPresence((state) => run(session.presence(topic, state)));
  /** @type {((value: any) => void)[]} */
  let settle = [];
  const ready = new Promise((...both) => (settle = both));
  ready.catch(() => {});

  /**
   * @param {Record<string, any>} frame
   * @param {RequestOptions} [options]
   * @returns {Promise<any>}
   */
  const request = (frame, { timeout, key } = {}) =>
    new Promise((...settle) => run(session.request({ topic, key, ...frame }, settle, timeout)));

  /** @param {Fault} fault */
  const fault = (fault) => {
    const error = new RealtimeError(fault);
    emit("error", error);
    tell("error", error);
    return error;
  };

  const subscription = {
    topic,
    on,
    users,
    presence,
    /** Sees every event before the page does. @type {import("./collection.js").Collection | undefined} */
    collection: undefined,

    /** Resolves when the server has taken the subscription, rejects when it refuses. */
    ready,

    /**
     * Run an `@action`; with `key` the call is repeated after a lost connection.
     *
     * @param {string} action
     * @param {any} [data] its arguments by name
     * @param {RequestOptions} [options]
     * @returns {Promise<any>} rejects with a RealtimeError
     */
    call: (action, data = {}, options) => request({ type: "call", action, data }, options),

    /**
     * @param {string} event
     * @param {any} [data]
     * @param {RequestOptions} [options]
     * @returns {Promise<any>} rejects with a RealtimeError
     */
    publish: (event, data = null, options) => request({ type: "publish", event, data }, options),

    /**
     * @param {string} event
     * @param {ArrayBuffer | Blob | ArrayBufferView<ArrayBuffer>} payload
     * @param {RequestOptions} [options]
     * @returns {Promise<any>} rejects with a RealtimeError
     */
    publishBytes: (event, payload, options) =>
      request({ type: "publish", event, payload }, options),

    /**
     * Tell the members something that may get lost; dropped unless the connection is open and quick.
     *
     * @param {string} event
     * @param {any} [data]
     */
    whisper(event, data = {}) {
      if (quick()) run(session.whisper({ topic, event, data }));
    },

    /**
     * The page no longer follows this topic; its handlers hear nothing more.
     *
     * @param {any} [user] somebody else who no longer does
     */
    unsubscribe(user = "page") {
      users.delete(user);
      // Unless the server ended it, and this is what is left of it.
      if (users.size || followed.get(topic) !== subscription) return;
      followed.delete(topic);
      run(session.unsubscribe(topic));
    },

    // --- what the session tells ---------------------------------------------------------------

    joined: settle[0],

    /** @param {Frame} frame */
    event(frame) {
      subscription.collection?.event(frame);
      const { event, data } = frame;
      // What this very page caused it knows already.
      if (frame.origin === tab) return;
      tell("event", frame);
      if (!users.has("page")) return;
      if (!OURS.includes(event)) emit(event, data, frame);
      emit("*", data, frame);
    },

    /**
     * @param {Frame} frame
     * @param {any} snapshot
     * @param {string} [reason] why it replaces what was there
     */
    snapshot(frame, snapshot, reason) {
      const detail = /** @type {any} */ ({ ...frame, reason, snapshot });
      subscription.collection?.reload(detail);
      if (reason) {
        tell("reset", detail);
        emit("reset", detail);
      } else if (snapshot) emit("snapshot", snapshot, detail);
    },

    members: presence.apply,
    fault,

    /** @param {Fault} refusal */
    refused: (refusal) => settle[1](fault(refusal)),
  };
  return subscription;
};
