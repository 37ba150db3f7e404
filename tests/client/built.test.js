/** The built files, over real sockets to a small server that keeps a log and loses connections. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { givePage, require } from "./support.js";

const { WebSocket, WebSocketServer } = require("ws");
const folder = new URL("../../django_wsrealtime/static/django_wsrealtime/", import.meta.url);
const read = (file) => readFileSync(new URL(file, folder), "utf8");

givePage();
globalThis.WebSocket = WebSocket;
Math.random = () => 0.01; // no need to wait
const { Realtime, RealtimeError } = await import(new URL("wsrealtime.js", folder));
const { default: ReconnectingWebSocket } = await import(new URL("websocket.js", folder));

const FILES = ["wsrealtime", "websocket"];
for (const name of FILES) {
  test(`${name}.js is one file, with its map, and touches no sink`, () => {
    const code = read(`${name}.js`);
    assert.doesNotMatch(code, /\bimport\b|\brequire\(|innerHTML|outerHTML|insertAdjacentHTML|\beval\b|new Function|document\.write/);
    assert.match(code, new RegExp(`//# sourceMappingURL=${name}\\.js\\.map\\n$`));
    const { sources, sourcesContent } = JSON.parse(read(`${name}.js.map`));
    assert.equal(sources.length, sourcesContent.length);
    assert.ok(sources.every((source) => source.startsWith("client/")), "no path of the machine it was built on");
    assert.doesNotMatch(read(`${name}.d.ts`), /\bimport\b/);
  });
}

test("wsrealtime.js is at most six kilobytes", () => {
  assert.ok(gzipSync(read("wsrealtime.js"), { level: 9 }).length <= 6144);
});

test("the lock file names no registry", () => {
  const lock = readFileSync(require.resolve("./package-lock.json"), "utf8");
  assert.doesNotMatch(lock, /"resolved"|https?:/);
});

/** A server that keeps one log per topic, answers as the protocol says, and can be hung up. */
class Server {
  log = [];
  sockets = new Set();
  calls = [];
  published = new Map();

