/**
 * Keeps one WebSocket alive: dials, notices dead links, waits, dials again.
 *
 * `idle → connecting → open → waiting → connecting …`, and `suspended` (back/forward cache, freeze),
 * `failed` (dialling again cannot help), `closed` (the owner's wish, which no event of the page
 * revives). It knows nothing of the protocol above: its owner says when the link counts as open.
 */

import { Backoff } from "./backoff.js";
import { follow, isIdle } from "./lifecycle.js";

/** @typedef {"idle" | "connecting" | "open" | "waiting" | "suspended" | "failed" | "closed"} State */

/**
 * What the connection needs from its owner.
 *
 * @typedef {object} Owner
 * @property {() => WebSocket} dial makes a socket
 * @property {(socket: WebSocket) => void} opened the socket is open; call `established` when it counts
 * @property {(data: any) => void} message
 * @property {() => boolean | void} ping asks the other end for a sign of life; false if there is no way
 * @property {(code: number, reason: string, bye?: Bye) => Verdict} lost what the end of a link means
 * @property {() => void} changed the state is another
 * @property {() => Promise<unknown>} [renew] what has to happen before dialling after such a verdict
 */

/** @typedef {{ code: number, reason: string, reconnect?: boolean, after?: number }} Bye */

/**
 * `stop`: for good. `renew`: first. `delay`: milliseconds that the server wishes for, else backoff.
 *
 * @typedef {{ stop?: boolean, renew?: boolean, delay?: number }} Verdict
 */

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

export class Connection {
  /** @type {State} */
  state = "idle";
  /** @type {WebSocket | undefined} */
  socket;
  /** What the server said before it closes. */
  bye = /** @type {Bye | undefined} */ (undefined);
  /** Milliseconds of silence after which the link is probed. */
  silence = 35_000;
  #owner;
  #backoff = new Backoff();
  /** Makes every callback of an old socket void. */
  #generation = 0;
  #timer = /** @type {any} */ (0);
  #due = 0;
  #graced = false;
  /** When the link was established, last heard of and last probed; until when it must answer. */
  #born = NaN;
  #heard = 0;
  #probed = 0;
  #deadline = Infinity;
  /** Milliseconds between pings of our own, once a middlebox was noticed. */
  #keepalive = Infinity;
  #tries = 0;
  #told = false;
  #renew = false;
  #following = /** @type {AbortController | undefined} */ (undefined);

  /** @param {Owner} owner */
  constructor(owner) {
    this.#owner = owner;
  }

  /** Dial, unless there is a link or one in the making. */
  open() {
    this.#following ??= follow(this);
    if (this.state !== "open" && this.state !== "connecting") this.#dial();
  }

  /**
   * @param {number} [code]
   * @param {string} [reason]
   */
  close(code, reason) {
    this.#leave("closed", code, reason);
  }

  /** The owner has what it needs to call this link open. */
  established() {
    this.#born = this.#heard = this.#probed = Date.now();
    this.#tries = 0;
    this.#backoff.halve();
    this.#to("open");
    this.#watch();
  }

