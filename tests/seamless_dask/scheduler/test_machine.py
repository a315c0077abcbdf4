"""Random sequences of what clients and workers do: Dask with the plugin comes to what Dask without it does.

Every result is on record, so that workers look it up too. The scheduler's look-up is kept from knowing some,
so that these are run as others are.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dask
import pytest
from distributed import Client, Scheduler, Worker

from seamless_dask.api import Transformation, bash
from seamless_dask.scheduler import SeamlessScheduler
from tests.seamless_dask.scheduler.conftest import name_of

SEEDS = int(os.environ.get("SEAMLESS_TEST_RUNS", "12"))
STEPS = int(os.environ.get("SEAMLESS_TEST_STEPS", "12"))
FIRST = int(os.environ.get("SEAMLESS_TEST_SEED", "0"))
SETTINGS = {
    "distributed.scheduler.validate": True,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.work-stealing-interval": "10 ms",
    "distributed.worker.memory.terminate": False,
}


def checksum_of(handle: Any) -> str:
    return str(handle.checksum)


def both(*found: Any) -> tuple[str, ...]:
    return tuple(map(str, found))


class World:
    """A scheduler, its workers, a client, and another client that comes and goes, in this event loop."""

    def __init__(self, steps: list[Transformation], scheduler: Scheduler) -> None:
        self.steps, self.scheduler = steps, scheduler
        self.workers: list[Worker] = []
        self.futures: dict[str, Any] = {}
        self.other: Client | None = None
        self.others: dict[str, Any] = {}
        self.read_by: dict[str, set[str]] = defaultdict(set)

    async def add_worker(self) -> None:
        self.workers.append(await Worker(self.scheduler.address, nthreads=1, dashboard=False))

    async def begin(self) -> None:
        self.client = await Client(self.scheduler.address, asynchronous=True, set_as_default=False)
        await self.add_worker()
        await self.add_worker()

    async def end(self) -> None:
        await self._other_leaves()
        await self.client.close()
        for worker in self.workers:
            await worker.close()

    # -------------------------------------------------------------- what happens

    def _ask_for(self, client: Client, step: Transformation) -> Any:
        graph = dict(step.__dask_graph__())
        for key, node in graph.items():
            for needed in node.dependencies:
                self.read_by[needed].add(key)
        return client.get(graph, name_of(step), sync=False)

    def _let_read(self, client: Client, function: Any, name: str, future: Any, *more: Any) -> Any:
        self.read_by[future.key].add(name)
        return client.submit(function, future, *more, key=name)

    async def submit(self, choice: random.Random) -> None:
        for step in choice.sample(self.steps, 2):
            self.futures[name_of(step)] = self._ask_for(self.client, step)

    async def read(self, choice: random.Random) -> None:
        """A task of others reads what one of ours gives, and another task reads that."""
        step = choice.choice(self.steps)
        name = name_of(step)[-8:]
        reader = self._let_read(self.client, checksum_of, f"read-{name}", self._ask_for(self.client, step))
        self.futures[reader.key] = reader
        last = self._let_read(self.client, both, f"last-{name}", reader, 1)
        self.futures[last.key] = last

    async def retry(self, choice: random.Random) -> None:
        await self._settle()
        # what was scattered cannot be made again, and stock Dask loses it
        if some := [future for future in self._some(choice) if not future.key.startswith("data-")]:
            await self.client.retry(some)

    async def replicate(self, choice: random.Random) -> None:
        await self._settle()
        if some := self._some(choice):
            await self.client.replicate(some)

    async def rebalance(self, choice: random.Random) -> None:
        await self._settle()
        await self.client.rebalance()
        if some := self._some(choice):
            await self.client.rebalance(some)

    async def release(self, choice: random.Random) -> None:
        for future in self._some(choice):
            del self.futures[future.key]
            future.release()

    async def cancel(self, choice: random.Random) -> None:
        await self._settle()
        for future in self._some(choice):
            if future.key in self.futures:
                await self._cancel(self.client, self.futures, future.key)

    async def retire(self, choice: random.Random) -> None:
        await self.add_worker()
        worker = self.workers.pop(choice.randrange(len(self.workers) - 1))
        await self.client.retire_workers([worker.address])
        await worker.finished()

    async def lose(self, choice: random.Random) -> None:
        self._let_go_of_data()
        worker = self.workers.pop(choice.randrange(len(self.workers)))
        await self.scheduler.remove_worker(worker.address, stimulus_id="lost")
        await worker.close()
        await self.add_worker()

    async def restart_worker(self, choice: random.Random) -> None:
        """It ends without a word, and another one comes in its place, by its name."""
        self._let_go_of_data()
        place = choice.randrange(len(self.workers))
        worker = self.workers[place]
        await worker.close(nanny=False)
        self.workers[place] = await Worker(
            self.scheduler.address, nthreads=1, dashboard=False, name=worker.name
        )

    async def second_client(self, choice: random.Random) -> None:
        """One comes, wants some of the same and some of its own, lets go of some, or leaves with all."""
        if self.other is None:
            self.other = await Client(self.scheduler.address, asynchronous=True, set_as_default=False)
        elif choice.random() < 0.3:
            await self._other_leaves()
            return
        for step in choice.sample(self.steps, 2):
            future = self.others[name_of(step)] = self._ask_for(self.other, step)
            name = f"{choice.choice(('second', 'read'))}-{future.key[-8:]}"  # of its own, or one of both
            reader = self._let_read(self.other, checksum_of, name, future)
            self.others[reader.key] = reader
        names = sorted(self.others)
        gone = choice.choice(names)
        self.others.pop(gone).release()
        await self._settle()
        named = choice.choice(sorted(self.others))
        if choice.random() < 0.5:
            await self._cancel(self.other, self.others, named)
        else:
            await self.other.retry([self.others[named]])

    async def restart(self, choice: random.Random) -> None:
        """All is forgotten, also what has just been asked for, and other workers come."""
        await self.submit(choice)
        await self._heard(
            self.client
        )  # a graph that comes later is wanted by a client that knows nothing of it
        await self.client.restart(wait_for_workers=False)
        for futures in (self.futures, self.others):
            async with asyncio.timeout(30):
                while not all(future.cancelled() for future in futures.values()):
                    await asyncio.sleep(0.01)
            futures.clear()
        for worker in self.workers:
            await worker.finished()
        self.workers.clear()
        await self.add_worker()
        await self.add_worker()

    async def _other_leaves(self) -> None:
        self.others.clear()
        if self.other is not None:
            await self.other.close()
            self.other = None

    async def forget(self, choice: random.Random) -> None:
        """Half of all that is asked for is let go of, though others may need it."""
        del choice
        for futures in (self.futures, self.others):
            for name in sorted(futures)[::2]:
                futures.pop(name).release()

    async def manage_memory(self, choice: random.Random) -> None:
        del choice
        await self.client.amm.run_once()

    async def publish(self, choice: random.Random) -> None:
        for name in await self.client.list_datasets():
            await self.client.unpublish_dataset(name)
        if some := self._some(choice):
            await self.client.publish_dataset(*some[:1], name=f"set-{choice.random()}")

    async def scatter(self, choice: random.Random) -> None:
        value = choice.randrange(5)
        await self._heard(self.client)  # data do not come that way, and may be there before the old ones went
        self.futures[f"data-{value}"] = (await self.client.scatter({f"data-{value}": value}))[f"data-{value}"]

    async def ask(self, choice: random.Random) -> None:
        """Everything that clients may ask for; and workers tell how they spend their time."""
        some = self._some(choice)
        for answer in (
            self.client.who_has(),
            self.client.has_what(),
            self.client.nbytes(),
            self.client.processing(),
        ):
            await answer
        if some:
            await self.client.story(some[0])
        for worker in self.workers:
            await worker.heartbeat()

    def _let_go_of_data(self) -> None:
        """What was scattered goes with its worker."""
        for key in [key for key in self.futures if key.startswith("data-")]:
            self.futures.pop(key).release()

    def _some(self, choice: random.Random) -> list[Any]:
        names = sorted(self.futures)
        return [self.futures[name] for name in choice.sample(names, min(2, len(names)))]

    @staticmethod
    async def _heard(client: Client) -> None:
        """Wait until what a client has said is acted upon, and it has heard of that."""
        await client.submit(int, pure=False)

    # -------------------------------------------------------------- cancelling

    async def _cancel(self, client: Client, futures: dict[str, Any], name: str) -> None:
        """Cancel a task, with all that reads it, as far as no other client wants that.

        Not one with a reader that nobody wants: `Scheduler.stimulus_cancel` asserts that there is none, and
        the client loses its connection, with the plugin and without. Nor one that a transformation reads:
        where that is known it reads nothing on a scheduler with the plugin, and stays.
        """
        readers = self._readers(name)
        if any("-tf-" in reader or not self._is_wanted(reader) for reader in readers):
            return
        await client.cancel([futures[name]])
        for one in filter(None, (self.client, self.other)):
            await self._heard(one)  # all are told, and take it for what they have asked for since
        for some in (self.futures, self.others):
            for key in [key for key, future in some.items() if future.cancelled()]:
                some.pop(key).release()

    def _readers(self, name: str) -> set[str]:
        """Return what reads a task, or reads what does, as far as that is there."""
        found = {one: self._readers(one) for one in self.read_by[name]}
        there = {one for one, more in found.items() if more or self._is_wanted(one)}
        return there.union(*(found[one] for one in there))

    def _is_wanted(self, name: str) -> bool:
        return name in self.futures or name in self.others

    # -------------------------------------------------------------- what comes of it

    async def _settle(self) -> None:
        await self._settled(self.futures)
        await self._settled(self.others)

    @staticmethod
    async def _settled(futures: dict[str, Any]) -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(*(future._state.wait() for future in futures.values()))

    async def outcome(self) -> dict[str, Any]:
        await self._settle()
        self.scheduler.validate_state()
        assert {worker.address for worker in self.workers} == set(self.scheduler.workers)
        assert all(worker.status.name == "running" for worker in self.workers)
        tasks = self.scheduler.tasks
        assert all(ts.group.span_id for ts in tasks.values() if ts.run_spec is not None)
        found = await self._found(self.client, self.futures)
        if self.other is not None:
            found |= {
                f"other {key}": told for key, told in (await self._found(self.other, self.others)).items()
            }
        return found

    async def _found(self, client: Client, futures: dict[str, Any]) -> dict[str, Any]:
        tasks = self.scheduler.tasks
        return {
            key: (futures[key].status, tasks[key].state, str(getattr(value, "checksum", value)))
            for key, value in (await client.gather(futures)).items()
        }

    async def let_go(self) -> None:
        for name in await self.client.list_datasets():
            await self.client.unpublish_dataset(name)
        for future in self.futures.values():
            future.release()
        self.futures.clear()
        await self._other_leaves()
        async with asyncio.timeout(30):
            while self.scheduler.tasks or any(worker.state.tasks for worker in self.workers):
                await asyncio.sleep(0.01)
        assert not self.scheduler.replicated_tasks


EVENTS = (
    World.submit, World.submit, World.submit, World.read, World.read, World.retry, World.replicate,
    World.rebalance, World.release, World.cancel, World.retire, World.lose, World.manage_memory,
    World.publish, World.scatter, World.ask, World.restart_worker, World.second_client, World.second_client,
    World.forget, World.restart,
)  # fmt: skip


@asynccontextmanager
async def world(steps: list[Transformation], plugin: SeamlessScheduler | None) -> AsyncIterator[World]:
    async with Scheduler(host="127.0.0.1", dashboard_address=":0", dashboard=False) as scheduler:
        if plugin is not None:
            await scheduler.register_scheduler_plugin(plugin, name="seamless", idempotent=True)
            assert plugin.stepped_aside is None
        found = World(steps, scheduler)
        await found.begin()
        try:
            yield found
        finally:
            await found.end()


async def play(
    seed: int, steps: list[Transformation], hidden: set[str], plugged: bool
) -> list[dict[str, Any]]:
    """Return what was there after each event."""
    choice, found = random.Random(seed), []
    plugin = SeamlessScheduler() if plugged else None
    async with world(steps, plugin) as one:
        if plugin is not None:
            ask = plugin.lookups._ask
            plugin.lookups._ask = lambda keys: ask([key for key in keys if key not in hidden])
        for _ in range(STEPS):
            event = choice.choice(EVENTS)
            mine = random.Random(choice.random())
            try:
                await event(one, mine)
                found.append({"event": event.__name__, **await one.outcome()})
            except Exception as error:
                raise AssertionError(
                    f"seed {seed}, after {[told['event'] for told in found]}: {event.__name__}"
                ) from error
        await one.let_go()
        if plugin is not None:
            assert not plugin.holder.values
            assert not plugin.holder.worker.has_what
    return found


def transformations(lab: Any, choice: random.Random) -> list[Transformation]:
    """Some that need others, the results of all on record."""
    made: list[Transformation] = []
    for number in range(7):
        upstream = choice.sample(made, min(len(made), choice.randrange(3)))
        inputs = {str(place): other for place, other in enumerate(upstream)}
        made.append(bash(f"echo {number}", inputs, context=lab.context, isolation="none"))
        made[-1].__dask_graph__()
        lab.context.database.put(made[-1].key, *lab.file(b"%d\n" % number))
    return made


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_the_same_comes_of_it_as_without_the_plugin(seed: int, lab: Any) -> None:
    choice = random.Random(seed)
    steps = transformations(lab, choice)
    hidden = {step.key for step in choice.sample(steps, 3)}
    with dask.config.set(SETTINGS):
        stock = asyncio.run(play(seed, steps, hidden, plugged=False))
        ours = asyncio.run(play(seed, steps, hidden, plugged=True))
    assert ours == stock
