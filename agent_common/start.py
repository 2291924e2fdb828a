"""The start of an agent on what its journal says, which may be as it was written and make no sense all the same."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from agent_common.errors import InvalidInputError, LvsError
from agent_common.state import State

_log = logging.getLogger(__name__)


async def start_or_distrust(state: State, start: Callable[[], Awaitable[None]]) -> bool:
    """Start, and return whether the journal can be believed; if not, the agent shows the kernel and changes nothing.

    A record that another version or a defect wrote would else end the agent, again and again. Raises what forbids the
    start for another reason.
    """
    if state.damage:
        return False
    try:
        await start()
    except InvalidInputError as error:
        state.distrust(error.message)
    except LvsError:
        if not state.damage:
            raise
    except Exception as error:  # whatever nonsense leads to
        _log.error("the journal makes no sense", exc_info=error)
        state.distrust(f"a record cannot be used: {type(error).__name__}")
    return not state.damage
