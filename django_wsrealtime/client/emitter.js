/** Named events with handlers that cannot hurt each other. */

export class Emitter {
  /** @type {Map<string, Set<(...args: any[]) => void>>} */
  #handlers = new Map();

  /**
   * @param {string} name
   * @param {(...args: any[]) => void} handler
   * @returns {() => void} takes the handler away again
   */
  on(name, handler) {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  /**
   * A handler that throws is reported to `window.onerror`; the others still run.
   *
   * @param {string} name
   * @param {...any} args
   */
  emit(name, ...args) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        handler(...args);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  /** Forget every handler. */
  clear() {
    this.#handlers.clear();
  }
}
