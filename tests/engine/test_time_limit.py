"""A sample's time is its own: waiting for a turn on the device does not count, however many things it asks at once."""

import asyncio

from mmsynth.engine.one import TimeLimit
from mmsynth.models.chat import Reply


def answered_after(seconds: float):
    async def wait() -> Reply:
        await asyncio.sleep(seconds)
        return Reply("")

    return wait


def held(limit_s: float | None, work) -> bool:
    limit = TimeLimit(limit_s)
    return asyncio.run(limit.hold(work(limit)))


def test_the_clock_stands_until_the_last_of_several_replies_is_there() -> None:
    async def asks_two(limit: TimeLimit) -> None:
        await asyncio.gather(*(limit.stopped_for(answered_after(seconds)) for seconds in (0.01, 0.3)))

    assert held(0.1, asks_two)
    assert held(None, asks_two)


def test_it_runs_again_afterwards() -> None:
    async def dawdles(limit: TimeLimit) -> None:
        await limit.stopped_for(answered_after(0.01))
        await asyncio.sleep(5)

    assert not held(0.05, dawdles)


def test_replies_that_come_after_a_sample_has_ended_do_no_harm() -> None:
    async def run() -> list[object]:
        limit = TimeLimit(0.2)
        late: list[asyncio.Task[Reply]] = []

        async def leaves(limit: TimeLimit) -> None:
            late.append(asyncio.create_task(limit.stopped_for(answered_after(0.05))))
            await asyncio.sleep(0)

        assert await limit.hold(leaves(limit))
        return await asyncio.gather(*late, return_exceptions=True)

    assert asyncio.run(run()) == [Reply("")]
