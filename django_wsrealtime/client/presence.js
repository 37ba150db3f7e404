/** Who is in a topic, kept up from the list and its diffs. */

import { createEmitter } from "./emitter.js";

/** @typedef {{ id: string, name?: string, state?: Record<string, any> } & Record<string, any>} Member */

/** @param {(state: Record<string, any>) => void} set shows this to the others from now on */
export const createPresence = (set) => {
  const { on, emit } = createEmitter();
  /** @type {Map<string, Member>} */
  const all = new Map();
  const presence = {
    on,
    set,
    /** How many members there are; in crowds `members` is a sample of them. */
    count: 0,
    members: /** @type {Member[]} */ ([]),

    /** @param {Record<string, any>} frame */
    apply({ members, join = [], leave = [], state = [], count }) {
      if (members) all.clear();
      for (const member of [...(members ?? []), ...join, ...state]) {
        all.set(member.id, { ...all.get(member.id), ...member });
      }
      for (const id of leave) all.delete(id);
      presence.members = [...all.values()];
      presence.count = count ?? all.size;
      emit("change", { join, leave, state });
    },
  };
  return presence;
};
