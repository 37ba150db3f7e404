/**
 * The browser's WebSocket, but one that comes back: same constructor, properties, methods and
 * events. For any server; it speaks no protocol of its own.
 */

import { CLOSED, createConnection, OPEN } from "./connection.js";
import { FATAL } from "./errors.js";
import { follow } from "./lifecycle.js";

/** A page may put ours in the place of the browser's. */
const Native = WebSocket;

/** @typedef {string | ArrayBuffer | Blob | ArrayBufferView<ArrayBuffer>} Data */

/**
 * @typedef {object} Options
 * @property {{ message: Data, answer?: string, interval?: number }} [heartbeat] what to send after
 *   `interval` (25,000) milliseconds of silence; a link on which nothing comes within five seconds
 *   after that is dead. Messages that equal `answer` are not shown.
 * @property {(event: CloseEvent) => boolean} [shouldReconnect] by default: unless the server closed
 *   with 1000, a code that means a fault or a refusal, or 4400 to 4599
 * @property {number} [queue] messages that may wait for the next link (256); 64 KiB at most
 */

const MOST_BYTES = 65_536;

/**
 * @param {any} value
 * @param {string} message
 * @param {string} name
 */
const refuseUnless = (value, message, name) => {
  if (!value) throw new DOMException(message, name);
};

/** @param {Data} data */
const sizeOf = (data) => new Blob([data]).size;

export class ReconnectingWebSocket extends EventTarget {
  static CONNECTING = /** @type {const} */ (0);
  static OPEN = /** @type {const} */ (1);
  static CLOSING = /** @type {const} */ (2);
  static CLOSED = /** @type {const} */ (3);
  CONNECTING = /** @type {const} */ (0);
  OPEN = /** @type {const} */ (1);
  CLOSING = /** @type {const} */ (2);
  CLOSED = /** @type {const} */ (3);

  /** @type {((event: Event) => any) | null} */
  onopen = null;
  /** @type {((event: MessageEvent) => any) | null} */
  onmessage = null;
  /** @type {((event: Event) => any) | null} */
  onerror = null;
  /** @type {((event: CloseEvent) => any) | null} */
  onclose = null;

  /** @type {Data[]} */
  #waiting = [];
  #most;
  /** @type {BinaryType} */
  #binaryType = "blob";
  #connection;
  #ended = new AbortController();

  /**
   * @param {string | URL} url
   * @param {string | string[]} [protocols]
   * @param {Options} [options]
   */
  constructor(url, protocols = [], options = {}) {
    super();
    const { heartbeat, queue = 256 } = options;
    this.#most = queue;
    const href = new URL(url, location.href).href.replace(/^http/, "ws");
    this.url = href;
    const shouldReconnect =
      options.shouldReconnect ??
      (({ code }) => code !== 1000 && !FATAL.test(/** @type {any} */ (code)));
    // What the browser refuses by an exception it refuses here, not on every try.
    let first = /** @type {WebSocket | undefined} */ (new Native(href, protocols));

    const connection = createConnection({
      dial: () => {
        const socket = first ?? new Native(href, protocols);
        first = undefined;
        socket.binaryType = this.#binaryType;
        return socket;
      },
      opened: (socket) => {
        connection.established(heartbeat ? heartbeat.interval ?? 25_000 : Infinity);
        for (const data of this.#waiting.splice(0)) socket.send(data);
        this.#tell(new Event("open"));
      },
      message: (data) => {
        if (!heartbeat || data !== heartbeat.answer) {
          this.#tell(new MessageEvent("message", { data, origin: new URL(href).origin }));
        }
      },
      ping: () => {
        if (!heartbeat) return false;
        connection.socket()?.send(heartbeat.message);
      },
      lost: (code, reason, wasClean = false) => {
        const event = new CloseEvent("close", { code, reason, wasClean });
        queueMicrotask(() => {
          if (!wasClean) this.#tell(new Event("error"));
          this.#tell(event);
        });
        return { stop: !shouldReconnect(event) };
      },
      noticed: () => {
        if (connection.state() === CLOSED) this.#ended.abort();
      },
    });
    this.#connection = connection;
    follow(connection, this.#ended);
    connection.open();
  }

  /** CONNECTING while it waits for the next try, too; CLOSED when there will be none. */
  get readyState() {
    const state = this.#connection.state();
    return state === OPEN ? 1 : state === CLOSED ? 3 : 0;
  }

  /** Bytes that wait, ours and the browser's. */
  get bufferedAmount() {
    const waiting = this.#waiting.reduce((sum, data) => sum + sizeOf(data), 0);
    return waiting + (this.#connection.socket()?.bufferedAmount ?? 0);
  }

  get protocol() {
    return this.#connection.socket()?.protocol ?? "";
  }

  get extensions() {
    return this.#connection.socket()?.extensions ?? "";
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(type) {
    const socket = this.#connection.socket();
    if (type !== "blob" && type !== "arraybuffer") return;
    this.#binaryType = type;
    if (socket) socket.binaryType = type;
  }

  /**
   * Send now, or with the next link. After `close()` it is discarded, as the browser does.
   *
   * @param {Data} data
   * @throws {DOMException} InvalidStateError: no link, and no room to wait
   */
  send(data) {
    const { readyState } = this;
    if (readyState === 1) this.#connection.socket()?.send(data);
    else if (readyState === 0) {
      const room =
        this.#waiting.length < this.#most && this.bufferedAmount + sizeOf(data) <= MOST_BYTES;
      refuseUnless(room, "No link, and no room for more to wait for one.", "InvalidStateError");
      // What waits must not change when its buffer does.
      this.#waiting.push(typeof data === "string" ? data : new Blob([data]));
    }
  }

  /**
   * End it; no event of the page revives it.
   *
   * @param {number} [code] 1000, or 3000 to 4999
   * @param {string} [reason] at most 123 bytes
   */
  close(code, reason = "") {
    const legal = code === undefined || code === 1000 || (code >= 3000 && code <= 4999);
    refuseUnless(legal, "The code must be 1000, or 3000 to 4999.", "InvalidAccessError");
    refuseUnless(sizeOf(reason) <= 123, "The reason is longer than 123 bytes.", "SyntaxError");
    this.#waiting = [];
    this.#connection.close(code, reason);
  }

  /** @param {any} event */
  #tell(event) {
    const handler = /** @type {any} */ (this)[`on${event.type}`];
    try {
      handler?.call(this, event);
    } catch (error) {
      reportError(error);
    }
    this.dispatchEvent(event);
  }
}

export default ReconnectingWebSocket;
