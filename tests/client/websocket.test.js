/** The drop-in, over fake sockets. */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { afterEach, beforeEach, mock, test } from "node:test";
import { FakeSocket, giveClock, givePage, settled } from "./support.js";

givePage();
globalThis.WebSocket = FakeSocket;
const { ReconnectingWebSocket } = await import("../../django_wsrealtime/client/websocket.js");

let page, clock, socket, log;

beforeEach(() => {
  page = givePage();
  clock = giveClock();
  FakeSocket.reset();
  mock.method(Math, "random", () => 1);
  log = [];
});
afterEach(() => {
  socket?.close();
  clock.restore();
  mock.restoreAll();
});

const make = (options, url = "/echo/") => {
  socket = new ReconnectingWebSocket(url, ["chat"], options);
  for (const name of ["open", "message", "error", "close"]) {
    socket.addEventListener(name, (event) => log.push([name, event.data ?? event.code].filter((x) => x !== undefined)));
  }
  return socket;
};

test("constructor and constants are the browser's", () => {
  make();
  assert.equal(FakeSocket.last.url, "ws://example.test/echo/");
  assert.deepEqual(FakeSocket.last.protocols, ["chat"]);
  assert.equal(socket.url, "ws://example.test/echo/");
  assert.deepEqual([socket.CONNECTING, socket.OPEN, socket.CLOSING, socket.CLOSED], [0, 1, 2, 3]);
  assert.deepEqual([ReconnectingWebSocket.CONNECTING, ReconnectingWebSocket.CLOSED], [0, 3]);
  assert.equal(socket.binaryType, "blob");
});

test("what the browser refuses it refuses, at once", () => {
  FakeSocket.refuse = true;
  assert.throws(() => new ReconnectingWebSocket("/echo/"), { name: "SecurityError" });
  assert.equal(FakeSocket.made.length, 0);
});

test("a page may replace the browser's WebSocket with it", () => {
  const native = globalThis.WebSocket;
  globalThis.WebSocket = ReconnectingWebSocket;
  make();
  assert.equal(FakeSocket.made.length, 1);
  globalThis.WebSocket = native;
});

test("it opens, hears, loses, and comes back", async () => {
  make();
  assert.equal(socket.readyState, 0);
  FakeSocket.last.accept();
  assert.equal(socket.readyState, 1);
  FakeSocket.last.onmessage({ data: "hi" });
  FakeSocket.last.die();
  assert.equal(socket.readyState, 0);
  await settled();
  clock.pass(500);
  FakeSocket.last.accept();
  assert.deepEqual(log, [["open"], ["message", "hi"], ["error"], ["close", 1006], ["open"]]);
});

test("on-handlers and listeners both hear, whatever one of them throws", () => {
  make();
  const heard = [];
  socket.onopen = () => {
    heard.push("handler");
    throw new Error("mine");
  };
  socket.addEventListener("open", () => heard.push("listener"));
  FakeSocket.last.accept();
  assert.deepEqual(heard, ["handler", "listener"]);
  assert.equal(page.errors.length, 1);
});

test("what is sent without a link waits, in order; what does not fit is an error", () => {
  make({ queue: 2 });
  socket.send("a");
  const bytes = new Uint8Array([1]);
  socket.send(bytes);
  bytes[0] = 9;
  assert.equal(socket.bufferedAmount, 2);
  assert.throws(() => socket.send("c"), { name: "InvalidStateError" });
  FakeSocket.last.accept();
  assert.equal(FakeSocket.last.sent[0], "a");
  assert.equal(FakeSocket.last.sent.length, 2);
  assert.equal(socket.bufferedAmount, 0);
  socket.send("c");
  assert.equal(FakeSocket.last.sent[2], "c");
});

test("64 KiB wait at most", () => {
  make();
  socket.send("x".repeat(65_536));
  assert.throws(() => socket.send("y"), { name: "InvalidStateError" });
});

