/** What the browser tells about the page, turned into what a connection should do about it. */

/**
 * @param {{ wake(): void, probe(ms: number): void, suspend(): void, noticed(): void }} connection
 * @param {AddEventListenerOptions} [options] a signal ends it
 */
export const follow = (connection, options) => {
  /**
   * @param {EventTarget} target
   * @param {string} names
   * @param {(event: any) => void} handler
   */
  const on = (target, names, handler) => {
    for (const name of names.split(" ")) target.addEventListener(name, handler, options);
  };
  on(document, "visibilitychange", () => document.hidden || connection.wake());
  on(document, "resume", connection.wake);
  on(window, "focus online pageshow", connection.wake);
  on(window, "online offline", connection.noticed);
  on(window, "offline", () => connection.probe(2000));
  // A page in the back/forward cache would hold the server's connection for over a minute.
  on(document, "freeze", connection.suspend);
  on(window, "pagehide", (event) => event.persisted && connection.suspend());
};

export const isOffline = () => !navigator.onLine;

/** Whether nobody looks, or nothing can be reached. */
export const isIdle = () => document.hidden || isOffline();
