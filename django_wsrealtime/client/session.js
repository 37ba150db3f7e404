/**
 * The protocol as a pure state machine: frames, wishes and the clock in, effects out.
 *
 * The mirror of the server's `protocol/session.py`; both replay `tests/transcripts/*.json`. No DOM,
 * no timers, no sockets in here: whoever drives it carries out the effects and calls `tick` when
 * `next` says so. Times are milliseconds since 1970.
 */

import { decodeEvent, encodePublish } from "./binary.js";
import { Outbox } from "./outbox.js";

/** @typedef {Record<string, any> & { type: string }} Frame */
/** @typedef {{ epoch?: string, offset?: number, since?: string | number }} Position */
/** @typedef {{ code: string, message?: string, retry_after?: number }} Fault */

/**
 * What the driver has to do. `topic` names the subscription that is meant.
 *
 * @typedef {["send", string | Uint8Array]
 *   | ["open", Frame]
 *   | ["ready", string]
 *   | ["event", string, Frame]
 *   | ["snapshot", string, Frame, any]
 *   | ["reset", string, Frame, any, string]
 *   | ["presence", string, Frame]
 *   | ["end", string, Fault]
 *   | ["fault", string | undefined, Fault]
 *   | ["settle", any, Fault | undefined, any]
 *   | ["renew"]
 *   | ["pong", number]
 *   | ["bye", Frame]} Effect
 */

/** The server has not been asked yet, or not again. */
const IDLE = 0;
/** Asked; the answer is on its way. */
const JOINING = 1;
const LIVE = 2;

/** Events held back at most while a snapshot is incomplete. */
const MOST_HELD = 1000;
/** How long an unsent request may wait, and the default patience with the server's answer. */
const PATIENCE = 60_000;
/** `hello` leaves out what would make it larger than servers read; the rest follows one by one. */
const MOST_HELLO = 32_000;

/** What is known of one topic. */
class Topic {
  phase = IDLE;
  /** The `id` of the `subscribe` that is being answered; undefined if `hello` asked. */
  id = /** @type {number | null | undefined} */ (null);
  /** When to ask. */
  due = 0;
  /** After which event we stand; undefined: from now. */
  pos = /** @type {Position | undefined} */ (undefined);
  grant = /** @type {string | undefined} */ (undefined);
  /** Whether a new grant was asked for since the last success. */
  renewed = false;
  /** Whether its followers live on snapshots, so that stale state is replaced by asking for one. */
  stateful = false;
  /** Whether the next question goes without a position, to be answered with a snapshot. */
  wants = false;
  /** The frame that began the snapshot being received, and its items so far. */
  head = /** @type {Frame | undefined} */ (undefined);
  parts = /** @type {any} */ (undefined);
  more = false;
  /** Why the snapshot replaces what was there; undefined for a starting state. */
  reason = /** @type {string | undefined} */ (undefined);
  /** When to tell of a reset that the server asked to spread. */
  release = Infinity;
  /** Events that wait for the snapshot or the reset before them. */
  held = /** @type {Frame[] | undefined} */ (undefined);
  /** Keys of the snapshot's items: their events are not shown twice. */
  seen = new Set();
  /** This member's presence, and whether the server has yet to hear of it. */
  state = /** @type {any} */ (undefined);
  stateDirty = false;
  stateId = 0;
  /** The number of the last presence frame. */
  seq = /** @type {number | undefined} */ (undefined);
}

export class Session {
  /** Whether `welcome` has come on the present connection. */
  live = false;
  /** @type {Map<string, Topic>} */
  #topics = new Map();
  /** Topics that the server has yet to hear that we left them. */
  #left = /** @type {Set<string>} */ (new Set());
  #outbox = new Outbox();
  /** @type {Map<string, import("./outbox.js").Request>} */
  #sent = new Map();
  /** @type {Effect[]} */
  #effects = [];
  #lastId = 0;
  #hello;
  #random;
  #limits = /** @type {Record<string, number>} */ ({});
  #tokens = 0;
  #refilled = 0;
  #presenceAt = 0;

