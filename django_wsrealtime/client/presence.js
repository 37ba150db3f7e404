/** Who is in a topic, kept up from the list and its diffs. */

import { Emitter } from "./emitter.js";

/** @typedef {{ id: string, name?: string, state?: Record<string, any> } & Record<string, any>} Member */

export class Presence extends Emitter {
  /** How many members there are; in crowds `members` is a sample of them. */
  count = 0;
  /** @type {Map<string, Member>} */
  #members = new Map();
  #set;

  /** @param {(state: Record<string, any>) => void} set */
  constructor(set) {
    super();
    this.#set = set;
  }

  /** @returns {Member[]} */
  get members() {
    return [...this.#members.values()];
  }

  /**
   * Show this to the other members, until it is set to something else.
   *
   * @param {Record<string, any>} state
   */
  set(state) {
    this.#set(state);
  }

  /** @param {import("./session.js").Frame} frame */
  apply({ members, join = [], leave = [], state = [], count }) {
    if (members) this.#members.clear();
    for (const member of [...(members ?? []), ...join]) this.#members.set(member.id, member);
    for (const id of leave) this.#members.delete(id);
    for (const change of state) {
      const member = this.#members.get(change.id);
      if (member) this.#members.set(change.id, { ...member, ...change });
    }
    this.count = count ?? this.#members.size;
    this.emit("change", { members: this.members, count: this.count, join, leave });
  }

  /** Nobody is known to be here. */
  clear() {
    this.#members.clear();
    this.count = 0;
  }
}
