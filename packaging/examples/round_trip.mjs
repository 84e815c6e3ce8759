// What JavaScript reads it writes again unharmed: a task is enqueued, read, enqueued again from what was read, and each
// field is compared. Numbers are doubles here; instants are nanoseconds, whole microseconds, and survive that.
//
//     lmdbq serve
//     node round_trip.mjs

import assert from "node:assert/strict";
import { call } from "./producer.mjs";

const FIELDS = [
  "queue_name", "type", "payload", "priority", "scheduled_at", "expires_at", "keepalive_timeout_in_seconds",
  "retry_strategy", "keep", "tags", "metadata",
];

async function enqueueAndRead(entry) {
  const { outcome } = await call("POST", "/v1/tasks", entry);
  return call("GET", `/v1/tasks/${outcome.id}`);
}

const pick = (task) => Object.fromEntries(FIELDS.filter((name) => name in task).map((name) => [name, task[name]]));
const second = (text) => Date.parse(text) * 1e6;
let compared = 0;

for (let round = 0; round < 50; round++) {
  // A microsecond of some instant between 2027 and 2200.
  const at = (second("2027-01-01T00:00:00Z") / 1000 + Math.floor(Math.random() * 5.4e15)) * 1000;
  const first = await enqueueAndRead({
    queue_name: "round-trip",
    type: "js:round/trip",
    payload: { text: "äöü \u0000\u2028 𝄞", list: [1, -0.5, 1e-7, 2 ** 53 - 1, true, null, {}], deep: { at } },
    priority: -32768 + round,
    scheduled_at: at,
    expires_at: at + 3_600_000_000_000,
    keepalive_timeout_in_seconds: 1.5,
    retry_strategy: { max_attempts: 7, backoff: { kind: "exponential", base_in_seconds: 0.25, factor: 3, jitter: 0.1 } },
    keep: { succeeded_in_seconds: 60 },
    tags: ["a", "b"],
    metadata: { trace: "00-4bf9", depth: 3 },
  });
  assert.equal(String(first.scheduled_at), String(at), "an instant that JavaScript wrote is the one it reads");
  const again = await enqueueAndRead(pick(first));
  assert.deepEqual(pick(again), pick(first));
  assert.ok(FIELDS.every((name) => name in again), Object.keys(again).join());
  compared += FIELDS.length;
}
console.log(`${compared} fields are equal`);
