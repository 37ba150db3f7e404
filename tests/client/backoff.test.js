import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { createBackoff } from "../../django_wsrealtime/client/backoff.js";

afterEach(() => mock.restoreAll());
const longest = () => mock.method(Math, "random", () => 1);

test("the bound doubles from half a second to twenty", () => {
  longest();
  const backoff = createBackoff();
  const delays = Array.from({ length: 8 }, () => backoff.delay(NaN));
  assert.deepEqual(delays, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
});

test("full jitter: anywhere from nothing to the bound", () => {
  for (const share of [0, 0.25, 0.9]) {
    mock.method(Math, "random", () => share);
    assert.equal(createBackoff().delay(NaN), 500 * share);
  }
});

test("an opened link halves the count, five seconds of life clear it", () => {
  longest();
  const backoff = createBackoff();
  for (let n = 0; n < 6; n++) backoff.delay(NaN);
  backoff.halve();
  assert.equal(backoff.delay(10), 4000);
  assert.equal(backoff.delay(5000), 500);
});

test("after a link that lived a second the first delay is at most one", () => {
  longest();
  const backoff = createBackoff();
  for (let n = 0; n < 8; n++) backoff.delay(NaN);
  assert.equal(backoff.delay(999), 20_000);
  assert.equal(backoff.delay(1000), 1000);
});

test("a thousand failures do not overflow", () => {
  longest();
  const backoff = createBackoff();
  for (let n = 0; n < 2000; n++) backoff.delay(NaN);
  assert.equal(backoff.delay(NaN), 20_000);
});
