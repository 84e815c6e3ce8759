"""Every store, held to the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.errors import StoreClosed
from tests.store_contract import Capabilities, EveryStore
from tests.store_driver import Driver
from tests.store_factories import FACTORIES


@pytest.fixture(params=FACTORIES)
def q(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    store = FACTORIES[request.param](tmp_path / "store")
    yield Driver(store, ManualClock())
    try:
        assert store.check() == []
    except StoreClosed:
        assert request.node.originalname == "test_a_closed_store_says_so"
    store.close()


class TestEveryStore(EveryStore):
    """What every store does."""


class TestCapabilities(Capabilities):
    """What these stores do besides."""