  /**
   * @param {object} options
   * @param {string} options.tab random id of this page, the `origin` of what it causes
   * @param {string} [options.client] name/version
   * @param {string} [options.token] for native clients without a cookie
   * @param {() => number} [options.random]
   */
  constructor({ tab, client, token, random = Math.random }) {
    this.#hello = { type: "hello", v: 1, client, tab, token };
    this.#random = random;
  }

  get queuedBytes() {
    return this.#outbox.bytes;
  }

  // --- the connection -------------------------------------------------------------------------

  /**
   * The socket is open: say hello and rejoin everything in one round trip.
   *
   * @param {number} now
   */
  opened(now) {
    const subscriptions = [];
    let size = 0;
    for (const [name, topic] of this.#topics) {
      const entry = this.#question(name, topic);
      size += JSON.stringify(entry).length;
      if (topic.due > now || size > MOST_HELLO) continue;
      subscriptions.push(entry);
      topic.phase = JOINING;
      topic.id = undefined;
    }
    this.#send({ ...this.#hello, subscriptions });
    return this.#done();
  }

  /**
   * The connection is gone. What may be repeated waits for the next one.
   *
   * @param {number} now
   * @param {Fault} [fault] stops instead: nothing is kept waiting
   * @param {Fault} [refused] what was sent last must not be sent again
   */
  dropped(now, fault, refused) {
    this.live = false;
    this.#left.clear();
    for (const topic of this.#topics.values()) {
      if (topic.phase !== IDLE) this.#ask(topic, now);
      topic.seq = undefined;
      if (topic.more) {
        // Half a snapshot is none. Held events survive beside a starting state, whose followers
        // keep their place; a reset begins anew.
        topic.more = false;
        topic.wants = true;
        if (topic.reason) topic.pos = topic.held = undefined;
      }
    }
    const sent = [...this.#sent.values()];
    const queued = this.#outbox.take(() => true);
    this.#sent.clear();
    for (const request of sent) {
      if (refused || fault || !request.repeatable) {
        this.#settle(request, refused ?? { code: "unknown_outcome" });
      } else this.#queue(request);
    }
    for (const request of queued) {
      if (fault) this.#settle(request, fault);
      else this.#queue(request);
    }
    return this.#done();
  }

  /**
   * A message came.
   *
   * @param {string | ArrayBuffer} message
   * @param {number} now
   */
  receive(message, now) {
    if (typeof message !== "string") {
      const frame = decodeEvent(message);
      if (frame) this.#frame(frame, now);
    } else {
      for (const line of message.split("\n")) {
        if (line.trim()) this.#line(line, now);
      }
    }
    this.#pump(now);
    return this.#done();
  }

  /**
   * Time went by.
   *
   * @param {number} now
   */
  tick(now) {
    for (const request of this.#sent.values()) {
      if (now >= request.by) {
        this.#sent.delete(`${request.id}`);
        this.#settle(request, { code: "unknown_outcome" });
      }
    }
    for (const late of this.#outbox.take((request) => now >= unsentBy(request))) {
      this.#settle(late, { code: "timeout" });
    }
    for (const [name, topic] of this.#topics) {
      if (now >= topic.release) this.#finish(name, topic);
    }
    this.#pump(now);
    return this.#done();
  }

  /**
   * When `tick` has something to do.
   *
   * @param {number} now
   * @returns {number} Infinity if never
   */
  next(now) {
    let next = Infinity;
    const at = (/** @type {number} */ time) => {
      next = Math.min(next, time);
    };
    for (const request of this.#sent.values()) at(request.by);
    for (const request of this.#outbox.requests) at(unsentBy(request));
    const turn = now + Math.max(0, 1 - this.#tokens) * this.#pause;
    for (const topic of this.#topics.values()) {
      at(topic.release);
      if (!this.live) continue;
      if (topic.phase === IDLE) at(Math.max(topic.due, turn));
      if (topic.phase === LIVE && topic.stateDirty) at(this.#presenceAt);
    }
    if (this.live && (this.#left.size || this.#outbox.requests.some((request) => this.#free(request)))) {
      at(turn);
    }
    return next;
  }

  // --- what the page wishes -------------------------------------------------------------------

  /**
   * Follow a topic. A second wish for the same topic adds to the first.
   *
   * @param {string} name
   * @param {number} now
   * @param {{ grant?: string, position?: Position, stateful?: boolean }} [options] `stateful`: the
   *   follower needs a snapshot to begin with
   */
  subscribe(name, now, { grant, position, stateful } = {}) {
    this.#left.delete(name);
    let topic = this.#topics.get(name);
    if (!topic) this.#topics.set(name, (topic = new Topic()));
    else if (stateful && !topic.stateful) {
      // Events wait, so that their followers and the snapshot's meet at one place.
      topic.held ??= [];
      this.#ask(topic, now);
    }
    topic.pos ??= position;
    topic.grant = grant ?? topic.grant;
    if (stateful && !topic.stateful) topic.stateful = topic.wants = true;
    this.#pump(now);
    return this.#done();
  }

  /**
   * @param {string} name
   * @param {number} now
   */
  unsubscribe(name, now) {
    if (this.#topics.delete(name) && this.live) this.#left.add(name);
    this.#pump(now);
    return this.#done();
  }

  /**
   * Send a `call` or `publish`, now or when it is possible; `settle` tells how it ended.
   *
   * @param {Record<string, any> & { topic: string }} frame without `id`; a `payload` (ArrayBuffer)
   *   makes it a binary publish
   * @param {number} now
   * @param {any} tag comes back with `settle`
   * @param {number} [timeout] milliseconds
   */
  request({ payload, ...frame }, now, tag, timeout = PATIENCE) {
    const id = ++this.#lastId;
    const message = payload
      ? encodePublish(frame.topic, id, frame.event, payload)
      : JSON.stringify({ ...frame, id });
    const size = sizeOf(message);
    const request = {
      id,
      topic: frame.topic,
      message,
      size,
      repeatable: frame.key != null,
      by: now + timeout,
      since: now,
      tag,
    };
    if (this.#tooLarge(size)) this.#settle(request, { code: "too_large" });
    else this.#queue(request);
    this.#pump(now);
    return this.#done();
  }

  /**
   * Tell the other members something that may get lost.
   *
   * @param {{ topic: string, event: string, data: any }} frame
   */
  whisper(frame) {
    if (this.#topics.get(frame.topic)?.phase === LIVE) this.#send({ type: "whisper", ...frame });
    return this.#done();
  }

  /**
   * Set this member's presence; the latest state is what counts, also after a reconnect.
   *
   * @param {string} name
   * @param {any} state
   * @param {number} now
   */
  presence(name, state, now) {
    const topic = this.#topics.get(name);
    if (topic) {
      topic.state = state;
      topic.stateDirty = true;
    }
    this.#pump(now);
    return this.#done();
  }

  /**
   * Ask whether the link lives.
   *
   * @param {number} now
   */
  probe(now) {
    this.#send({ type: "ping", ts: now });
    return this.#done();
  }

  /** What has to be renewed: the grants with their topics. */
  grants() {
    return [...this.#topics].flatMap(([name, { grant }]) => (grant ? [{ name, grant }] : []));
  }

  /**
   * New grants came; null where one was refused.
   *
   * @param {Record<string, string | null>} grants by topic
   * @param {number} now
   */
  renewed(grants, now) {
    for (const [name, topic] of this.#topics) {
      if (name in grants) topic.grant = grants[name] ?? undefined;
      if (topic.due === Infinity) topic.due = now;
    }
    this.#pump(now);
    return this.#done();
  }

  // --- frames ---------------------------------------------------------------------------------

  /**
   * @param {string} line
   * @param {number} now
   */
  #line(line, now) {
    let frame;
    try {
      frame = JSON.parse(line);
    } catch {
      frame = undefined;
    }
    if (frame?.type) this.#frame(frame, now);
    else this.#effects.push(["fault", undefined, { code: "bad_message" }]);
  }

  /**
   * @param {Frame} frame
   * @param {number} now
   */
  #frame(frame, now) {
    const name = frame.topic;
    const topic = this.#topics.get(name);
    switch (frame.type) {
      case "welcome":
        this.live = true;
        this.#limits = frame.limits ?? {};
        this.#tokens = this.#burst;
        this.#refilled = now;
        this.#effects.push(["open", frame]);
        break;
      case "subscribed":
        if (topic) this.#subscribed(name, topic, frame, now);
        break;
      case "snapshot":
        if (topic?.more) {
          for (const [list, items] of Object.entries(frame.items)) {
            (topic.parts[list] ??= []).push(...items);
          }
          if (!frame.more) this.#finish(name, topic);
        }
        break;
      case "event":
        if (topic) this.#event(name, topic, frame, now);
        break;
      case "reset":
        if (topic) this.#replace(name, topic, frame, frame.reason, now);
        break;
      case "whisper":
        if (topic) this.#effects.push(["event", name, { ...frame, kind: "whisper" }]);
        break;
      case "presence":
        if (topic) this.#presence(name, topic, frame, now);
        break;
      case "ok":
      case "error":
        this.#answer(frame, now);
        break;
      case "mark":
        this.#send({ type: "ack", n: frame.n });
        break;
      case "ping":
        this.#send({ type: "pong", ts: frame.ts });
        break;
      case "pong":
        if (frame.ts) this.#effects.push(["pong", now - frame.ts]);
        break;
      case "bye":
        this.#effects.push(["bye", frame]);
    }
  }

  /**
   * @param {string} name
   * @param {Topic} topic
   * @param {Frame} frame
   * @param {number} now
   */
  #subscribed(name, topic, frame, now) {
    const asked = topic.phase === JOINING;
    // The answer to an older question would skip what this one asks for; a catch-up that the
    // server starts has no id and means only topics that are live.
    if (asked ? frame.id !== topic.id : topic.phase !== LIVE || frame.id != null) return;
    topic.phase = LIVE;
    topic.renewed = false;
    topic.stateDirty ||= topic.state !== undefined;
    if (asked) this.#effects.push(["ready", name]);
    const old = topic.pos;
    const foreign = old?.epoch != null && old.epoch !== frame.epoch;
    if (frame.recovered) {
      for (const event of frame.events ?? []) {
        this.#event(name, topic, { epoch: frame.epoch, ...event }, now, true);
      }
      if (!isBehind(frame, topic.pos)) topic.pos = placeOf(frame);
    } else if (asked && frame.recovered == null && !foreign) {
      if (!old) topic.pos = placeOf(frame);
      this.#begin(name, topic, frame, topic.reason);
      // The snapshot is for those who had none. Who followed before keeps the place and gets what
      // lies between, unless there is nothing.
      if (old && !((old.offset ?? -1) >= frame.offset)) this.#ask(topic, now);
    } else {
      this.#replace(name, topic, frame, frame.reason ?? (foreign ? "epoch" : "trimmed"), now);
    }
  }

  /**
   * Apply an event once, in order; ask again where one is missing.
   *
   * @param {string} name
   * @param {Topic} topic
   * @param {Frame} frame
   * @param {number} now
   * @param {boolean} [replayed] gaps are none
   */
  #event(name, topic, frame, now, replayed) {
    const { epoch, offset } = frame;
    if (offset) {
      const at = topic.pos?.epoch === epoch ? /** @type {number} */ (topic.pos?.offset) : NaN;
      if (offset <= at) return;
      if (!replayed && offset !== at + 1) {
        // While a question is open its answer will hold this event.
        if (topic.phase === LIVE) this.#ask(topic, now);
        return;
      }
      topic.pos = placeOf(frame);
    } else if (topic.phase !== LIVE) return; // in no log, and nobody is subscribed yet
    if (!topic.held) this.#show(name, topic, frame);
    else if (topic.held.push(frame) > MOST_HELD) {
      this.#refetch(topic, "lagging", now);
    }
  }

  /**
   * @param {string} name
   * @param {Topic} topic
   * @param {Frame} frame
   */
  #show(name, topic, frame) {
    // A row's key names the row, which goes on changing; a message's key names the message.
    const twice = /app|client/.test(frame.kind) && topic.seen.has(frame.key ?? NaN);
    if (!twice) this.#effects.push(["event", name, frame]);
  }

  /**
   * What followers hold is stale.
   *
   * @param {string} name
   * @param {Topic} topic
   * @param {Frame} frame
   * @param {string} reason
   * @param {number} now
   */
  #replace(name, topic, frame, reason, now) {
    const due = now + (frame.after ?? 0) * this.#random();
    const given = frame.snapshot != null;
    if (reason === "revoked" && !given) {
      this.#topics.delete(name);
      this.#effects.push(["reset", name, frame, undefined, reason], ["end", name, { code: reason }]);
    } else if (topic.stateful && !given) {
      this.#refetch(topic, reason, due);
    } else {
      topic.pos = placeOf(frame);
      topic.held = undefined;
      if (!given && due > now) {
        topic.held = [];
        topic.head = frame;
        topic.parts = undefined;
        topic.reason = reason;
        topic.release = due;
      } else this.#begin(name, topic, frame, reason);
    }
  }

  /**
   * Ask for a new snapshot that replaces everything.
   *
   * @param {Topic} topic
   * @param {string} reason
   * @param {number} due
   */
  #refetch(topic, reason, due) {
    topic.pos = topic.held = undefined;
    topic.more = false;
    topic.wants = true;
    topic.reason = reason;
    topic.release = Infinity;
    this.#ask(topic, due);
  }

  /**
   * Take up a snapshot, which may come in chunks or be absent.
   *
   * @param {string} name
   * @param {Topic} topic
   * @param {Frame} frame
   * @param {string | undefined} reason
   */
  #begin(name, topic, frame, reason) {
    topic.head = frame;
    topic.parts = frame.snapshot;
    topic.reason = reason;
    topic.more = frame.more;
    if (frame.more) topic.held ??= [];
    else this.#finish(name, topic);
  }

  /**
   * The snapshot is whole: show it, then what waited for it.
   *
   * @param {string} name
   * @param {Topic} topic
   */
  #finish(name, topic) {
    const { parts, reason, held } = topic;
    const head = /** @type {Frame} */ (topic.head);
    topic.more = topic.wants = false;
    topic.release = Infinity;
    topic.head = topic.parts = topic.reason = topic.held = undefined;
    topic.stateful ||= parts != null;
    topic.seen = new Set(
      Object.values(parts ?? {}).flatMap((list) =>
        Array.isArray(list) ? list.map((item) => item?.key) : [],
      ),
    );
    if (reason) this.#effects.push(["reset", name, head, parts, reason]);
    else this.#effects.push(["snapshot", name, head, parts]);
    for (const frame of held ?? []) this.#show(name, topic, frame);
  }

  /**
   * @param {string} name
   * @param {Topic} topic
   * @param {Frame} frame
   * @param {number} now
   */
  #presence(name, topic, frame, now) {
    if (!frame.members && topic.seq != null) {
      if (frame.seq <= topic.seq) return;
      // A diff is missing: asking again brings the whole list.
      if (frame.seq > topic.seq + 1 && topic.phase === LIVE) this.#ask(topic, now);
    }
    topic.seq = frame.seq;
    this.#effects.push(["presence", name, frame]);
  }

