"""A plain script: no daemon, no framework. The queue is a directory, and this process works it off.

    python plain_script.py ./queue

Run it twice at once: both open the same file, and no task is taken twice.
"""

import sys
from dataclasses import dataclass

import lmdbq

tasks = lmdbq.Tasks(queue="orders")


@dataclass
class Order:
    number: int
    total: float


@tasks.task(retry=[0.1, 1], dead_on=[ZeroDivisionError])
def bill(order: Order) -> float:
    if lmdbq.current().task.deliveries == 1 and order.number % 3 == 0:
        raise ConnectionError("the bank did not answer")  # any exception is a failure, and is tried again
    return round(order.total * 1.2, 2)


def main(where: str) -> None:
    with lmdbq.Client(where) as queue:
        jobs = queue.enqueue_many([bill.entry(Order(number, 10.0)) for number in range(1, 10)])
        with lmdbq.Worker(queue, tasks, queues=["orders"], concurrency=4):
            total = sum(job.result(timeout=60) for job in jobs)
        retried = sum(job.info().failures or 0 for job in jobs)
        print(f"{len(jobs)} billed, {total:.2f} in all, {retried} tried again")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "./queue")
