"""What the tests of the data plane stand on keeps what it promises them."""

from __future__ import annotations

import time

from tests.dataplane.world import World


def test_answers_that_come_together(world: World) -> None:
    """Each is there for whoever asks, though all were in the pipe at once."""
    client = world.client()
    client.do("stop")
    numbers = [client.start("stop") for _ in range(3)]
    time.sleep(0.5)
    assert [client.wait(number) for number in reversed(numbers)] == [{}, {}, {}]
