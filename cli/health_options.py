"""From the options of lvs health set to a policy: what is not given stays as it is. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from agent_common.check import Check
from agent_common.destination import MAX_WEIGHT, DestinationKey
from agent_common.errors import InvalidInputError
from agent_common.health import MAX_PERCENT, Damping, DynamicWeight, HealthPolicy, WeightSource
from cli.check_options import INHERIT, NONE, CheckOptions, check_alone, make_check


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """What was given of a policy, read already; only what was given is in the mappings.

    fields: whole fields of HealthPolicy. damping: of Damping. percent: of DynamicWeight. source: where a dynamic weight
    comes from and the name of a header, None inside for off; () if it was not given.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    damping: Mapping[str, Any] = field(default_factory=dict)
    percent: Mapping[str, Any] = field(default_factory=dict)
    source: tuple[tuple[WeightSource, str] | None, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fields or self.damping or self.percent or self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOptions:
    """All of one lvs health set; with rs the check is that of one destination."""

    check: CheckOptions
    policy: PolicyOptions
    rs: DestinationKey | None = None

    def __post_init__(self) -> None:
        """Raise InvalidInputError for what is wrong whatever policy is there."""
        if self.rs is not None and not self.check:
            raise InvalidInputError("rs", "rs: goes with options of a check, or --check none or inherit")
        if not self.check and not self.policy:
            raise InvalidInputError("options", "health set: give at least one option to change")
        if self.rs is None and self.check.kind in (NONE, INHERIT):
            raise InvalidInputError(
                "check", f"check: {self.check.kind} goes with --rs; lvs health remove ends all checks"
            )
        _check_alone(self)


def apply(options: HealthOptions, policy: HealthPolicy | None) -> HealthPolicy:
    """Return the policy that is meant, from the one that is there; raises InvalidInputError that names the option."""
    if policy is None:
        if options.rs is not None:
            raise InvalidInputError("rs", "rs: there are no health checks yet; set those of all destinations first")
        if not options.check.kind:
            raise InvalidInputError("check", "check: must be given: there are no health checks yet")
    with naming_options(options, policy):
        return _made(options, policy).validate()


def _made(options: HealthOptions, policy: HealthPolicy | None) -> HealthPolicy:
    if policy is None:
        policy = HealthPolicy(check=make_check(options.check, None))
    elif options.rs is None and options.check:
        policy = replace(policy, check=make_check(options.check, policy.check))
    elif options.rs is not None:
        policy = replace(policy, overrides=_overrides(options.rs, options.check, policy))
    return _with_policy(options.policy, policy)


def _overrides(rs: DestinationKey, given: CheckOptions, policy: HealthPolicy) -> dict[DestinationKey, Check | None]:
    overrides = dict(policy.overrides)
    if given.kind == INHERIT:
        overrides.pop(rs, None)
    elif given.kind == NONE:
        overrides[rs] = None
    else:
        was = policy.check_of(rs)
        if was is None and not given.kind:
            raise InvalidInputError("check", f"check: must be given: {rs} is not checked")
        overrides[rs] = make_check(given, was or policy.check)
    return overrides


def _with_policy(given: PolicyOptions, policy: HealthPolicy) -> HealthPolicy:
    damping = replace(policy.damping, **given.damping)
    dynamic_weight = _dynamic(given, policy.dynamic_weight)
    return replace(policy, damping=damping, dynamic_weight=dynamic_weight, **given.fields)


def _dynamic(given: PolicyOptions, was: DynamicWeight | None) -> DynamicWeight | None:
    for source in given.source:
        if source is None:
            was = None
        else:
            was = replace(was or DynamicWeight(source=source[0]), source=source[0], header=source[1])
    if was is None and given.percent:
        name = next(iter(given.percent))
        raise InvalidInputError(name, f"{name}: goes with --dynamic-weight")
    return replace(was, **given.percent) if was is not None else None


def _check_alone(options: HealthOptions) -> None:
    """Apply the rules that need no more than what was given; what is not given is made up so that it breaks none."""
    given = options.policy
    for name, value in given.percent.items():
        if not 1 <= value <= MAX_PERCENT:
            raise InvalidInputError(name, f"{name}: {value} is out of range (1 to {MAX_PERCENT})")
    damping = replace(Damping(), **given.damping)
    policy = HealthPolicy(check=check_alone(options.check), quorum=MAX_WEIGHT, damping=damping)
    with naming_options(options, None):
        replace(policy, **given.fields).validate()


_OPTIONS = {
    "timeout": "check_timeout",
    "headers": "header",
    "statuses": "status",
    "answers": "answer",
    "argv": "command",
    "service": "grpc_service",
    "max_changes_per_second": "max_changes",
    "falls": "damping_falls",
    "window": "damping_window",
    "hold": "damping_hold",
    "http_header": "dynamic_weight",
    "http_body": "dynamic_weight",
    "skip_verification": "verify",
}
"""Fields of a policy whose options have other names."""


@contextmanager
def naming_options(options: HealthOptions, policy: HealthPolicy | None) -> Iterator[None]:
    """Give an error of a policy's rules the name of the option that sets the field."""
    try:
        yield
    except InvalidInputError as error:
        if not error.field.startswith("policy."):
            raise
        name = _option(error.field)
        whose = _whose(error.field, options, policy)
        text = re.sub(r"^policy\.[^:]*", name + whose, error.message)
        if name == "dynamic_weight" and not options.policy.source:
            text += "; --dynamic-weight off ends it"  # it is there already, and in the way
        if name == "check_timeout" and not whose and "timeout" not in options.check.timing:
            text += "; it is there already, so give --check-timeout, too"
        raise InvalidInputError(name, text) from error


def in_options(text: str) -> str:
    """Return what a director says of the fields of a policy, said of options."""
    return re.sub(r"\bpolicy\.[\w.\[\]]+(?=:)", lambda found: _option(found[0]), text)


def _option(name: str) -> str:
    last = name.rpartition(".")[2]
    return _OPTIONS.get(last, last)


def _whose(name: str, options: HealthOptions, policy: HealthPolicy | None) -> str:
    """Return of which destination a check is, where that is not the one in question."""
    found = re.match(r"policy\.overrides\[([0-9]+)\]", name)
    if found is None or policy is None:
        return ""
    keys = [*policy.overrides]
    number = int(found[1])
    return f" of {keys[number]}" if number < len(keys) and keys[number] != options.rs else ""
