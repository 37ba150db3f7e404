/**
 * The protocol as a pure state machine: frames, wishes and the clock in, effects out.
 *
 * The mirror of the server's `protocol/session.py`; both replay `tests/transcripts/*.json`. No DOM,
 * no timers, no sockets in here. Whoever drives it says what happened, then calls `tick`, and carries
 * out each effect when it is told.
 */

import { decodeEvent, encodePublish } from "./binary.js";
import { createOutbox, PATIENCE } from "./outbox.js";
import { ask, IDLE, JOINING, LIVE, newTopic, questionOf, refetch } from "./topic.js";

/** @typedef {import("./topic.js").Topic} Topic */
/** @typedef {import("./topic.js").Frame} Frame */
/** @typedef {import("./topic.js").Position} Position */
/** @typedef {import("./outbox.js").Fault} Fault */
/** @typedef {ReturnType<typeof createSession>} Session */

/**
 * What the driver has to do. `about` is for the followers of the topic that it names.
 *
 * @typedef {{
 *   send: [message: string | Blob],
 *   open: [welcome: Frame],
 *   about: [topic: string, what: "joined" | "event" | "snapshot" | "members" | "fault" | "refused",
 *     detail?: any, snapshot?: any, reason?: string],
 *   fault: [fault: Fault],
 *   settle: [tag: any, fault?: Fault, data?: any],
 *   renew: [],
 *   pong: [latency: number],
 *   bye: [bye: Frame],
 * }} Effects
 * @typedef {<What extends keyof Effects>(what: What, ...details: Effects[What]) => void} Effect
 */

/** Events held back at most while a snapshot is incomplete. */
const MOST_HELD = 1000;
/** Topics that `hello` rejoins, so that it stays within what servers read; the rest follows it. */
const MOST_HELLO = 50;
/** We stay below the server's rates by this factor, because messages bunch on their way. */
const SLACK = 1.25;

/**
 * @param {object} options
 * @param {string} options.tab random id of this page, the `origin` of what it causes
 * @param {string} [options.client] name/version
 * @param {string} [options.token] for clients without a cookie
 * @param {Effect} effect
 * @param {() => number} clock the present in ms since 1970
 * @param {() => number} [random]
 */
