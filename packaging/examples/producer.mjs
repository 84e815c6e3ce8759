// A producer in Node (18 or later), without a package: the API is JSON over HTTP.
//
//     lmdbq serve
//     node producer.mjs Ada
//
// It prints the result, for which a worker must run: node worker.mjs

const url = process.env.LMDBQ_URL ?? "http://localhost:7325";

export async function call(method, path, body) {
  const response = await fetch(url + path, {
    method,
    headers: { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(`${answer.code}: ${answer.detail}`); // RFC 9457, with a stable code
  return answer;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { outcome } = await call("POST", "/v1/tasks", {
    queue_name: "node",
    type: "greet",
    payload: { name: process.argv[2] ?? "world" },
    retry_strategy: { max_attempts: 3 },
    keep: { succeeded_in_seconds: 3600 },
  });
  let task;
  do {
    task = await call("GET", `/v1/tasks/${outcome.id}?wait_in_seconds=30`); // answered when the task has ended
  } while (!["succeeded", "dead", "cancelled"].includes(task.state));
  console.log(task.state, JSON.stringify(task.result ?? null));
}