  /** The page is back: look whether the link lives, or dial now. */
  wake() {
    if (this.state === "suspended" || (this.state === "waiting" && !this.#told)) this.#dial();
    else this.probe(PROBE);
  }

  /** The page goes to sleep: let go of the server's connection. */
  suspend() {
    if (this.#following && this.state !== "suspended") this.#leave("suspended");
  }

  /** Something that shows in the state as pages see it is another. */
  changed() {
    this.#owner.changed();
  }

  /**
   * Ask for a sign of life within `ms`; without one the link is dead.
   *
   * @param {number} ms
   */
  probe(ms) {
    const now = Date.now();
    if (this.state !== "open" || now + ms >= this.#deadline) return;
    if (this.#owner.ping() === false) return;
    this.#graced = false;
    this.#probed = now;
    this.#deadline = now + ms;
    this.#watch();
  }

  #dial() {
    clearTimeout(this.#timer);
    const generation = ++this.#generation;
    if (this.#renew) {
      this.#renew = false;
      this.#to("connecting");
      this.#owner.renew?.().finally(() => generation === this.#generation && this.#dial());
      return;
    }
    this.#tries++;
    this.#told = this.#graced = false;
    this.#born = NaN;
    this.#deadline = Infinity;
    this.bye = undefined;
    this.#to("connecting");
    this.#arm(Date.now() + HANDSHAKE);
    let socket;
    try {
      socket = this.#owner.dial();
    } catch {
      // Mixed content and the like: no event will follow.
      return this.#lost(1006, "");
    }
    this.socket = socket;
    /** @type {<E>(handler: (event: E) => void) => (event: E) => void} */
    const current = (handler) => (event) => {
      if (generation === this.#generation) handler(event);
    };
    socket.onopen = current(() => this.#owner.opened(/** @type {WebSocket} */ (socket)));
    socket.onmessage = current(({ data }) => {
      this.#heard = Date.now();
      this.#deadline = Infinity;
      this.#owner.message(data);
    });
    socket.onclose = current(({ code, reason, wasClean }) => this.#lost(code, reason, wasClean));
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @param {boolean} [clean]
   */
  #lost(code, reason, clean) {
    const { bye } = this;
    const life = Date.now() - this.#born;
    if (!clean && !bye && life < MIDDLEBOX) {
      this.#keepalive = Math.min(this.#keepalive, Math.max(10_000, life / 2));
    }
    this.#drop(1000, "");
    const verdict = this.#owner.lost(bye?.code ?? code, bye?.reason ?? reason, bye);
    if (verdict.stop) return this.#leave("failed");
    const delay = verdict.delay ?? this.#backoff.delay(life || 0);
    this.#told = verdict.delay != null;
    this.#renew = !!verdict.renew;
    this.#arm(Date.now() + (isIdle() && this.#tries >= IDLE_TRIES ? Math.max(delay, MINUTE) : delay));
    this.#to("waiting");
  }

  /**
   * @param {State} state
   * @param {number} [code]
   * @param {string} [reason]
   */
  #leave(state, code = 1000, reason = "") {
    clearTimeout(this.#timer);
    const { socket } = this;
    this.#drop(code, reason);
    if (socket) this.#owner.lost(code, reason, { code, reason });
    if (state !== "suspended") {
      this.#following?.abort();
      this.#following = undefined;
    }
    this.#to(state);
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #drop(code, reason) {
    this.#generation++;
    const { socket } = this;
    this.socket = undefined;
    if (!socket) return;
    // Safari crashes connections that are closed while they connect.
    if (socket.readyState === 0) socket.onopen = () => socket.close();
    else socket.close(code, reason);
  }

  /** Arm the timer for whatever an open link needs next. */
  #watch() {
    this.#arm(
      Math.min(this.#deadline, this.#heard + this.silence, this.#probed + this.#keepalive),
    );
  }

  /** @param {number} due */
  #arm(due) {
    clearTimeout(this.#timer);
    this.#due = due;
    if (due < Infinity) this.#timer = setTimeout(() => this.#tick(), Math.max(0, due - Date.now()));
  }

  #tick() {
    const now = Date.now();
    const { state } = this;
    if (state === "waiting") return this.#dial();
    if (this.#heard > now) this.#heard = now; // the clock was set back
    if (state === "open" && this.#deadline === Infinity) {
      if (now < Math.min(this.#heard + this.silence, this.#probed + this.#keepalive)) this.#watch();
      else this.probe(PROBE);
    } else if (now - this.#due > GRACE && !this.#graced) {
      // Background timers wake once a minute and laptops after an hour: first let what arrived
      // meanwhile be heard.
      this.#graced = true;
      this.#arm(now + GRACE);
    } else {
      this.#lost(1006, "");
    }
  }

  /** @param {State} state */
  #to(state) {
    this.state = state;
    this.#owner.changed();
  }
}