test("binaryType reaches every socket", () => {
  make();
  socket.binaryType = "arraybuffer";
  assert.equal(FakeSocket.last.binaryType, "arraybuffer");
  socket.binaryType = "nonsense";
  assert.equal(socket.binaryType, "arraybuffer");
  FakeSocket.last.die();
  clock.pass(500);
  assert.equal(FakeSocket.last.binaryType, "arraybuffer");
});

test("close() is for good, and its event comes later", async () => {
  make();
  FakeSocket.last.accept();
  const inner = FakeSocket.last;
  socket.close(3001, "done");
  assert.deepEqual(inner.closed, { code: 3001, reason: "done" });
  assert.deepEqual(log, [["open"]]);
  await settled();
  assert.deepEqual(log, [["open"], ["close", 3001]]);
  assert.equal(socket.readyState, 3);
  page.window.dispatchEvent(new Event("online"));
  clock.pass(600_000);
  assert.equal(FakeSocket.made.length, 1);
  socket.send("into the void");
});

test("what is over listens to the page no longer", () => {
  make();
  assert.ok(getEventListeners(page.window, "focus").length);
  FakeSocket.last.accept();
  FakeSocket.last.die(1000);
  assert.equal(getEventListeners(page.window, "focus").length, 0);
});

test("close() takes what the browser's takes", () => {
  make();
  FakeSocket.last.accept();
  for (const code of [0, 999, 1001, 1006, 2999, 5000]) {
    assert.throws(() => socket.close(code), { name: "InvalidAccessError" });
  }
  assert.throws(() => socket.close(1000, "€".repeat(42)), { name: "SyntaxError" });
  assert.equal(socket.readyState, 1);
});

for (const [code, again] of [[1000, false], [1001, true], [1006, true], [1008, false], [1011, true], [4000, true], [4403, false]]) {
  test(`closed by the server with ${code}: ${again ? "comes back" : "stays away"}`, () => {
    make();
    FakeSocket.last.accept();
    FakeSocket.last.die(code);
    assert.equal(socket.readyState, again ? 0 : 3);
    clock.pass(60_000);
    assert.equal(FakeSocket.made.length > 1, again);
  });
}

test("the page may decide that itself", () => {
  make({ shouldReconnect: ({ code }) => code === 1000 });
  FakeSocket.last.accept();
  FakeSocket.last.die(1000);
  clock.pass(500);
  FakeSocket.last.die(1006);
  clock.pass(60_000);
  assert.equal(FakeSocket.made.length, 2);
});

test("heartbeat: after silence it asks, without an answer the link is dead", () => {
  make({ heartbeat: { message: "ping", answer: "pong", interval: 10_000 } });
  FakeSocket.last.accept();
  clock.pass(10_000);
  assert.deepEqual(FakeSocket.last.sent, ["ping"]);
  FakeSocket.last.onmessage({ data: "pong" });
  clock.pass(10_000);
  assert.deepEqual(FakeSocket.last.sent, ["ping", "ping"]);
  clock.pass(5000);
  assert.equal(socket.readyState, 0);
  assert.deepEqual(log, [["open"]], "answers are not shown");
});

test("without a heartbeat silence is just silence", () => {
  make();
  FakeSocket.last.accept();
  clock.pass(3_600_000);
  page.window.dispatchEvent(new Event("focus"));
  page.window.dispatchEvent(new Event("offline"));
  clock.pass(3_600_000);
  assert.deepEqual(FakeSocket.last.sent, []);
  assert.equal(socket.readyState, 1);
});

test("the back/forward cache gets no socket, and the page one when it returns", () => {
  make();
  FakeSocket.last.accept();
  page.window.dispatchEvent(Object.assign(new Event("pagehide"), { persisted: true }));
  assert.ok(FakeSocket.last.closed);
  page.window.dispatchEvent(new Event("pageshow"));
  assert.equal(FakeSocket.made.length, 2);
});
