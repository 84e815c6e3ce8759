"""Plain asyncio: many tasks at once on one event loop, with progress, a time limit and a cancel.

python plain_asyncio.py ./queue
"""

import asyncio
import sys

import lmdbq

tasks = lmdbq.Tasks()


@tasks.task(timeout=30)
async def count_to(number: int) -> int:
    context = lmdbq.current()
    for step in range(number):
        context.progress(step / number)
        await asyncio.sleep(0)
    return number


@tasks.task
async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def main(where: str) -> None:
    async with lmdbq.AsyncClient(where) as queue, lmdbq.Worker(queue, tasks, concurrency=100):
        jobs = await queue.enqueue_many([count_to.entry(number) for number in range(20)])
        endless = await queue.enqueue(wait_for_ever.using(lease=2))
        print(sum([await job.result(timeout=60) for job in jobs]))
        await endless.cancel()  # its worker hears of it with the next heartbeat, and stops it
        try:
            await endless.result(timeout=60)
        except lmdbq.TaskCancelled:
            print("cancelled")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "./queue"))
