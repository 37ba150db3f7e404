/** The page's object, over fake sockets. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { createRealtime } from "../../django_wsrealtime/client/realtime.js";
import { FakeSocket, giveClock, givePage, settled } from "./support.js";

let page, clock, rt, log, fetched;

beforeEach(() => {
  page = givePage();
  clock = giveClock();
  FakeSocket.reset();
  globalThis.WebSocket = FakeSocket;
  mock.method(Math, "random", () => 0.5);
  fetched = [];
  globalThis.fetch = async (url, init = {}) => {
    fetched.push([url, init]);
    const answer = url.endsWith("/csrf/") ? { token: "t0" } : { grants: ["new"] };
    return { ok: true, json: async () => answer };
  };
  rt = createRealtime({ path: "/live/ws/", prefix: "/live", since: "1700" });
  log = [];
  rt.on("*", (name, detail) => log.push(detail === undefined ? name : [name, detail]));
});

afterEach(() => {
  rt.close();
  clock.restore();
  mock.restoreAll();
});

const names = () => log.map((entry) => (Array.isArray(entry) ? entry[0] : entry));
const states = () => log.filter(([name]) => name === "state").map(([, state]) => state);
const subscribed = (topic, offset, more) => ({ type: "subscribed", topic, epoch: "e", offset, ...more });
const event = (topic, offset, data, more) => ({ type: "event", topic, epoch: "e", offset, kind: "app", event: "message", data, time: 1, ...more });
const live = (topic = "room/a", options) => {
  const room = rt.subscribe(topic, options);
  FakeSocket.last.welcome();
  FakeSocket.last.say(subscribed(topic, 0, { recovered: true }));
  return room;
};

test("the first wish opens it, with the protocol and the address of the page", () => {
  assert.equal(rt.state, "connecting");
  assert.equal(rt.readyState, 0);
  rt.subscribe("room/a");
  const { url, protocols, binaryType } = FakeSocket.last;
  assert.equal(url, "ws://example.test/live/ws/");
  assert.equal(protocols, "wsrealtime.v1.json");
  assert.equal(binaryType, "arraybuffer");
});

test("open begins with the welcome, not with the socket", () => {
  rt.open();
  FakeSocket.last.accept();
  assert.equal(rt.state, "connecting");
  FakeSocket.last.say({ type: "welcome", sid: "s", v: 1, ping: 25_000, limits: {}, user: { id: "5", name: "Ada" } });
  assert.equal(rt.state, "open");
  assert.equal(rt.readyState, 1);
  assert.deepEqual(rt.user, { id: "5", name: "Ada" });
});

test("states, as pages see them", () => {
  rt.open();
  FakeSocket.last.welcome();
  FakeSocket.last.die();
  page.navigator.onLine = false;
  page.window.dispatchEvent(new Event("offline"));
  page.navigator.onLine = true;
  page.window.dispatchEvent(new Event("online"));
  FakeSocket.last.welcome();
  rt.close();
  assert.deepEqual(states(), ["connecting", "open", "reconnecting", "offline", "reconnecting", "open", "closed"]);
  assert.equal(rt.readyState, 3);
  assert.ok(names().includes("open") && names().includes("close") && names().includes("reconnecting"));
});

test("before the first open a lost try is a reconnect", () => {
  rt.open();
  FakeSocket.last.die();
  assert.equal(rt.state, "reconnecting");
  clock.pass(500);
  assert.equal(rt.state, "connecting");
});

test("a subscription starts from the time of the page, unless told otherwise", () => {
  rt.subscribe("a");
  rt.subscribe("b", { since: "99" });
  rt.subscribe("c", { since: null });
  rt.subscribe("d", { position: { epoch: "e", offset: 3 }, grant: "g" });
  FakeSocket.last.accept();
  assert.deepEqual(FakeSocket.last.frames[0].subscriptions, [
    { topic: "a", position: { since: "1700" } },
    { topic: "b", position: { since: "99" } },
    { topic: "c" },
    { topic: "d", grant: "g", position: { epoch: "e", offset: 3 } },
  ]);
});

test("handlers hear events with their meta, and * hears all", async () => {
  const room = live();
  await room.ready;
  const heard = [];
  const undo = room.on("message", (data, { kind, offset, time, from }) => heard.push([data, kind, offset, time, from]));
  room.on("*", (data, meta) => heard.push(`* ${meta.event}`));
  const from = { id: "5", name: "Ada" };
  FakeSocket.last.say(event("room/a", 1, "hi", { kind: "client", from }));
  undo();
  FakeSocket.last.say(event("room/a", 2, "ho"));
  assert.deepEqual(heard, [["hi", "client", 1, 1, from], "* message", "* message"]);
  assert.equal(log.filter(([name]) => name === "event").length, 2);
});

test("no event of a member can be taken for one of ours", () => {
  const room = live();
  const heard = [];
  for (const name of ["reset", "snapshot", "error", "*"]) room.on(name, (data, meta) => heard.push([name, meta?.event]));
  FakeSocket.last.say(event("room/a", 1, { snapshot: "forged" }, { kind: "client", event: "reset" }));
  FakeSocket.last.say(event("room/a", 2, {}, { kind: "client", event: "snapshot" }));
  FakeSocket.last.say(event("room/a", 3, {}, { kind: "client", event: "error" }));
  FakeSocket.last.say(event("room/a", 4, {}, { kind: "client", event: "*" }));
  assert.deepEqual(heard, [["*", "reset"], ["*", "snapshot"], ["*", "error"], ["*", "*"]]);
});

test("a tab does not hear its own echo, but its rows it takes", async () => {
  const room = live();
  const heard = [];
  room.on("*", (data) => heard.push(data));
  FakeSocket.last.say(event("room/a", 1, "mine", { origin: rt.tab }), event("room/a", 2, "theirs", { origin: "x" }));
  assert.deepEqual(heard, ["theirs"]);
  const rows = rt.collection("orders/7");
  const { id } = FakeSocket.last.frames.at(-1);
  FakeSocket.last.say(subscribed("orders/7", 1, { id, snapshot: { rows: [] } }));
  FakeSocket.last.say(event("orders/7", 2, { pk: 1, row: { v: 1 } }, { kind: "row", event: "upsert", origin: rt.tab }));
  assert.deepEqual(rows.get(1), { v: 1 });
});

test("a reset is an event the page can see", () => {
  const room = live();
  let reset;
  room.on("reset", (detail) => (reset = detail));
  FakeSocket.last.say({ type: "reset", topic: "room/a", epoch: "f", offset: 9, reason: "epoch", after: 500, snapshot: { messages: [] } });
  assert.equal(reset.reason, "epoch");
  assert.deepEqual(reset.snapshot, { messages: [] });
  assert.ok(names().includes("reset"));
});

test("call resolves with the answer, and rejects with a RealtimeError", async () => {
  const room = live();
  const good = room.call("mark_ready", { order_id: 5 });
  const { id, action, data } = FakeSocket.last.frames.at(-1);
  assert.deepEqual([action, data], ["mark_ready", { order_id: 5 }]);
  FakeSocket.last.say({ type: "ok", id, data: { ready: true } });
  assert.deepEqual(await good, { ready: true });
  const bad = room.call("mark_ready");
  FakeSocket.last.say({ type: "error", id: id + 1, code: "rate_limited", message: "Slower.", retry_after: 300 });
  await assert.rejects(bad, { name: "RealtimeError", code: "rate_limited", message: "Slower.", retryAfter: 300 });
});

test("a call times out by itself", async () => {
  const room = live();
  const call = room.call("slow", {}, { timeout: 5000 });
  clock.pass(5100);
  await assert.rejects(call, { code: "unknown_outcome" });
});

test("a call that was sent when the link died is not repeated", async () => {
  const room = live();
  const call = room.call("pay");
  FakeSocket.last.die();
  await assert.rejects(call, { code: "unknown_outcome" });
  clock.pass(1000);
  FakeSocket.last.welcome();
  FakeSocket.last.say(subscribed("room/a", 0, { recovered: true }));
  assert.ok(!FakeSocket.last.frames.some(({ type }) => type === "call"));
});

test("calls made while offline wait, and what overflows is rejected", async () => {
  const room = live();
  FakeSocket.last.die();
  const calls = Array.from({ length: 256 }, (_, n) => room.call("x", { n }));
  await assert.rejects(room.call("more"), { code: "overflow" });
  assert.ok(rt.bufferedAmount > 1000);
  clock.pass(1000);
  FakeSocket.last.welcome({ messages_per_second: 1000, burst: 1000 });
  FakeSocket.last.say(subscribed("room/a", 0, { recovered: true }));
  for (const { id, data } of FakeSocket.last.frames.filter(({ type }) => type === "call")) {
    FakeSocket.last.say({ type: "ok", id, data: data.n });
  }
  assert.deepEqual(await Promise.all(calls), Array.from({ length: 256 }, (_, n) => n));
});

test("whispers are dropped when the link is slow or gone", () => {
  const room = live();
  const whispers = () => FakeSocket.last.frames.filter(({ type }) => type === "whisper").length;
  room.whisper("typing", {});
  assert.equal(whispers(), 1);
  FakeSocket.last.bufferedAmount = 65_537;
  room.whisper("typing", {});
  assert.equal(whispers(), 1);
  assert.equal(rt.bufferedAmount, 65_537);
  FakeSocket.last.bufferedAmount = 0;
  FakeSocket.last.die();
  room.whisper("typing", {});
  clock.pass(1000);
  FakeSocket.last.welcome();
  FakeSocket.last.say(subscribed("room/a", 0, { recovered: true }));
  assert.equal(whispers(), 0);
});

test("marks are acknowledged before the handler returns", () => {
  rt.open();
  FakeSocket.last.welcome();
  FakeSocket.last.say({ type: "mark", n: "m1" });
  assert.deepEqual(FakeSocket.last.frames.at(-1), { type: "ack", n: "m1" });
  FakeSocket.last.say({ type: "ping" });
  assert.deepEqual(FakeSocket.last.frames.at(-1), { type: "pong" });
});

test("latency is measured when it opens", () => {
  rt.open();
  FakeSocket.last.welcome();
  const { ts } = JSON.parse(FakeSocket.last.sent.at(-1));
  clock.pass(42);
  FakeSocket.last.say({ type: "pong", ts });
  assert.equal(rt.latency, 42);
  assert.deepEqual(log.at(-1), ["latency", 42]);
});

test("one subscription per topic, left when nobody needs it", () => {
  const room = live();
  assert.equal(rt.subscribe("room/a"), room);
  const rows = rt.collection("room/a");
  assert.equal(rt.collection("room/a"), rows);
  room.unsubscribe();
  assert.ok(!FakeSocket.last.frames.some(({ type }) => type === "unsubscribe"));
  rows.close();
  assert.equal(FakeSocket.last.frames.at(-1).type, "unsubscribe");
  assert.notEqual(rt.subscribe("room/a"), room);
});

test("what is left of a refused subscription does not end its successor", async () => {
  const room = rt.subscribe("room/a");
  FakeSocket.last.welcome();
  FakeSocket.last.say({ type: "error", topic: "room/a", code: "forbidden", message: "No." });
  await assert.rejects(room.ready, { code: "forbidden" });
  const next = rt.subscribe("room/a");
  assert.notEqual(next, room);
  room.unsubscribe();
  assert.ok(!FakeSocket.last.frames.some(({ type }) => type === "unsubscribe"));
});

const verdicts = [
  [1000, 0, "reconnecting"], [1001, 0, "reconnecting"], [1005, 0, "reconnecting"], [1006, 0, "reconnecting"],
  [1011, 0, "reconnecting"], [1012, 0, "reconnecting"], [1015, 0, "reconnecting"], [1009, 0, "reconnecting"],
  [4001, 0, "reconnecting"], [4002, 0, "reconnecting"], [4003, 0, "reconnecting"], [4008, 0, "reconnecting"], [4012, 0, "reconnecting"],
  [1013, 35_000, "reconnecting"], [4013, 35_000, "reconnecting"], [4029, 35_000, "reconnecting"],
  [1002, 0, "closed"], [1003, 0, "closed"], [1007, 0, "closed"], [1008, 0, "closed"], [1010, 0, "closed"],
  [4400, 0, "closed"], [4401, 0, "closed"], [4403, 0, "closed"], [4502, 0, "closed"], [4503, 0, "closed"], [4504, 0, "closed"], [4599, 0, "closed"],
  [4600, 0, "reconnecting"], [3000, 0, "reconnecting"],
];
for (const [code, least, state] of verdicts) {
  test(`close code ${code}: ${state}${least ? `, after 10 to 60 s` : ""}`, () => {
    rt.open();
    FakeSocket.last.welcome();
    FakeSocket.last.die(code);
    assert.equal(rt.state, state);
    clock.pass(Math.max(0, least - 1));
    if (least) assert.equal(FakeSocket.made.length, 1);
    clock.pass(least ? 1 : 1000);
    assert.equal(FakeSocket.made.length, state === "closed" ? 1 : 2);
  });
}

test("the farewell's word goes before the table", () => {
  rt.open();
  FakeSocket.last.welcome();
  FakeSocket.last.say({ type: "bye", code: 1000, reason: "normal", reconnect: false });
  FakeSocket.last.die(1006);
  assert.equal(rt.state, "closed");
  const close = log.find(([name]) => name === "close")[1];
  assert.deepEqual(close, { code: 1000, reason: "normal", reconnect: false });
});

test("restarting: anywhere within `after`; other codes: not before it", () => {
  for (const [code, delay] of [[4012, 5000], [4001, 15_000]]) {
    FakeSocket.reset();
    const other = createRealtime();
    other.open();
    FakeSocket.last.welcome();
    FakeSocket.last.say({ type: "bye", code, reason: "", reconnect: true, after: 10_000 });
    FakeSocket.last.die(code);
    clock.pass(delay - 1);
    assert.equal(FakeSocket.made.length, 1);
    clock.pass(1);
    assert.equal(FakeSocket.made.length, 2);
    other.close();
  }
});

test("41xx: the grants are renewed, then it dials", async () => {
  rt.subscribe("room/a", { grant: "old" });
  FakeSocket.last.welcome();
  FakeSocket.last.die(4101);
  assert.equal(FakeSocket.made.length, 1);
  await settled();
  clock.pass(500);
  const [[csrf], [url, { method, headers, body }]] = fetched;
  assert.equal(csrf, "/live/csrf/");
  assert.deepEqual([url, method, headers["X-CSRFToken"], body], ["/live/renew/", "POST", "t0", '{"grants":["old"]}']);
  assert.equal(FakeSocket.made.length, 2);
  FakeSocket.last.accept();
  assert.equal(FakeSocket.last.frames[0].subscriptions[0].grant, "new");
});

test("41xx: without grants nothing is fetched; without an answer the old ones are tried", async () => {
  globalThis.fetch = async () => {
    throw new TypeError("network");
  };
  rt.subscribe("room/a", { grant: "old" });
  FakeSocket.last.welcome();
  FakeSocket.last.die(4102);
  await settled();
  clock.pass(500);
  FakeSocket.last.accept();
  assert.equal(FakeSocket.last.frames[0].subscriptions[0].grant, "old");
});

test("the end: subscriptions are refused, calls are rejected, open() begins again", async () => {
  const room = rt.subscribe("room/a");
  const call = room.call("x");
  FakeSocket.last.welcome();
  FakeSocket.last.say({ type: "bye", code: 4401, reason: "not authenticated", reconnect: false });
  FakeSocket.last.die(4401);
  await assert.rejects(room.ready, { code: "closed" });
  await assert.rejects(call, { code: "closed" });
  assert.ok(names().includes("error"));
  rt.open();
  FakeSocket.last.welcome();
  assert.equal(rt.state, "open");
  assert.equal(FakeSocket.last.frames[0].subscriptions.length, 1);
});

test("close() ends it for good, until open(); what is asked for meanwhile waits its minute", async () => {
  const room = live();
  const call = room.call("x");
  rt.close();
  await assert.rejects(call, { code: "unknown_outcome" });
  const late = room.call("y");
  const later = room.call("z", {}, { timeout: 700_000 });
  page.window.dispatchEvent(new Event("focus"));
  clock.pass(61_000);
  await assert.rejects(late, { code: "timeout" });
  await assert.rejects(later, { code: "timeout" });
  assert.equal(FakeSocket.made.length, 1);
  const soon = room.call("x");
  rt.open();
  FakeSocket.last.welcome();
  assert.deepEqual(FakeSocket.last.frames[0].subscriptions, [{ topic: "room/a", position: { epoch: "e", offset: 0 } }]);
  FakeSocket.last.say(subscribed("room/a", 0, { recovered: true }));
  FakeSocket.last.say({ type: "ok", id: FakeSocket.last.frames.at(-1).id, data: 1 });
  assert.equal(await soon, 1);
});

test("bytes go out as they are, whatever holds them", async () => {
  const room = live();
  for (const bytes of [new Uint8Array([1, 2]).buffer, new Uint8Array([0, 1, 2]).subarray(1), new Blob([new Uint8Array([1, 2])])]) {
    room.publishBytes("stroke", bytes).catch(() => {});
    const message = new Uint8Array(await FakeSocket.last.sent.at(-1).arrayBuffer());
    assert.deepEqual([...message.slice(0, 2)], [1, 3]);
    assert.deepEqual([...message.slice(-3)], [0, 1, 2]);
  }
});
