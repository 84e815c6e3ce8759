// A worker in Node (18 or later), without a package: dequeue, keep the lease, report.
//
//     lmdbq serve
//     node worker.mjs
//
// Ctrl-C: what runs is finished and reported, and nothing more is taken.

import { randomUUID } from "node:crypto";
import { call } from "./producer.mjs";

const LEASE_SECONDS = 30;
const handlers = {
  async greet({ name }) {
    if (name === "nobody") throw new RangeError("there is nobody to greet");
    return `Hello, ${name}.`;
  },
};

async function work(task) {
  const keeper = setInterval(
    // A lease that is not extended lapses, and the task goes to another worker: one third of its length is often enough.
    () => call("POST", `/v1/leases/${task.lease}/extend`, {}).catch((error) => console.error(error.message)),
    (LEASE_SECONDS / 3) * 1000,
  );
  try {
    const result = await handlers[task.type](task.payload);
    return { lease: task.lease, status: "succeeded", result };
  } catch (error) {
    const said = { message: error.message, type: error.name, backtrace: error.stack };
    return { lease: task.lease, status: "failed", error: said };
  } finally {
    clearInterval(keeper);
  }
}

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (stopping = true));

console.error("working on node");
while (!stopping) {
  const wanted = {
    queue_names: ["node"],
    types: Object.keys(handlers),
    limit: 10,
    wait_in_seconds: 1,
    keepalive_timeout_in_seconds: LEASE_SECONDS,
    claim_id: randomUUID(), // if the answer is lost, the same tasks come back for the same id
  };
  try {
    const { tasks } = await call("POST", "/v1/dequeue", wanted);
    const reports = await Promise.all(tasks.map(work));
    if (reports.length) await call("POST", "/v1/report", { reports });
  } catch (error) {
    console.error(error.message); // no daemon answers: it may be starting again
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
