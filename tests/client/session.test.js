/** What the transcripts do not show: bounds, pacing, and what must not happen. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { createSession } from "../../django_wsrealtime/client/session.js";

let session, now, sent, told, settled;

beforeEach(() => {
  now = 0;
  sent = [];
  told = [];
  settled = [];
  const effects = {
    send: (message) => sent.push(typeof message === "string" ? JSON.parse(message) : message),
    about: (topic, what, detail) => told.push([what, detail]),
    settle: (tag, fault, data) => settled.push([tag, fault?.code ?? data]),
  };
  session = createSession({ tab: "t" }, (what, ...details) => effects[what]?.(...details), () => now, () => 0.5);
});

const receive = (...frames) => {
  session.receive(frames.map((frame) => JSON.stringify(frame)).join("\n"));
  session.tick();
};
const welcome = (limits = {}) => {
  session.opened();
  receive({ type: "welcome", sid: "s", v: 1, ping: 25_000, limits, user: null });
};
const call = (tag, more = {}, timeout) => {
  session.request({ type: "call", topic: "a", action: "x", data: {}, ...more }, tag, timeout);
  session.tick();
};
const join = (topic = "a") => {
  session.subscribe(topic);
  session.tick();
  receive({ type: "subscribed", id: sent.at(-1).id, topic, epoch: "e", offset: 0 });
};

test("256 messages wait; the next is refused at once", () => {
  for (let n = 0; n < 256; n++) call(n);
  assert.deepEqual(settled, []);
  call("more");
  assert.deepEqual(settled, [["more", "overflow"]]);
});

test("64 KiB wait; what does not fit is refused at once", () => {
  call("a", { data: "x".repeat(40_000) });
  call("b", { data: "x".repeat(30_000) });
  call("c", { data: "x".repeat(20_000) });
  assert.deepEqual(settled, [["b", "overflow"]]);
  assert.ok(session.outbox.bytes() > 60_000 && session.outbox.bytes() < 65_536);
});

test("bytes are counted, not characters", () => {
  call("a", { data: "€".repeat(21_000) });
  call("b", { data: "x".repeat(3000) });
  assert.deepEqual(settled, [["b", "overflow"]]);
});

test("what is larger than the server reads is not sent", () => {
  welcome({ message_bytes: 1000 });
  call("a", { data: "x".repeat(1000) });
  assert.deepEqual(settled, [["a", "too_large"]]);
  assert.deepEqual(sent.map(({ type }) => type), ["hello"]);
});

test("nothing waits unsent for longer than a minute, whatever its patience", () => {
  call("a", {}, 120_000);
  now = 59_999;
  session.tick();
  assert.deepEqual(settled, []);
  now = 60_000;
  session.tick();
  assert.deepEqual(settled, [["a", "timeout"]]);
});

test("sent in time it may take as long as the caller waits", () => {
  welcome();
  call("a", {}, 120_000);
  now = 119_999;
  session.tick();
  assert.deepEqual(settled, []);
  now = 120_000;
  session.tick();
  assert.deepEqual(settled, [["a", "unknown_outcome"]]);
});

test("a queue is sent a little slower than the limits allow", () => {
  for (let n = 0; n < 60; n++) call(n);
  welcome({ messages_per_second: 20, burst: 40 });
  const calls = () => sent.filter(({ type }) => type === "call").length;
  assert.equal(calls(), 20, "half the burst");
  for (; now < 1000; now += 100) session.tick();
  assert.ok(calls() >= 34 && calls() <= 37, `${calls()} after a second`);
  for (; now < 5000; now += 100) session.tick();
  assert.equal(calls(), 60);
});

test("whether to come back soon is told", () => {
  assert.equal(session.tick(), false);
  welcome();
  assert.equal(session.tick(), false);
  call("a");
  assert.equal(session.tick(), true);
  receive({ type: "ok", id: 1 });
  assert.equal(session.tick(), false);
});

test("a topic that is left and followed again at once is not left", () => {
  welcome({ messages_per_second: 1, burst: 4 });
  join();
  session.unsubscribe("a");
  call("used up");
  session.subscribe("a");
  for (; now < 60_000; now += 1000) session.tick();
  const later = sent.slice(sent.findIndex(({ type }) => type === "unsubscribe") + 1);
  assert.ok(later.some(({ type }) => type === "subscribe"), "and is followed last");
});

test("left while the server's rate is used up, followed again: no unsubscribe", () => {
  welcome({ messages_per_second: 0.001, burst: 4 });
  join();
  call("used up");
  session.unsubscribe("a");
  session.tick();
  session.subscribe("a");
  now = 1e9;
  session.tick();
  assert.ok(!sent.some(({ type }) => type === "unsubscribe"));
  assert.equal(sent.at(-1).type, "subscribe");
});

test("presence is set at most ten times a second, and the last state wins", () => {
  welcome({ presence_per_second: 10 });
  join();
  for (let n = 1; n <= 100; n++) {
    session.presence("a", { n });
    session.tick();
    now += 10;
  }
  now += 1000;
  session.tick();
  const states = sent.filter(({ type }) => type === "presence");
  assert.ok(states.length <= 11, `${states.length} in a second`);
  assert.deepEqual(states.at(-1).state, { n: 100 });
});

test("hello leaves room; the rest is asked for one by one", () => {
  for (let n = 0; n < 90; n++) session.subscribe(`topic/${n}`, { grant: "g".repeat(1000) });
  welcome();
  const [hello, ...rest] = sent;
  assert.ok(JSON.stringify(hello).length < 60_000);
  assert.equal(hello.subscriptions.length, 50);
  for (; now < 10_000; now += 100) session.tick();
  const asked = sent.filter(({ type }) => type === "subscribe");
  assert.equal(hello.subscriptions.length + asked.length, 90);
  assert.ok(rest.length > 0);
});

test("a grant is renewed once, then the refusal stands", () => {
  session.subscribe("a", { grant: "old" });
  welcome();
  receive({ type: "error", topic: "a", code: "forbidden", message: "" });
  assert.deepEqual(told, []);
  session.renewed(["old"], ["new"]);
  session.tick();
  receive({ type: "error", id: sent.at(-1).id, code: "forbidden", message: "" });
  assert.equal(told[0][0], "refused");
});

test("a grant that is refused its renewal is dropped", () => {
  session.subscribe("a", { grant: "old" });
  session.subscribe("b", { grant: "other" });
  welcome();
  receive({ type: "error", topic: "a", code: "forbidden", message: "" });
  session.renewed(["old", "other"], [null, "fresh"]);
  session.tick();
  assert.equal(sent.at(-1).topic, "a");
  assert.equal(sent.at(-1).grant, undefined);
  assert.deepEqual(session.grants(), ["fresh"]);
});

test("a snapshot that never ends holds back a thousand events, then is asked for again", () => {
  session.subscribe("a", { stateful: true });
  welcome();
  receive({ type: "subscribed", topic: "a", epoch: "e", offset: 0, snapshot: { rows: [] }, more: true });
  const event = (offset) => ({ type: "event", topic: "a", epoch: "e", offset, kind: "app", event: "x", data: 0 });
  for (let offset = 1; offset <= 1000; offset++) receive(event(offset));
  assert.equal(sent.length, 1);
  receive(event(1001));
  assert.equal(sent.at(-1).type, "subscribe");
  assert.equal(sent.at(-1).position, undefined);
  receive({ type: "subscribed", id: sent.at(-1).id, topic: "a", epoch: "e", offset: 1001, snapshot: { rows: [] } });
  assert.deepEqual(told.map(([what]) => what), ["joined", "joined", "snapshot"]);
});

test("an old presence frame is none", () => {
  welcome();
  join();
  receive({ type: "presence", topic: "a", seq: 5, members: [] });
  receive({ type: "presence", topic: "a", seq: 5, leave: ["1"] });
  receive({ type: "presence", topic: "a", seq: 4, leave: ["1"] });
  assert.equal(told.filter(([what]) => what === "members").length, 1);
});

test("an error about a live topic concerns its followers, not their subscription", () => {
  welcome();
  join();
  receive({ type: "error", topic: "a", code: "rate_limited", message: "", retry_after: 10 });
  assert.equal(told.at(-1)[0], "fault");
  receive({ type: "event", topic: "a", epoch: "e", offset: 1, kind: "app", event: "x", data: 0 });
  assert.equal(told.at(-1)[0], "event");
});

test("an answer to nothing is ignored", () => {
  welcome();
  receive({ type: "ok", id: 99 }, { type: "error", id: 98, code: "x", message: "" });
  assert.deepEqual(told, []);
});

test("whispers need a live topic", () => {
  welcome();
  session.whisper({ topic: "a", event: "typing", data: {} });
  assert.equal(sent.length, 1);
  join();
  session.whisper({ topic: "a", event: "typing", data: {} });
  assert.equal(sent.at(-1).type, "whisper");
});

test("malformed binary messages are ignored", () => {
  welcome();
  join();
  for (const bytes of [[], [1], [1, 1], [2, 1, 1, 97, 1, 101, 1, 120, 0], [1, 9, 1, 97, 1, 101, 1, 120, 0], [1, 1, 200, 97], [1, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255]]) {
    session.receive(new Uint8Array(bytes).buffer);
  }
  assert.deepEqual(told.map(([what]) => what), ["joined", "snapshot"]);
  session.receive(new Uint8Array([1, 1, 1, 97, 1, 101, 1, 120, 1, 7]).buffer);
  assert.equal(told.at(-1)[0], "event");
});

test("1009: what was sent last is not sent again, even with a key", () => {
  welcome();
  call("a", { key: "k" });
  session.dropped(false, true);
  assert.deepEqual(settled, [["a", "unknown_outcome"]]);
});

test("the end: what was sent has an unknown outcome, what waited did not run", () => {
  welcome({ messages_per_second: 1, burst: 2 });
  call("sent", { key: "k" });
  call("waiting");
  session.dropped(true);
  assert.deepEqual(settled, [["sent", "unknown_outcome"], ["waiting", "closed"]]);
});

test("two publishes have two keys, and keep them", () => {
  for (const tag of ["a", "b"]) session.request({ type: "publish", topic: "a", event: "m", data: 0 }, tag);
  welcome();
  const keys = sent.filter(({ type }) => type === "publish").map(({ key }) => key);
  assert.equal(new Set(keys).size, 2);
  session.dropped();
  welcome();
  assert.deepEqual(sent.filter(({ type }) => type === "publish").map(({ key }) => key), [...keys, ...keys]);
});
