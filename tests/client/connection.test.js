/** The life of one connection: dead links, waking, sleeping, closing. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import {
  CLOSED,
  CONNECTING,
  createConnection,
  OPEN,
  WAITING,
} from "../../django_wsrealtime/client/connection.js";
import { follow } from "../../django_wsrealtime/client/lifecycle.js";
import { FakeSocket, giveClock, givePage, settled } from "./support.js";

let page, clock, connection, log, verdict, pings, following;

beforeEach(() => {
  page = givePage();
  clock = giveClock();
  FakeSocket.reset();
  mock.method(Math, "random", () => 1);
  log = [];
  pings = 0;
  verdict = {};
  connection = createConnection({
    dial: () => new FakeSocket("ws://x", []),
    opened: () => connection.established(35_000),
    message: (data) => log.push(data),
    ping: () => void pings++,
    lost: (code, reason, clean, bye) => {
      log.push(["lost", code]);
      return verdict;
    },
    noticed: () => {},
  });
  following = new AbortController();
  follow(connection, following);
});

afterEach(() => {
  following.abort();
  clock.restore();
  mock.restoreAll();
});

const live = (ms = 0) => {
  connection.open();
  FakeSocket.last.accept();
  clock.pass(ms);
};
const hear = () => FakeSocket.last.onmessage({ data: "x" });
const fire = (target, name, more = {}) => target.dispatchEvent(Object.assign(new Event(name), more));

test("it dials once, however often it is opened", () => {
  connection.open();
  connection.open();
  FakeSocket.last.accept();
  connection.open();
  assert.equal(FakeSocket.made.length, 1);
  assert.equal(connection.state(), OPEN);
});

test("a lost link is dialled again after the delay", () => {
  live();
  FakeSocket.last.die();
  assert.equal(connection.state(), WAITING);
  clock.pass(499);
  assert.equal(FakeSocket.made.length, 1);
  clock.pass(1);
  assert.equal(FakeSocket.made.length, 2);
});

test("a handshake that nobody answers is given up", () => {
  connection.open();
  clock.pass(14_999);
  assert.equal(connection.state(), CONNECTING);
  clock.pass(1);
  assert.equal(connection.state(), WAITING);
});

test("a socket that may not be made is a lost one", () => {
  FakeSocket.refuse = true;
  connection.open();
  assert.equal(connection.state(), WAITING);
  FakeSocket.refuse = false;
  clock.pass(500);
  assert.equal(connection.state(), CONNECTING);
});

test("late callbacks of an old socket do nothing", () => {
  live();
  const old = FakeSocket.last;
  old.die();
  clock.pass(500);
  FakeSocket.last.accept();
  log.length = 0;
  old.onmessage({ data: "late" });
  old.onclose({ code: 1000, reason: "", wasClean: true });
  assert.deepEqual(log, []);
  assert.equal(connection.state(), OPEN);
});

test("a socket that still connects is closed when it has opened, not before", () => {
  connection.open();
  const young = FakeSocket.last;
  connection.close();
  assert.equal(young.closed, undefined);
  young.accept();
  assert.ok(young.closed);
  assert.equal(connection.state(), CLOSED);
});

test("silence: one probe after 35 seconds, dead after five more", () => {
  live();
  clock.pass(34_999);
  assert.equal(pings, 0);
  clock.pass(1);
  assert.equal(pings, 1);
  clock.pass(4999);
  assert.equal(connection.state(), OPEN);
  clock.pass(1);
  assert.equal(connection.state(), WAITING);
  assert.equal(pings, 1);
});

test("any message is life", () => {
  live(30_000);
  hear();
  clock.pass(34_000);
  assert.equal(pings, 0);
  clock.pass(1000);
  assert.equal(pings, 1);
  clock.pass(4000);
  hear();
  clock.pass(20_000);
  assert.equal(connection.state(), OPEN);
});

test("a timer that fires late gets a second in which what arrived is heard", () => {
  live(35_000);
  assert.equal(pings, 1);
  clock.sleep(3_600_000); // the laptop is closed while the probe is out
  assert.equal(connection.state(), OPEN);
  hear();
  clock.pass(1000);
  assert.equal(connection.state(), OPEN);
});

test("every probe has a second of its own, however often the machine sleeps", () => {
  live(35_000);
  for (let night = 0; night < 2; night++) {
    clock.sleep(3_600_000);
    assert.equal(connection.state(), OPEN);
    hear();
    clock.pass(36_000);
  }
  clock.sleep(3_600_000);
  assert.equal(connection.state(), OPEN);
});

test("and is dead if nothing had arrived", () => {
  live(35_000);
  clock.sleep(3_600_000);
  clock.pass(999);
  assert.equal(connection.state(), OPEN);
  clock.pass(1);
  assert.equal(connection.state(), WAITING);
});

test("a machine that slept while all was quiet is asked first", () => {
  live(10_000);
  clock.sleep(3_600_000);
  assert.equal(connection.state(), OPEN);
  assert.equal(pings, 1);
  clock.pass(5000);
  assert.equal(connection.state(), WAITING);
});

test("a clock that was set back does not stop the probes", () => {
  live(10_000);
  mock.timers.setTime(1_000_000 + 34_000);
  hear();
  const { now } = Date;
  const back = 3_600_000;
  mock.method(Date, "now", () => now() - back);
  clock.pass(36_000);
  clock.pass(36_000);
  assert.ok(pings >= 1);
});

for (const [name, target] of [["focus", "window"], ["online", "window"], ["resume", "document"], ["pageshow", "window"], ["visibilitychange", "document"]]) {
  test(`${name}: an open link must answer within five seconds`, () => {
    live(1000);
    fire(page[target], name);
    assert.equal(pings, 1);
    clock.pass(4999);
    assert.equal(connection.state(), OPEN);
    clock.pass(1);
    assert.equal(connection.state(), WAITING);
  });

  test(`${name}: a waiting page dials now`, () => {
    live();
    FakeSocket.last.die();
    fire(page[target], name);
    assert.equal(FakeSocket.made.length, 2);
    clock.pass(1000);
    assert.equal(FakeSocket.made.length, 2, "the old timer is gone");
  });
}

test("several signs of waking are one probe", () => {
  live(1000);
  fire(page.document, "visibilitychange");
  fire(page.window, "focus");
  assert.equal(pings, 1);
});

test("a page that hides is no page that wakes", () => {
  live(1000);
  page.document.hidden = true;
  fire(page.document, "visibilitychange");
  assert.equal(pings, 0);
});

test("offline: two seconds", () => {
  live(1000);
  fire(page.window, "offline");
  clock.pass(1999);
  assert.equal(connection.state(), OPEN);
  clock.pass(1);
  assert.equal(connection.state(), WAITING);
});

test("offline shortens a probe that is out", () => {
  live(1000);
  fire(page.window, "focus");
  clock.pass(500);
  fire(page.window, "offline");
  clock.pass(2000);
  assert.equal(connection.state(), WAITING);
});

test("a link that dies young and without a word makes the client ping", () => {
  live(30_000);
  FakeSocket.last.die();
  clock.pass(1000);
  FakeSocket.last.accept();
  clock.pass(14_999);
  assert.equal(pings, 0);
  clock.pass(1);
  assert.equal(pings, 1, "every half life");
  hear();
  clock.pass(15_000);
  assert.equal(pings, 2);
});

test("but not more often than every ten seconds", () => {
  live(4000);
  FakeSocket.last.die();
  clock.pass(1000);
  FakeSocket.last.accept();
  clock.pass(9999);
  assert.equal(pings, 0);
  clock.pass(1);
  assert.equal(pings, 1);
});

for (const [name, life, code, bye] of [["an old link", 50_000, 1006], ["a clean close", 30_000, 1001], ["a farewell", 30_000, 1006, { code: 4012, reason: "" }]]) {
  test(`${name} does not`, () => {
    live();
    for (let at = 0; at < life; at += 10_000) {
      clock.pass(10_000);
      hear();
    }
    if (bye) connection.farewell(bye);
    FakeSocket.last.die(code);
    clock.pass(20_000);
    FakeSocket.last.accept();
    clock.pass(30_000);
    assert.equal(pings, 0);
  });
}

test("a hidden page tries three times, then once a minute", () => {
  page.document.hidden = true;
  connection.open();
  const times = [];
  const begin = Date.now();
  for (let n = 0; n < 6; n++) {
    FakeSocket.last.die();
    const { length } = FakeSocket.made;
    while (FakeSocket.made.length === length) clock.pass(100);
    times.push(Date.now() - begin);
  }
  const gaps = times.map((time, index) => time - (times[index - 1] ?? 0));
  assert.deepEqual(gaps, [500, 1000, 60_000, 60_000, 60_000, 60_000]);
});

test("an offline page too, and it dials at once when it is online again", () => {
  page.navigator.onLine = false;
  connection.open();
  for (let n = 0; n < 3; n++) {
    FakeSocket.last.die();
    clock.pass(2000);
  }
  assert.equal(FakeSocket.made.length, 3);
  page.navigator.onLine = true;
  fire(page.window, "online");
  assert.equal(FakeSocket.made.length, 4);
});

test("the server's wish stands, whoever looks at the page", () => {
  verdict = { told: 30_000 };
  live();
  FakeSocket.last.die(4013);
  fire(page.window, "focus");
  clock.pass(29_999);
  assert.equal(FakeSocket.made.length, 1);
  clock.pass(1);
  assert.equal(FakeSocket.made.length, 2);
});

test("what has to happen first happens first", async () => {
  let done;
  verdict = { first: new Promise((resolve) => (done = resolve)) };
  live();
  FakeSocket.last.die(4101);
  clock.pass(60_000);
  fire(page.window, "focus");
  assert.equal(FakeSocket.made.length, 1);
  done();
  await settled();
  clock.pass(500);
  assert.equal(FakeSocket.made.length, 2);
});

test("the farewell goes before the code of the socket", () => {
  live();
  connection.farewell({ code: 4012, reason: "restarting" });
  FakeSocket.last.die(1006);
  assert.deepEqual(log, [["lost", 4012]]);
});

test("the back/forward cache gets no socket, and the page one when it returns", () => {
  live(1000);
  fire(page.window, "pagehide", { persisted: true });
  assert.ok(FakeSocket.last.closed);
  clock.pass(600_000);
  assert.equal(FakeSocket.made.length, 1);
  fire(page.window, "pageshow", { persisted: true });
  assert.equal(FakeSocket.made.length, 2);
});

test("a page that is thrown away keeps its socket to the end", () => {
  live(1000);
  fire(page.window, "pagehide", { persisted: false });
  assert.equal(FakeSocket.last.closed, undefined);
});

test("a frozen page lets go, a resumed one dials", () => {
  live(1000);
  fire(page.document, "freeze");
  assert.ok(FakeSocket.last.closed);
  fire(page.document, "resume");
  assert.equal(FakeSocket.made.length, 2);
});

for (const how of ["closed", "failed"]) {
  test(`${how}: no event of the page revives it, but its owner does`, () => {
    live(1000);
    if (how === "closed") connection.close();
    else {
      verdict = { stop: true };
      FakeSocket.last.die(4403);
    }
    assert.equal(connection.state(), CLOSED);
    for (const name of ["focus", "online", "pageshow"]) fire(page.window, name);
    fire(page.window, "pagehide", { persisted: true });
    fire(page.window, "pageshow", { persisted: true });
    for (const name of ["freeze", "resume", "visibilitychange"]) fire(page.document, name);
    clock.pass(600_000);
    assert.equal(FakeSocket.made.length, 1);
    connection.open();
    assert.equal(FakeSocket.made.length, 2);
  });
}
