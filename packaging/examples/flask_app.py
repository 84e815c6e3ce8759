"""Flask: views enqueue, and a worker runs apart.

    pip install lmdbq flask
    lmdbq serve
    lmdbq worker flask_app:tasks
    flask --app flask_app run
    curl -X POST localhost:5000/resize -d width=640

A client is opened at its first use and may be shared by threads and inherited by forked servers, so one for the module
will do.
"""

from flask import Flask, Response, jsonify, request

import lmdbq

tasks = lmdbq.Tasks()
queue = lmdbq.Client()  # $LMDBQ_URL, else the daemon of this machine
app = Flask(__name__)


@tasks.task(timeout=30, run_in="process")
def resize(width: int, height: int = 480) -> str:
    return f"{width}x{height}"


@app.post("/resize")
def enqueue_resize() -> tuple[Response, int]:
    job = queue.enqueue(resize, width=int(request.form["width"]))
    return jsonify(id=job.id), 202


@app.get("/jobs/<job_id>")
def show_job(job_id: str) -> Response:
    info = queue.task(job_id).info()
    return jsonify(state=info.state, result=info.result)


@app.errorhandler(lmdbq.Refusal)
def refused(error: lmdbq.Refusal) -> tuple[Response, int]:
    return jsonify(error=error.code, detail=error.detail), error.status