export const createSession = (options, effect, clock, random = Math.random) => {
  let live = false;
  /** @type {Map<string, Topic>} */
  const topics = new Map();
  /** Topics that the server has yet to hear that we left them. @type {Set<string>} */
  const left = new Set();
  let lastId = 0;
  const limits = {
    message_bytes: 65_536, messages_per_second: 20, burst: 40, presence_per_second: 10,
  };
  /** Until when what we sent uses up our share of the server's rate. */
  let spent = 0;
  let presenceAt = 0;

  const outbox = createOutbox((tag, fault, data) => effect("settle", tag, fault, data));

  /** @param {Frame} frame */
  const send = (frame) => effect("send", JSON.stringify(frame));

  // --- frames ---------------------------------------------------------------------------------

  /**
   * Ask again from where we stand. While a question is open its answer will hold what is missing.
   *
   * @param {Topic} topic
   */
  const missed = (topic) => {
    if (topic.phase === LIVE) ask(topic, clock());
  };

  /**
   * @param {Frame} frame
   * @param {Topic} topic
   */
  const show = (frame, topic) => {
    // A row's key names the row, which goes on changing; a message's key names the message.
    if (!/app|client/.test(frame.kind) || !topic.seen.has(frame.key ?? NaN)) {
      effect("about", topic.name, "event", frame);
    }
  };

  /**
   * Apply an event once, in order; ask again where one is missing.
   *
   * @param {Frame} frame
   * @param {Topic} topic
   * @param {boolean} [replayed] gaps are none
   */
  const applyEvent = (frame, topic, replayed) => {
    const { epoch, offset } = frame;
    // Offset 0: in no log.
    if (offset) {
      const at = topic.pos?.epoch === epoch ? topic.pos.offset : NaN;
      if (offset <= at) return;
      if (!replayed && offset !== at + 1) return missed(topic);
      topic.pos = placeOf(frame);
    }
    if (!topic.held) show(frame, topic);
    else if (topic.held.push(frame) > MOST_HELD) refetch(topic, clock(), "lagging");
  };

  /**
   * The snapshot is whole: show it, then what waited for it.
   *
   * @param {Topic} topic
   */
  const finish = (topic) => {
    const { name, head, parts, reason, held = [] } = topic;
    topic.wants = false;
    topic.head = topic.reason = topic.held = undefined;
    topic.stateful ||= !!parts;
    topic.seen = new Set(Object.values(parts ?? {}).flatMap((items) => items?.map?.(keyOf)));
    effect("about", name, "snapshot", head, parts, reason);
    for (const frame of held) show(frame, topic);
  };

  /**
   * Take up a snapshot, which may come in chunks or be absent.
   *
   * @param {Frame} frame
   * @param {Topic} topic
   * @param {string} [reason]
   */
  const begin = (frame, topic, reason) => {
    topic.head = frame;
    topic.parts = frame.snapshot;
    topic.reason = reason;
    if (frame.more) topic.held ??= [];
    else finish(topic);
  };

  /**
   * What followers hold is stale.
   *
   * @param {Frame} frame
   * @param {Topic} topic
   * @param {string} [reason]
   */
  const replace = (frame, topic, reason = frame.reason) => {
    const { snapshot, after = 0 } = frame;
    const over = !snapshot && reason === "revoked";
    topic.held = topic.head = undefined;
    if (!snapshot && topic.stateful && !over) refetch(topic, clock() + after * random(), reason);
    else {
      topic.pos = placeOf(frame);
      begin(frame, topic, reason);
    }
    if (over) refuse(topic, { code: reason });
  };

  /**
   * @param {Topic} topic
   * @param {Fault} fault
   */
  const refuse = ({ name }, fault) => {
    topics.delete(name);
    effect("about", name, "refused", fault);
  };

  /**
   * @param {Frame} frame
   * @param {Topic} topic
   */
  const subscribed = (frame, topic) => {
    const asked = topic.phase === JOINING;
    // The answer to an older question would skip what this one asks for; a catch-up that the server
    // starts has no id and means only topics that are live.
    if (!topic.phase || frame.id !== (asked ? topic.id : undefined)) return;
    topic.phase = LIVE;
    topic.renewed = false;
    topic.unsaid ||= !!topic.state;
    if (asked) effect("about", topic.name, "joined");
    const old = topic.pos;
    const foreign = old?.epoch && old.epoch !== frame.epoch;
    if (frame.recovered) {
      for (const event of frame.events ?? []) applyEvent(event, topic, true);
      // Ours is the later place if an event overtook this answer.
      if (foreign || !(topic.pos?.offset > frame.offset)) topic.pos = placeOf(frame);
    } else if (asked && frame.recovered == null && !foreign) {
      if (!old) topic.pos = placeOf(frame);
      begin(frame, topic, topic.reason);
      // The snapshot is for those who had none. Who followed before keeps the place and asks for
      // what lies between.
      if (old && !(old.offset >= frame.offset)) ask(topic, clock());
    } else replace(frame, topic, frame.reason ?? (foreign ? "epoch" : "trimmed"));
  };

  /**
   * @param {Frame} frame
   * @param {any} [fault]
   */
  const answered = (frame, fault) => {
    const { id, data } = frame;
    for (const request of outbox.requests) {
      // Binary requests have their id as a string.
      if (request.id == id) return outbox.end(request, fault, data);
    }
    if (!fault) return;
    const { code, retry_after } = fault;
    for (const topic of topics.values()) {
      // `hello` asks without an id, and its answers name the topic.
      if (topic.phase !== JOINING || topic.id !== id || !(id || topic.name === frame.topic)) continue;
      if (retry_after || code === "unavailable") {
        ask(topic, clock() + (retry_after ?? 5000) * (1 + random()));
      } else if (code === "forbidden" && topic.grant && !topic.renewed) {
        topic.renewed = true;
        ask(topic, Infinity);
        effect("renew");
      } else refuse(topic, fault);
      return;
    }
    if (topics.has(frame.topic)) effect("about", frame.topic, "fault", fault);
    else if (!id) effect("fault", fault);
  };

  /** What each type of frame does. @type {Record<string, (frame: Frame, topic: any) => void>} */
  const takers = {
    welcome(frame) {
      live = true;
      spent = 0;
      Object.assign(limits, frame.limits);
      effect("open", frame);
    },
    mark: ({ n }) => send({ type: "ack", n }),
    ping: ({ ts }) => send({ type: "pong", ts }),
    pong: ({ ts }) => effect("pong", clock() - ts),
    bye: (frame) => effect("bye", frame),
    ok: (frame) => answered(frame),
    error: (frame) => answered(frame, frame),
    subscribed,
    event: applyEvent,
    reset: replace,
    whisper: (frame, topic) => show({ ...frame, kind: "whisper" }, topic),
    snapshot({ items, more }, topic) {
      if (!topic.head) return;
      for (const list in items) (topic.parts[list] ??= []).push(...items[list]);
      if (!more) finish(topic);
    },
    presence(frame, topic) {
      const { members, seq } = frame;
      const ahead = members ? 1 : seq - topic.seq;
      if (ahead <= 0) return;
      topic.seq = seq;
      effect("about", topic.name, "members", frame);
      // A diff is missing: asking again brings the whole list.
      if (ahead > 1) missed(topic);
    },
  };

  /** @param {Frame} frame */
  const take = (frame) => {
    const { type } = frame;
    const topic = topics.get(frame.topic);
    // What comes late for a topic that we left is ignored, but for the answers to requests.
    if (topic || !frame.topic || type === "error") takers[type]?.(frame, topic);
  };

  return {
    outbox,

    // --- the connection -----------------------------------------------------------------------

    /** The socket is open: say hello and rejoin everything in one round trip. */
    opened() {
      /** @type {ReturnType<typeof questionOf>[]} */
      const subscriptions = [];
      for (const topic of topics.values()) {
        if (topic.due <= clock() && subscriptions.length < MOST_HELLO) {
          subscriptions.push(questionOf(topic));
          topic.phase = JOINING;
          topic.id = undefined;
        }
      }
      send({ type: "hello", v: 1, ...options, subscriptions });
    },

    /**
     * The connection is gone.
     *
     * @param {boolean} [stop] there will be no other
     * @param {boolean} [once] nothing that was sent may be repeated
     */
    dropped(stop, once) {
      live = false;
      left.clear();
      for (const topic of topics.values()) {
        if (topic.phase) ask(topic, clock());
        topic.seq = undefined;
        // Half a snapshot is none. Beside a starting state events stay held, for followers who keep
        // their place; a reset begins anew.
        if (topic.head) {
          topic.head = undefined;
          topic.wants = true;
          if (topic.reason) refetch(topic, clock(), topic.reason);
        }
      }
      outbox.drop(stop, once);
    },

    /**
     * A message came.
     *
     * @param {string | ArrayBuffer} message
     */
    receive(message) {
      if (typeof message === "string") {
        for (const line of message.split("\n")) if (line.trim()) take(JSON.parse(line));
      } else {
        const frame = decodeEvent(message);
        if (frame) take(frame);
      }
    },

    /**
     * Do what is due, and send what may be sent.
     *
     * @returns {boolean} whether to come back soon
     */
    tick() {
      const now = clock();
      outbox.expire(now);
      let waiting = !!outbox.requests.size;
      if (!live) return waiting;
      const pause = (SLACK * 1000) / limits.messages_per_second;
      const turn = () => {
        const free = spent < now + (pause * limits.burst) / 2;
        if (free) spent = Math.max(spent, now) + pause;
        waiting ||= !free;
        return free;
      };
      for (const request of outbox.requests) {
        // What concerns a topic waits until the topic is joined.
        if (!request.sent && (topics.get(request.topic)?.phase ?? LIVE) === LIVE && turn()) {
          request.sent = true;
          effect("send", request.message);
        }
      }
      for (const topic of left) {
        if (turn()) {
          left.delete(topic);
          send({ type: "unsubscribe", id: ++lastId, topic });
        }
      }
      for (const topic of topics.values()) {
        const { name, phase, state } = topic;
        if (phase === IDLE) {
          if (topic.due <= now && turn()) {
            topic.phase = JOINING;
            topic.id = ++lastId;
            send({ type: "subscribe", id: lastId, ...questionOf(topic) });
          } else waiting = true;
        } else if (phase === LIVE && topic.unsaid) {
          waiting = true;
          if (now >= presenceAt) {
            presenceAt = now + (SLACK * 1000) / limits.presence_per_second;
            topic.unsaid = false;
            send({ type: "presence", id: ++lastId, topic: name, state });
          }
        }
      }
      return waiting;
    },

    // --- what the page wishes -----------------------------------------------------------------

    /**
     * Follow a topic. A second wish for the same topic adds to the first.
     *
     * @param {string} name
     * @param {{ grant?: string, position?: Position, stateful?: boolean }} [options] `stateful`: the
     *   follower needs a snapshot to begin with
     */
    subscribe(name, { grant, position, stateful } = {}) {
      left.delete(name);
      const known = topics.get(name);
      const topic = known ?? newTopic(name);
      topics.set(name, topic);
      if (stateful && !topic.stateful) {
        topic.stateful = topic.wants = true;
        if (known) {
          // Events wait, so that those who followed before and the snapshot meet at one place.
          topic.held ??= [];
          ask(topic, clock());
        }
      }
      topic.pos ??= position;
      topic.grant = grant ?? topic.grant;
    },

    /** @param {string} name */
    unsubscribe(name) {
      if (topics.delete(name) && live) left.add(name);
    },

    /**
     * Send a `call` or `publish` when it is possible; the effect `settle` tells how it ended.
     *
     * @param {Record<string, any> & { topic: string }} frame without `id`; a `payload`
     *   (bytes) makes it a binary publish
     * @param {any} tag comes back with `settle`
     * @param {number} [timeout] milliseconds
     */
    request({ payload, ...frame }, tag, timeout = PATIENCE) {
      const id = ++lastId;
      const { type, topic, event } = frame;
      // A publish with a key may be repeated: the server takes it once.
      if (type === "publish" && !payload) frame.key ??= `${options.tab}-${id}`;
      const message = payload
        ? encodePublish(topic, id, event, payload)
        : JSON.stringify({ ...frame, id });
      const repeatable = frame.key != null;
      const { size } = new Blob([message]);
      outbox.add(
        { id, topic, message, size, tag, repeatable, since: clock(), by: clock() + timeout },
        limits.message_bytes,
      );
    },

    /**
     * Tell the other members something that may get lost.
     *
     * @param {{ topic: string, event: string, data: any }} frame
     */
    whisper(frame) {
      if (topics.get(frame.topic)?.phase === LIVE) send({ type: "whisper", ...frame });
    },

    /**
     * Set this member's presence; the latest state is what counts, also after a reconnect.
     *
     * @param {string} name
     * @param {any} state
     */
    presence(name, state) {
      const topic = topics.get(name);
      if (topic) {
        topic.state = state;
        topic.unsaid = true;
      }
    },

    /** Ask whether the link lives. */
    probe() {
      send({ type: "ping", ts: clock() });
    },

    /** @returns {string[]} what can be renewed */
    grants() {
      return [...topics.values()].flatMap(({ grant }) => grant ?? []);
    },

    /**
     * New grants came, in the order of the old ones; null where one was refused.
     *
     * @param {string[]} old
     * @param {(string | null)[]} [grants] absent: they could not be asked for
     */
    renewed(old, grants = old) {
      for (const topic of topics.values()) {
        const index = old.indexOf(/** @type {string} */ (topic.grant));
        if (index >= 0) topic.grant = grants[index] ?? undefined;
        if (topic.due === Infinity) topic.due = clock();
      }
    },
  };
};

/** @param {Frame} frame */
const placeOf = ({ epoch, offset }) => ({ epoch, offset });

/** @param {{ key?: string }} item */
const keyOf = (item) => item?.key;
