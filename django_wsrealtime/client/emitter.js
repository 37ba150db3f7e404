/** Named events with handlers that cannot hurt each other. */

/** @typedef {ReturnType<typeof createEmitter>} Emitter */

export const createEmitter = () => {
  /** @type {Map<string, Set<(...args: any[]) => void>>} */
  const all = new Map();

  return {
    /**
     * @param {string} name
     * @param {(...args: any[]) => void} handler
     * @returns {() => void} takes the handler away again
     */
    on(name, handler) {
      const handlers = all.get(name) ?? new Set();
      all.set(name, handlers.add(handler));
      return () => void handlers.delete(handler);
    },

    /**
     * A handler that throws is reported to `window.onerror`; the others still run.
     *
     * @param {string} name
     * @param {...any} args
     */
    emit(name, ...args) {
      for (const handler of [...(all.get(name) ?? [])]) {
        try {
          handler(...args);
        } catch (error) {
          reportError(error);
        }
      }
    },
  };
};
