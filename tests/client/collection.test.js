import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Collection } from "../../django_wsrealtime/client/collection.js";
import { createPresence } from "../../django_wsrealtime/client/presence.js";
import { createEmitter } from "../../django_wsrealtime/client/emitter.js";
import { givePage, settled } from "./support.js";

let collection, changes;

beforeEach(() => {
  changes = [];
  collection = new Collection({ topic: "orders/7", ready: Promise.resolve() }, () => {});
  collection.on("change", (change) => changes.push(change));
});

const item = (pk, v) => ({ pk, row: { v } });
const at = (offset, items) => ({ epoch: "e", offset, snapshot: { rows: items } });
const upsert = (offset, pk, v, more) => collection.event({ type: "event", kind: "row", event: "upsert", epoch: "e", offset, data: item(pk, v), ...more });
const remove = (offset, pk) => collection.event({ type: "event", kind: "row", event: "remove", epoch: "e", offset, data: { pk } });

test("it is a Map of rows by primary key", async () => {
  collection.reload(at(1, [item(1, "a"), item("x-2", "b")]));
  assert.equal(await collection.ready, collection);
  assert.deepEqual(collection.get(1), { v: "a" });
  assert.ok(collection.has("x-2"));
  assert.equal(collection.size, 2);
  assert.deepEqual([...collection.keys()], [1, "x-2"]);
  assert.deepEqual([...collection.values()], [{ v: "a" }, { v: "b" }]);
  assert.deepEqual([...collection], [[1, { v: "a" }], ["x-2", { v: "b" }]]);
});

test("one change tells what one message brought", async () => {
  collection.reload(at(1, [item(1, "a"), item(2, "b"), item(3, "c")]));
  await settled();
  changes.length = 0;
  upsert(2, 1, "A");
  upsert(3, 4, "d");
  remove(4, 2);
  upsert(5, 3, "c");
  assert.deepEqual(collection.get(4), { v: "d" }, "the rows are there at once");
  await settled();
  assert.deepEqual(changes, [{ added: [item(4, "d")], changed: [item(1, "A")], removed: [item(2, "b")] }]);
});

test("what came and went between is no change", async () => {
  collection.reload(at(1, []));
  upsert(2, 1, "a");
  remove(3, 1);
  await settled();
  assert.deepEqual(changes, []);
});

test("a reset tells the difference", async () => {
  collection.reload(at(1, [item(1, "a"), item(2, "b")]));
  await settled();
  collection.reload(at(9, [item(2, "B"), item(3, "c")]));
  await settled();
  assert.deepEqual(changes[1], { added: [item(3, "c")], changed: [item(2, "B")], removed: [item(1, "a")] });
});

test("what its snapshot already holds is not applied over it", () => {
  collection.reload(at(10, [item(1, "new")]));
  upsert(9, 1, "old");
  upsert(10, 1, "older");
  assert.deepEqual(collection.get(1), { v: "new" });
  upsert(1, 1, "of another log", { epoch: "f" });
  assert.deepEqual(collection.get(1), { v: "of another log" });
});

test("only the server's rows are rows", () => {
  collection.reload(at(1, [item(1, "a")]));
  for (const kind of ["client", "app", "html", "whisper"]) upsert(2, 1, "forged", { kind });
  assert.deepEqual(collection.get(1), { v: "a" });
});

test("a row named __proto__ is a row", () => {
  collection.reload(at(1, [item("__proto__", "a")]));
  assert.deepEqual(collection.get("__proto__"), { v: "a" });
});

test("a refused topic is a refused collection", async () => {
  const refused = new Collection({ topic: "a", ready: Promise.reject(new Error("no")) }, () => {});
  await assert.rejects(refused.ready, /no/);
});

test("presence: list, diffs, states, counts", () => {
  const sent = [];
  const presence = createPresence((state) => sent.push(state));
  let told = 0;
  presence.on("change", () => told++);
  presence.apply({ members: [{ id: "1", name: "Ada" }], count: 1 });
  presence.apply({ join: [{ id: "2", name: "Bob" }], state: [{ id: "1", state: { at: 3 } }], count: 2 });
  assert.deepEqual(presence.members, [{ id: "1", name: "Ada", state: { at: 3 } }, { id: "2", name: "Bob" }]);
  presence.apply({ leave: ["1"], count: 500 });
  assert.deepEqual(presence.members.map(({ id }) => id), ["2"]);
  assert.equal(presence.count, 500);
  presence.apply({ members: [] });
  assert.equal(presence.count, 0);
  assert.equal(told, 4);
  presence.set({ x: 1 });
  assert.deepEqual(sent, [{ x: 1 }]);
});

test("a handler that throws is reported and hurts no other", () => {
  const { errors } = givePage();
  const { on, emit } = createEmitter();
  const heard = [];
  on("x", () => {
    throw new Error("mine");
  });
  const undo = on("x", (value) => heard.push(value));
  emit("x", 1);
  undo();
  emit("x", 2);
  assert.deepEqual(heard, [1]);
  assert.deepEqual(errors.map(({ message }) => message), ["mine", "mine"]);
});