  async listen(port = 0) {
    this.server = new WebSocketServer({ port, handleProtocols: (offered) => [...offered][0] });
    this.server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
      socket.on("message", (data, binary) => {
        if (binary) this.answer(socket, { type: "binary", bytes: data });
        else for (const line of `${data}`.split("\n")) this.answer(socket, JSON.parse(line));
      });
    });
    await once(this.server, "listening");
    this.port = this.server.address().port;
  }

  get rows() {
    const rows = new Map();
    for (const { data } of this.log) rows.set(data.pk, data.row);
    return { rows: [...rows].map(([pk, row]) => ({ pk, row })) };
  }

  send(socket, frame) {
    socket.send(JSON.stringify(frame));
  }

  join(socket, { topic, position, id }) {
    const here = { type: "subscribed", id, topic, epoch: "e", offset: this.log.length };
    if (!position) this.send(socket, { ...here, snapshot: this.rows });
    else this.send(socket, { ...here, recovered: true, events: this.log.slice(position.offset ?? 0) });
    socket.joined = true;
  }

  answer(socket, frame) {
    const { id } = frame;
    if (frame.type === "hello") {
      this.send(socket, { type: "welcome", sid: "s", v: 1, ping: 25_000, limits: { burst: 1000 }, user: null });
      for (const wanted of frame.subscriptions) this.join(socket, wanted);
    } else if (frame.type === "subscribe") this.join(socket, frame);
    else if (frame.type === "ping") this.send(socket, { type: "pong", ts: frame.ts });
    else if (frame.type === "call") {
      this.calls.push(frame);
      if (frame.action === "fail") this.send(socket, { type: "error", id, code: "forbidden", message: "No." });
      else if (frame.action !== "hang") this.send(socket, { type: "ok", id, data: frame.data });
    } else if (frame.type === "publish") {
      this.published.set(frame.key, frame.data);
      this.send(socket, { type: "ok", id });
    } else if (frame.type === "binary") {
      const bytes = frame.bytes;
      this.send(socket, { type: "ok", id: `${bytes.subarray(2 + 1 + bytes[2] + 1, 2 + 1 + bytes[2] + 1 + bytes[2 + 1 + bytes[2]])}` });
      this.bytes = bytes;
    }
  }

  append(pk, row) {
    const offset = this.log.length + 1;
    const event = { type: "event", topic: "orders/7", epoch: "e", offset, time: offset, kind: "row", event: "upsert", key: `${pk}`, data: { pk, row } };
    this.log.push(event);
    for (const socket of this.sockets) if (socket.joined) this.send(socket, event);
  }

  hangUp() {
    for (const socket of this.sockets) socket.terminate();
  }

  async close() {
    this.hangUp();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

const until = async (test, what) => {
  const end = Date.now() + 15_000;
  while (!test()) {
    assert.ok(Date.now() < end, `waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

const server = new Server();
await server.listen();
after(() => server.close());
const path = () => `ws://127.0.0.1:${server.port}/`;

test("every row, once and in order, through twenty lost connections", async () => {
  const rt = new Realtime({ path: path() });
  const orders = rt.collection("orders/7");
  const offsets = [];
  const page = rt.subscribe("orders/7", { position: { epoch: "e", offset: 0 } });
  page.on("upsert", (data, { offset }) => offsets.push(offset));
  await orders.ready;
  for (let n = 1; n <= 400; n++) {
    server.append(n % 37, { n });
    if (n % 20 === 0) {
      await until(() => rt.state === "open", "it is open again");
      server.hangUp();
    } else if (n % 5 === 0) await new Promise(setImmediate);
  }
  await until(() => offsets.length >= 400, "all events have come");
  assert.deepEqual(offsets, Array.from({ length: 400 }, (_, n) => n + 1));
  assert.deepEqual([...orders].sort(), server.rows.rows.map(({ pk, row }) => [pk, row]).sort());
  rt.close();
});

test("calls, publishes and bytes", async () => {
  const rt = new Realtime({ path: path() });
  const room = rt.subscribe("room/a", { since: null });
  assert.deepEqual(await room.call("echo", { a: 1 }), { a: 1 });
  await assert.rejects(room.call("fail"), (error) => error instanceof RealtimeError && error.code === "forbidden");
  await assert.rejects(room.call("hang", {}, { timeout: 50 }), { code: "unknown_outcome" });
  await room.publish("message", { text: "hi" });
  assert.deepEqual([...server.published.values()], [{ text: "hi" }]);
  await room.publishBytes("stroke", new Uint8Array([1, 2, 3]));
  assert.deepEqual([...server.bytes.subarray(-3)], [1, 2, 3]);
  assert.equal(rt.readyState, 1);
  assert.ok(rt.latency >= 0);
  rt.close();
});

test("a call with a key is sent again, one without is not", async () => {
  const rt = new Realtime({ path: path() });
  const room = rt.subscribe("room/a", { since: null });
  await room.ready;
  server.calls = [];
  const without = room.call("hang");
  const withKey = room.call("hang", {}, { key: "k", timeout: 2000 });
  await until(() => server.calls.length === 2, "both calls are there");
  server.hangUp();
  await assert.rejects(without, { code: "unknown_outcome" });
  await until(() => server.calls.length === 3, "one is there again");
  assert.equal(server.calls[2].key, "k");
  await assert.rejects(withKey, { code: "unknown_outcome" });
  rt.close();
});

test("websocket.js comes back by itself and loses nothing that waited", async () => {
  const echo = new WebSocketServer({ port: 0 });
  echo.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
  await once(echo, "listening");
  const socket = new ReconnectingWebSocket(`ws://127.0.0.1:${echo.address().port}/`);
  const heard = [];
  socket.onmessage = ({ data }) => heard.push(data);
  let opened = 0;
  socket.addEventListener("open", () => opened++);
  socket.send("early");
  await until(() => heard.length === 1, "the first has come back");
  for (const client of echo.clients) client.terminate();
  await until(() => socket.readyState === 0, "the loss is noticed");
  socket.send("meanwhile");
  assert.equal(socket.bufferedAmount, 9);
  await until(() => heard.length === 2, "the second has come back");
  assert.deepEqual(heard, ["early", "meanwhile"]);
  assert.equal(opened, 2);
  const closed = once(socket, "close");
  socket.close(3001, "done");
  await closed;
  assert.equal(socket.readyState, 3);
  await new Promise((resolve) => echo.close(resolve));
});
