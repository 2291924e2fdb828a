"""Explores a site of the model: what must always hold, and where it must be able to come to."""

from __future__ import annotations

from dataclasses import replace

from tests.protocol.agent import Rules
from tests.protocol.explore import Exploration, explore
from tests.protocol.removal import Removal
from tests.protocol.site import Site, State

Model = Site | Removal


def check(model: Model, until: str = "") -> Exploration[State]:
    """Visit all states; print how many there are, and the way to each violation."""
    site = model.site if isinstance(model, Removal) else model
    always = {
        "blackhole": site.no_client_is_sent_to_a_real_server_without_vip,
        "undecided": site.nothing_undecided_is_in_a_directors_kernel,
        "split": site.all_decide_alike,
        "false success": site.exit_status_0_is_true,
        "lock left": site.no_lock_outlives_its_transaction,
        "taken away": model.what_is_done_stays,
    }
    found = explore(model.initial, model.step, always=always, quiet=model.is_quiet, helps=site.helps, until=until)
    print(found)
    return found


def without(rule: str) -> Rules:
    """Return all rules but one."""
    assert getattr(Rules(), rule) is True
    return replace(Rules(), **{rule: False})
