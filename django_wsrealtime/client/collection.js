/** The rows of a `ModelStream` by primary key, always as the database has them. */

import { createEmitter } from "./emitter.js";

/** @typedef {string | number} Key */
/** @typedef {Record<string, any>} Row */
/** @typedef {{ pk: Key, row: Row }} Item */
/** @typedef {{ epoch: string, offset: number, snapshot?: { rows: Item[] } }} Snapshot */

/** @extends {Map<Key, Row>} */
export class Collection extends Map {
  #events = createEmitter();
  on = this.#events.on;
  /** What was touched since the last `change`, as it was before. @type {Map<Key, Row | undefined>} */
  #before = new Map();
  /** Where the snapshot stands that the rows began with. @type {any} */
  #head;
  /** @type {(collection: Collection) => void} */
  #loaded = () => {};

  /**
   * @param {{ topic: string, ready: Promise<any> }} subscription
   * @param {() => void} close follows the topic no longer; what is here stays as it is
   */
  constructor({ topic, ready }, close) {
    super();
    this.topic = topic;
    this.close = close;
    /** Resolves when the first snapshot is there, rejects when the server refuses. */
    this.ready = new Promise((resolve, reject) => {
      this.#loaded = resolve;
      ready.catch(reject);
    });
    this.ready.catch(() => {});
  }

  /** @param {import("./topic.js").Frame} frame */
  event({ kind, event, data, epoch, offset }) {
    const head = this.#head;
    // What members publish is of kind `client`, whatever they call it.
    if (kind === "row" && !(head?.epoch === epoch && offset <= head.offset)) {
      this.#put(data.pk, event === "upsert" ? data.row : undefined);
    }
  }

  /** @param {Snapshot} head */
  reload(head) {
    this.#head = head;
    const rows = new Map(head.snapshot?.rows.map(({ pk, row }) => [pk, row]));
    for (const pk of [...this.keys(), ...rows.keys()]) this.#put(pk, rows.get(pk));
    this.#loaded(this);
  }

  /**
   * @param {Key} pk
   * @param {Row} [row]
   */
  #put(pk, row) {
    if (!this.#before.size) queueMicrotask(() => this.#tell());
    if (!this.#before.has(pk)) this.#before.set(pk, this.get(pk));
    if (row) this.set(pk, row);
    else this.delete(pk);
  }

  /** One `change` for all that one message brought. */
  #tell() {
    /** @type {Item[][]} */
    const [added, changed, removed] = [[], [], []];
    for (const [pk, before] of this.#before) {
      const now = this.get(pk);
      const row = now ?? before;
      if (row && JSON.stringify(before) !== JSON.stringify(now)) {
        (!now ? removed : before ? changed : added).push({ pk, row });
      }
    }
    this.#before.clear();
    if (added.length + changed.length + removed.length) {
      this.#events.emit("change", { added, changed, removed });
    }
  }
}