  /**
   * @param {Frame} frame
   * @param {number} now
   */
  #answer(frame, now) {
    const fault = frame.type === "error" ? /** @type {any} */ (frame) : undefined;
    const request = this.#sent.get(`${frame.id}`);
    if (request) {
      this.#sent.delete(`${frame.id}`);
      return this.#settle(request, fault, frame.data);
    }
    if (!fault) return;
    for (const [name, topic] of this.#topics) {
      // `hello` asks without an id, and its answers name the topic.
      const meant = frame.id == null ? frame.topic === name : frame.id === topic.id;
      if (meant && topic.phase === JOINING && frame.id === topic.id) {
        return this.#refused(name, topic, fault, now);
      }
      if (meant || frame.id === topic.stateId) return this.#effects.push(["fault", name, fault]);
    }
    if (frame.id == null) this.#effects.push(["fault", undefined, fault]);
  }

  /**
   * @param {string} name
   * @param {Topic} topic
   * @param {Fault} fault
   * @param {number} now
   */
  #refused(name, topic, fault, now) {
    if (fault.retry_after || fault.code === "unavailable") {
      this.#ask(topic, now + (fault.retry_after ?? 5000) * (1 + this.#random()));
    } else if (fault.code === "forbidden" && topic.grant && !topic.renewed) {
      topic.renewed = true;
      this.#ask(topic, Infinity);
      this.#effects.push(["renew"]);
    } else {
      this.#topics.delete(name);
      this.#effects.push(["end", name, fault]);
    }
  }

  // --- sending --------------------------------------------------------------------------------

  /**
   * @param {Topic} topic
   * @param {number} due
   */
  #ask(topic, due) {
    topic.phase = IDLE;
    topic.id = null;
    topic.due = due;
  }

  /**
   * @param {string} name
   * @param {Topic} topic
   */
  #question(name, { grant, wants, pos }) {
    return { topic: name, grant, position: wants ? undefined : pos };
  }

  /** @param {import("./outbox.js").Request} request */
  #queue(request) {
    if (!this.#outbox.add(request)) this.#settle(request, { code: "overflow" });
  }

  /**
   * Whether nothing keeps a request back: its topic is joined, or not followed at all.
   *
   * @param {import("./outbox.js").Request} request
   */
  #free(request) {
    return (this.#topics.get(request.topic)?.phase ?? LIVE) === LIVE;
  }

  /**
   * Send what may be sent, a little slower than the server's limits allow.
   *
   * @param {number} now
   */
  #pump(now) {
    if (!this.live) return;
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#refilled) / this.#pause);
    this.#refilled = now;
    const turn = () => this.#tokens >= 1 && this.#tokens--;
    for (const request of this.#outbox.take((request) => this.#free(request) && !!turn())) {
      this.#sent.set(`${request.id}`, request);
      this.#effects.push(["send", request.message]);
    }
    for (const topic of this.#left) {
      if (!turn()) break;
      this.#left.delete(topic);
      this.#send({ type: "unsubscribe", id: ++this.#lastId, topic });
    }
    for (const [name, topic] of this.#topics) {
      if (topic.phase === IDLE && topic.due <= now && turn()) {
        topic.phase = JOINING;
        topic.id = ++this.#lastId;
        this.#send({ type: "subscribe", id: topic.id, ...this.#question(name, topic) });
      }
      if (topic.phase === LIVE && topic.stateDirty && now >= this.#presenceAt) {
        this.#presenceAt = now + 1250 / (this.#limits.presence_per_second || 10);
        topic.stateDirty = false;
        topic.stateId = ++this.#lastId;
        this.#send({ type: "presence", id: topic.stateId, topic: name, state: topic.state });
      }
    }
  }

  get #burst() {
    return (this.#limits.burst || 40) / 2;
  }

  /** Milliseconds per message. */
  get #pause() {
    return 1250 / (this.#limits.messages_per_second || 20);
  }

  /** @param {number} size */
  #tooLarge(size) {
    return size > (this.#limits.message_bytes || 65_536);
  }

  /** @param {Frame} frame */
  #send(frame) {
    const message = JSON.stringify(frame);
    if (this.#tooLarge(sizeOf(message))) {
      this.#effects.push(["fault", frame.topic, { code: "too_large" }]);
    } else this.#effects.push(["send", message]);
  }

  /**
   * @param {import("./outbox.js").Request} request
   * @param {Fault} [fault]
   * @param {any} [data]
   */
  #settle(request, fault, data) {
    this.#effects.push(["settle", request.tag, fault, data]);
  }

  #done() {
    return this.#effects.splice(0);
  }
}

/** @param {import("./outbox.js").Request} request */
const unsentBy = (request) => Math.min(request.by, request.since + PATIENCE);

/** @param {string | Uint8Array} message */
const sizeOf = (message) =>
  typeof message === "string" ? new TextEncoder().encode(message).length : message.length;

/** @param {Frame} frame */
const placeOf = ({ epoch, offset }) => ({ epoch, offset });

/**
 * Whether a frame's position lies before ours in the same log.
 *
 * @param {Frame} frame
 * @param {Position} [pos]
 */
const isBehind = (frame, pos) => pos?.epoch === frame.epoch && frame.offset < (pos?.offset ?? 0);
