"""FastAPI: the client, and a worker on the same event loop, live as long as the application.

    pip install lmdbq fastapi uvicorn
    uvicorn fastapi_app:app
    curl -X POST localhost:8000/welcome/Ada
    curl localhost:8000/jobs/tsk_...

The queue is a directory, or the daemon that LMDBQ_URL names. With several application processes, leave the worker out
here and run `lmdbq worker fastapi_app:tasks`.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request

import lmdbq

tasks = lmdbq.Tasks()


@tasks.task(retry=[1, 10, 60])
async def welcome(name: str) -> str:
    return f"Welcome, {name}."


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    where = os.environ.get("LMDBQ_URL", "./queue")
    async with lmdbq.AsyncClient(where) as queue, lmdbq.Worker(queue, tasks, grace=5):
        yield {"queue": queue}


app = FastAPI(lifespan=lifespan)


@app.post("/welcome/{name}", status_code=202)
async def enqueue_welcome(name: str, request: Request) -> dict[str, str]:
    queue: lmdbq.AsyncClient = request.state.queue
    job = await queue.enqueue(welcome.using(dedupe=f"welcome:{name}"), name)
    return {"id": job.id, "outcome": job.outcome}


@app.get("/jobs/{job_id}")
async def show_job(job_id: str, request: Request) -> dict[str, Any]:
    queue: lmdbq.AsyncClient = request.state.queue
    try:
        info = await queue.task(job_id).info()
    except (lmdbq.NotFound, lmdbq.TaskGone) as error:
        raise HTTPException(404, error.detail) from error
    return {"state": info.state, "result": info.result}
