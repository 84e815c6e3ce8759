"""Wrong calls: mypy --strict and pyright must both report every line that ends with the mark, and no other."""

from __future__ import annotations

from lmdbq import AsyncClient, Client, Entry, Tasks

tasks = Tasks()


@tasks.task(retry=[1, 10])
def greet(name: str, loud: bool = False) -> str:
    return f"{name} {loud}"


@tasks.task
async def count(numbers: list[int]) -> int:
    return len(numbers)


def wrong(client: Client) -> None:
    client.enqueue(greet, 7)  # wrong
    client.enqueue(greet)  # wrong
    client.enqueue(greet, "Ada", shout=True)  # wrong
    client.enqueue(greet, "Ada", delay=60)  # wrong
    client.enqueue(count, ["one"])  # wrong
    client.enqueue(greet.using(dely=60), "Ada")  # wrong
    client.enqueue(greet.using(priority="high"), "Ada")  # wrong
    client.enqueue(len, "Ada")  # wrong
    number: int = client.enqueue(greet, "Ada").result()  # wrong
    text: str = client.enqueue(count, [1]).result()  # wrong
    greet(1)  # wrong
    greet.entry("Ada", loud="yes")  # wrong
    client.enqueue_many([greet])  # wrong
    Entry("greet", {}, retries=3)  # wrong
    Client("./queue", durability="sometimes")  # wrong
    client.tasks(queues="mail")  # wrong
    client.queue("mail").edit(max_runing=3)  # wrong
    client.enqueue(greet, "Ada").result(5)  # wrong
    client.within("transaction")  # wrong
    with client.environment().begin(write=True) as transaction:
        client.within(transaction).enqueue(greet, 7)  # wrong
    client.set(condition="most")  # wrong
    with client.set() as batch:
        batch.enqueue(greet, 7)  # wrong
    print(number, text)


async def wrong_too(client: AsyncClient) -> None:
    await client.enqueue(greet, 7)  # wrong
    number: int = await (await client.enqueue(greet, "Ada")).result()  # wrong
    text: str = await count(["one"])  # wrong
    print(number, text)


@tasks.task(run_in="thraed")  # wrong
def misplaced() -> None: ...


@tasks.task(retrys=3)  # wrong
def misspelt() -> None: ...
