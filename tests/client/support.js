/** A page's globals for tests in Node, and a socket that does what the test says. */

import { createRequire } from "node:module";
import { mock } from "node:test";

export const require = createRequire(
  new URL("../../django_wsrealtime/client/package.json", import.meta.url),
);

/** Puts a page around the code under test; returns what tests pull its strings with. */
export function givePage() {
  const document = Object.assign(new EventTarget(), {
    hidden: false,
    documentElement: { dataset: {} },
    querySelector: () => null,
  });
  const window = new EventTarget();
  const navigator = { onLine: true };
  const errors = [];
  const globals = {
    document,
    window,
    location: { href: "http://example.test/shop/", origin: "http://example.test" },
    reportError: (error) => errors.push(error),
    CustomEvent: class extends Event {
      constructor(name, { detail }) {
        super(name);
        this.detail = detail;
      }
    },
    CloseEvent: class extends Event {
      constructor(name, init) {
        super(name);
        Object.assign(this, init);
      }
    },
    HTMLElement: class {},
    customElements: { define() {} },
  };
  Object.assign(globalThis, globals);
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
  return { document, window, navigator, errors };
}

/** Replaces WebSocket; `made` holds every one that was dialled. */
export class FakeSocket {
  static made = [];
  static refuse = false;

  readyState = 0;
  bufferedAmount = 0;
  protocol = "";
  extensions = "";
  sent = [];
  closed = undefined;

  constructor(url, protocols) {
    if (FakeSocket.refuse) throw new DOMException("No.", "SecurityError");
    Object.assign(this, { url, protocols });
    FakeSocket.made.push(this);
  }

  static get last() {
    return FakeSocket.made.at(-1);
  }

  static reset() {
    FakeSocket.made = [];
    FakeSocket.refuse = false;
  }

  send(message) {
    this.sent.push(message);
  }

  close(code, reason) {
    this.closed = { code, reason };
    this.readyState = 2;
  }

  // --- what the other end does ---

  accept() {
    this.readyState = 1;
    this.onopen?.({});
  }

  say(...frames) {
    this.onmessage?.({ data: frames.map((frame) => JSON.stringify(frame)).join("\n") });
  }

  /** A welcome, after whatever hello it was. */
  welcome(limits = {}) {
    this.accept();
    this.say({ type: "welcome", sid: "s", v: 1, ping: 25_000, limits, user: null });
  }

  die(code = 1006, reason = "", wasClean = code !== 1006) {
    this.readyState = 3;
    this.onclose?.({ code, reason, wasClean });
  }

  /** The frames that were sent, without heartbeats. */
  get frames() {
    return this.sent
      .filter((message) => typeof message === "string")
      .map((message) => JSON.parse(message))
      .filter(({ type }) => type !== "ping");
  }

  get pings() {
    return this.sent.filter((message) => JSON.parse(message).type === "ping").length;
  }
}

/** Fake clock and timers; `sleep` lets time pass while no timer runs, as on a closed laptop. */
export function giveClock() {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  return {
    pass: (ms) => mock.timers.tick(ms),
    sleep(ms) {
      mock.timers.setTime(Date.now() + ms - 1);
      mock.timers.tick(1);
    },
    restore: () => mock.timers.reset(),
  };
}

/** Let promises settle. */
export const settled = async () => {
  for (let turn = 0; turn < 20; turn++) await null;
};
