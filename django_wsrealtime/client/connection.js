/**
 * Keeps one WebSocket alive: dials, notices dead links, waits, dials again.
 *
 * `idle → connecting → open → waiting → connecting …`, and `closed`. A page that is suspended
 * (back/forward cache, freeze) waits without a timer. It knows nothing of the protocol above: its
 * owner says when the link counts as open.
 */

import { createBackoff } from "./backoff.js";
import { isIdle } from "./lifecycle.js";

export const OPEN = 0;
export const CONNECTING = 1;
/** For the next try, or for the page to wake. */
export const WAITING = 2;
export const IDLE = 3;
/** By the owner's wish, which no event of the page revives, or because trying again cannot help. */
export const CLOSED = 4;

/**
 * What the connection needs from its owner.
 *
 * @typedef {object} Owner
 * @property {() => WebSocket} dial makes a socket
 * @property {(socket: WebSocket) => void} opened the socket is open; call `established` when it counts
 * @property {(data: any) => void} message
 * @property {() => boolean | void} ping asks the other end for a sign of life; false if there is no way
 * @property {(code: number, reason: string, clean?: boolean, bye?: Bye) => Verdict} lost what the end
 *   of a link means
 * @property {() => void} noticed the state may be another
 */

/** @typedef {{ code: number, reason: string, reconnect?: boolean, after?: number }} Bye */

/**
 * `stop`: for good. `first`: what has to happen before the next try. `told`: milliseconds that the
 * server wishes for, else backoff.
 *
 * @typedef {{ stop?: boolean, first?: Promise<unknown>, told?: number }} Verdict
 */

/** @typedef {ReturnType<typeof createConnection>} Connection */

/** From dialling to `established`. */
const HANDSHAKE = 15_000;
/** How late a timer may fire before we take it that the machine slept; and what it gets then. */
const GRACE = 1000;
const PROBE = 5000;
/** Tries of a page that nobody sees, before it tries once a minute. */
const IDLE_TRIES = 3;
const MINUTE = 60_000;
/** Links that die younger than this without a word were cut by something in between. */
const MIDDLEBOX = 50_000;

/** @param {Owner} owner */
export const createConnection = (owner) => {
  const backoff = createBackoff();
  let state = IDLE;
  /** @type {WebSocket | undefined} */
  let socket;
  /** @type {Bye | undefined} */
  let bye;
  /** @type {any} */
  let timer;
  let due = 0;
  let graced = false;
  /** When the link was established, last heard of and last probed; until when it must answer. */
  let born = NaN;
  let heard = 0;
  let probed = 0;
  let deadline = Infinity;
  /** Milliseconds of silence after which the link is probed. */
  let silence = Infinity;
  /** Milliseconds between pings of our own, once a middlebox was noticed. */
  let keepalive = Infinity;
  let tries = 0;
  /** Whether the server wishes that we wait. */
  let told = false;

  /** @param {number} next */
  const to = (next) => {
    state = next;
    owner.noticed();
  };

  /** @param {number} time */
  const arm = (time) => {
    clearTimeout(timer);
    due = time;
    if (time < Infinity) timer = setTimeout(tick, Math.max(0, time - Date.now()));
  };

  /** When an open link needs something next. */
  const next = () =>
    deadline < Infinity ? deadline : Math.min(heard + silence, probed + keepalive);

  /**
   * Ask for a sign of life within `ms`; without one the link is dead.
   *
   * @param {number} ms
   */
  const probe = (ms) => {
    const now = Date.now();
    if (state !== OPEN || now + ms >= deadline || owner.ping() === false) return;
    graced = false;
    probed = now;
    deadline = now + ms;
    arm(next());
  };

  const tick = () => {
    const now = Date.now();
    if (heard > now) heard = now; // the clock was set back
    if (state === WAITING) dial();
    else if (state === OPEN && next() > now) arm(next());
    else if (state === OPEN && deadline > now) probe(PROBE);
    else if (now - due > GRACE && !graced) {
      // Background timers wake once a minute and laptops after an hour: first let what arrived
      // meanwhile be heard.
      graced = true;
      arm(now + GRACE);
    } else lost(1006, "");
  };

  /**
   * @param {number} [code]
   * @param {string} [reason]
   */
  const drop = (code, reason) => {
    const old = socket;
    clearTimeout(timer);
    socket = undefined;
    if (!old) return;
    // Safari crashes connections that are closed while they connect.
    if (old.readyState === 0) old.onopen = () => old.close();
    else old.close(code, reason);
    return old;
  };

  /**
   * @param {number} next
   * @param {number} [code]
   * @param {string} [reason]
   */
  const leave = (next, code = 1000, reason = "") => {
    told = false;
    if (drop(code, reason)) owner.lost(code, reason, true);
    to(next);
  };

  /**
   * @param {number} code
   * @param {string} reason
   * @param {boolean} [clean]
   */
  const lost = (code, reason, clean) => {
    const life = Date.now() - born;
    if (!clean && !bye && life < MIDDLEBOX) {
      keepalive = Math.min(keepalive, Math.max(10_000, life / 2));
    }
    drop();
    const verdict = owner.lost(bye?.code ?? code, bye?.reason ?? reason, clean, bye);
    if (verdict.stop) return to(CLOSED);
    const delay = verdict.told ?? backoff.delay(life);
    const { first } = verdict;
    told = !!(first ?? verdict.told);
    const wait = () => arm(Date.now() + Math.max(delay, isIdle() && tries >= IDLE_TRIES ? MINUTE : 0));
    if (first) first.then(() => state === WAITING && wait());
    else wait();
    to(WAITING);
  };

  const dial = () => {
    tries++;
    told = graced = false;
    born = NaN;
    deadline = Infinity;
    bye = undefined;
    to(CONNECTING);
    arm(Date.now() + HANDSHAKE);
    try {
      socket = owner.dial();
    } catch {
      // Mixed content and the like: no event will follow.
      return lost(1006, "");
    }
    const fresh = socket;
    fresh.onopen = () => owner.opened(fresh);
    // What an old socket still has to say concerns nobody.
    fresh.onmessage = ({ data }) => {
      if (fresh !== socket) return;
      heard = Date.now();
      deadline = Infinity;
      owner.message(data);
    };
    fresh.onclose = ({ code, reason, wasClean }) => {
      if (fresh === socket) lost(code, reason, wasClean);
    };
  };

  return {
    probe,

    state: () => state,

    socket: () => socket,

    /** Dial, unless there is a link or one in the making. */
    open() {
      if (state > CONNECTING) dial();
    },

    /**
     * @param {number} [code]
     * @param {string} [reason]
     */
    close(code, reason) {
      leave(CLOSED, code, reason);
    },

    /**
     * The owner has what it needs to call this link open.
     *
     * @param {number} quiet milliseconds of silence after which to probe it
     */
    established(quiet) {
      silence = quiet;
      born = heard = probed = Date.now();
      tries = 0;
      backoff.halve();
      to(OPEN);
      arm(next());
    },

    /** @param {Bye} words what the server says before it closes */
    farewell(words) {
      bye = words;
    },

    /** The page is back: look whether the link lives, or dial now. */
    wake() {
      if (state === WAITING && !told) dial();
      else probe(PROBE);
    },

    /** The page goes to sleep: let go of the server's connection. */
    suspend() {
      if (state < IDLE) leave(WAITING);
    },

    noticed: owner.noticed,
  };
};
