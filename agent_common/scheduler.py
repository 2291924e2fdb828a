"""Schedulers of IPVS, and their flags by name. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from agent_common.errors import InvalidInputError

DEFAULT_SCHEDULER = "wlc"

SCHEDULERS = frozenset({"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos"})
"""Schedulers of the kernel (net/netfilter/ipvs/ip_vs_*.c); twos is there from Linux 5.19 on."""

FLAG_NAMES = {
    "flag-1": ("flag_1", ""),
    "flag-2": ("flag_2", ""),
    "flag-3": ("flag_3", ""),
    "sh-fallback": ("flag_1", "sh"),
    "sh-port": ("flag_2", "sh"),
    "mh-fallback": ("flag_1", "mh"),
    "mh-port": ("flag_2", "mh"),
}
"""Names of flags: the field of SchedulerFlags, and the scheduler that calls it so ("": any)."""


def check_scheduler(name: str) -> str:
    """Return the name of a scheduler that the kernel may have."""
    if name not in SCHEDULERS:
        raise InvalidInputError(
            "scheduler", f"scheduler: {name!r} is unknown; use one of {' '.join(sorted(SCHEDULERS))}"
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerFlags:
    """Flags of a scheduler: flag_1 is sh-fallback or mh-fallback, flag_2 sh-port or mh-port."""

    flag_1: bool = False
    flag_2: bool = False
    flag_3: bool = False


NO_FLAGS = SchedulerFlags()


def parse_flags(text: str, scheduler: str | None) -> SchedulerFlags:
    """Read flags by their names, with commas between them; sh- and mh- ones only with their scheduler, if one is given.

    "none" is no flag.
    """
    chosen: dict[str, bool] = {}
    for name in [] if text == "none" else text.split(","):
        if name not in FLAG_NAMES:
            raise InvalidInputError(
                "scheduler_flags", f"scheduler_flags: {name!r} is unknown; use {', '.join(FLAG_NAMES)} or none"
            )
        flag, owner = FLAG_NAMES[name]
        if owner and scheduler and owner != scheduler:
            raise InvalidInputError("scheduler_flags", f"scheduler_flags: {name} needs scheduler {owner}")
        chosen[flag] = True
    return SchedulerFlags(**chosen)


def flag_names(flags: SchedulerFlags, scheduler: str) -> list[str]:
    """Return the names of the flags that are set, as the scheduler calls them."""
    names = {field: name for name, (field, owner) in FLAG_NAMES.items() if owner in ("", scheduler)}
    return [name for field, name in names.items() if getattr(flags, field)]
