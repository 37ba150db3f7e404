/** The rows of a `ModelStream`, always as the database has them: a snapshot and its changes. */

import { Emitter } from "./emitter.js";

/** @typedef {string | number} Key */
/** @typedef {Record<string, any>} Row */
/** @typedef {{ pk: Key, row: Row }} Item */

export class Collection extends Emitter {
  /** Resolves when the first snapshot is there, rejects when the server refuses. */
  ready;
  #loaded = /** @type {(value: any) => void} */ (/** @type {unknown} */ (undefined));
  #subscription;
  #close;
  /** By primary key as a string, so that `dataset.pk` finds its row. @type {Map<string, Item>} */
  #items = new Map();
  /** What was touched since the last `change`, as it was before. @type {Map<string, Item | undefined>} */
  #before = new Map();
  #head = /** @type {import("./session.js").Frame | undefined} */ (undefined);

  /**
   * @param {import("./subscription.js").Subscription} subscription
   * @param {() => void} close
   */
  constructor(subscription, close) {
    super();
    this.#subscription = subscription;
    this.#close = close;
    this.ready = Promise.race([
      new Promise((resolve) => (this.#loaded = resolve)),
      subscription.ready.then(() => new Promise(() => {})),
    ]).then(() => this);
    this.ready.catch(() => {});
  }

  get topic() {
    return this.#subscription.topic;
  }

  get size() {
    return this.#items.size;
  }

  /** @param {Key} pk */
  get(pk) {
    return this.#items.get(`${pk}`)?.row;
  }

  /** @param {Key} pk */
  has(pk) {
    return this.#items.has(`${pk}`);
  }

  keys() {
    return this.#list(({ pk }) => pk).values();
  }

  values() {
    return this.#list(({ row }) => row).values();
  }

  entries() {
    return this.#list(({ pk, row }) => /** @type {[Key, Row]} */ ([pk, row])).values();
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  /** @param {(row: Row, pk: Key, collection: Collection) => void} handler */
  forEach(handler) {
    for (const [pk, row] of this) handler(row, pk, this);
  }

  /** Follow the topic no longer; what is here stays as it is. */
  close() {
    this.#close();
  }

  /** @param {import("./session.js").Frame} frame */
  event({ kind, event, data, epoch, offset }) {
    // What members publish is of kind `client`, whatever they call it.
    if (kind !== "row") return;
    if (epoch === this.#head?.epoch && /** @type {number} */ (offset) <= this.#head?.offset) return;
    this.#put(data.pk, event === "upsert" ? data : undefined);
  }

  /**
   * @param {import("./session.js").Frame} frame
   * @param {{ rows: Item[] }} [snapshot]
   */
  replace(frame, snapshot) {
    this.#head = frame;
    const rows = snapshot?.rows ?? [];
    const kept = new Set(rows.map(({ pk }) => `${pk}`));
    for (const [key, { pk }] of this.#items) if (!kept.has(key)) this.#put(pk);
    for (const item of rows) this.#put(item.pk, item);
    this.#loaded(this);
  }

  /**
   * @param {Key} pk
   * @param {Item} [item]
   */
  #put(pk, item) {
    const key = `${pk}`;
    if (!this.#before.size) queueMicrotask(() => this.#tell());
    if (!this.#before.has(key)) this.#before.set(key, this.#items.get(key));
    if (item) this.#items.set(key, item);
    else this.#items.delete(key);
  }

  /** One `change` for all that one message brought. */
  #tell() {
    const added = [];
    const changed = [];
    const removed = [];
    for (const [key, before] of this.#before) {
      const now = this.#items.get(key);
      if (!now) before && removed.push(before);
      else if (!before) added.push(now);
      else if (JSON.stringify(before.row) !== JSON.stringify(now.row)) changed.push(now);
    }
    this.#before.clear();
    if (added.length || changed.length || removed.length) {
      this.emit("change", { added, changed, removed });
    }
  }

  /**
   * @template T
   * @param {(item: Item) => T} what
   */
  #list(what) {
    return [...this.#items.values()].map(what);
  }
}
