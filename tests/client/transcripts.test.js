/** Replays tests/transcripts/*.json against the client's state machine. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { Collection } from "../../django_wsrealtime/client/collection.js";
import { createPresence } from "../../django_wsrealtime/client/presence.js";
import { createSession } from "../../django_wsrealtime/client/session.js";

const folder = new URL("../transcripts/", import.meta.url);
const bytesOf = (hex) => new Uint8Array(Buffer.from(hex, "hex"));
const hexOf = (bytes) => Buffer.from(bytes).toString("hex");

class Replay {
  now = 0;
  /** Frames sent and things seen that no step has named yet. */
  sent = [];
  seen = [];
  collections = new Map();
  presences = new Map();

  session = createSession(
    { client: "test/1", tab: "t1" },
    (what, ...details) => this[what](...details),
    () => this.now,
    () => 0.5,
  );

  // --- effects ---

  send(message) {
    this.sent.push(typeof message === "string" ? JSON.parse(message) : message);
  }
  open() {
    this.seen.push({ what: "open" });
  }
  about(topic, what, frame, snapshot, reason) {
    const collection = this.collections.get(topic);
    const see = (name, detail = {}) => this.seen.push({ what: name, topic, ...detail });
    if (what === "joined") see("joined");
    else if (what === "event") {
      collection?.event(frame);
      const { event, data, offset } = frame;
      if (frame.kind === "whisper") see("whisper", { event, data });
      else if (data instanceof ArrayBuffer) see("event", { event, offset, hex: hexOf(data) });
      else see("event", { event, offset, data });
    } else if (what === "snapshot") {
      collection?.reload({ ...frame, snapshot });
      see(reason ? "reset" : "snapshot", { ...(reason && { reason }), ...(snapshot && { snapshot }) });
    } else if (what === "members") {
      const presence = this.presences.get(topic) ?? createPresence(() => {});
      this.presences.set(topic, presence);
      presence.apply(frame);
      see("members", { ids: presence.members.map(({ id }) => id) });
    } else if (what === "refused") see("ended", { code: frame.code });
    else see(what, { code: frame.code });
  }
  fault({ code }) {
    this.seen.push({ what: "fault", code });
  }
  settle(ref, fault, data) {
    this.seen.push({ what: "settled", ref, ...(fault ? { error: fault.code } : data != null && { data }) });
  }
  renew() {
    this.seen.push({ what: "renew", grants: this.session.grants() });
  }
  pong(ms) {
    this.seen.push({ what: "latency", ms });
  }
  bye({ code, reconnect, after }) {
    this.seen.push({ what: "bye", code, reconnect, ...(after != null && { after }) });
  }

  // --- what pages do ---

  do({ op, topic, ref, timeout, ...rest }) {
    const { session } = this;
    const { grant, since, position } = rest;
    if (op === "open") session.opened();
    else if (op === "drop") session.dropped(rest.stop, false);
    else if (op === "subscribe") {
      session.subscribe(topic, { grant, position: position ?? (since && { since }) });
    } else if (op === "collection") {
      this.collections.set(topic, new Collection({ topic, ready: Promise.resolve() }, () => {}));
      session.subscribe(topic, { grant, stateful: true });
    } else if (op === "unsubscribe") session.unsubscribe(topic);
    else if (op === "call") session.request({ type: "call", topic, ...rest }, ref, timeout);
    else if (op === "publish") {
      const { hex, ...frame } = rest;
      const payload = hex && { payload: bytesOf(hex) };
      session.request({ type: "publish", topic, ...frame, ...payload }, ref, timeout);
    } else if (op === "whisper") session.whisper({ topic, ...rest });
    else if (op === "presence") session.presence(topic, rest.state);
    else if (op === "probe") session.probe();
    else if (op === "renewed") session.renewed(rest.old, rest.grants);
    else assert.equal(op, "wait");
  }

  async step(step) {
    assert.ok(step.at >= this.now, "time goes forward");
    const nothingLeft = () => {
      assert.deepEqual(this.sent, [], "sent, but not in the transcript");
      assert.deepEqual(this.seen, [], "seen, but not in the transcript");
    };
    if (step.client_does || step.s2c || step.s2c_batch || step.s2c_hex) {
      nothingLeft();
      this.now = step.at;
    }
    if (step.client_does) this.do(step.client_does);
    else if (step.s2c) this.session.receive(JSON.stringify(step.s2c));
    else if (step.s2c_batch) {
      const lines = step.s2c_batch.map((l) => (typeof l === "string" ? l : JSON.stringify(l)));
      this.session.receive(lines.join("\n"));
    } else if (step.s2c_hex) this.session.receive(bytesOf(step.s2c_hex).buffer);
    else if (step.c2s) return assert.deepEqual(this.sent.shift(), step.c2s);
    else if (step.c2s_hex) {
      const message = this.sent.shift();
      return assert.equal(hexOf(await message.arrayBuffer()), step.c2s_hex);
    } else if (step.client_sees?.what === "rows") {
      const { topic, rows } = step.client_sees;
      return assert.deepEqual(Object.fromEntries(this.collections.get(topic)), rows);
    } else if (step.client_sees) {
      return assert.deepEqual(this.seen.shift(), step.client_sees);
    } else return assert.ok(step.server_does, "a step of a known kind");
    this.session.tick();
  }

  end() {
    assert.deepEqual(this.sent, [], "sent, but not in the transcript");
    assert.deepEqual(this.seen, [], "seen, but not in the transcript");
  }
}

const files = readdirSync(folder).filter((file) => file.endsWith(".json"));
assert.ok(files.length > 40);
for (const file of files) {
  const transcript = JSON.parse(readFileSync(new URL(file, folder), "utf8"));
  test(`${transcript.name}: ${transcript.why}`, async () => {
    assert.equal(`${transcript.name}.json`, file);
    const replay = new Replay();
    for (const [index, step] of transcript.steps.entries()) {
      try {
        await replay.step(step);
      } catch (error) {
        error.message = `step ${index + 1}, ${JSON.stringify(step)}: ${error.message}`;
        throw error;
      }
    }
    replay.end();
  });
}
