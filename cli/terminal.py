"""What a person or a script sees: steps as they happen on stderr, data on stdout."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli.outcome import Outcome, StepReport, StepResult
from cli.typed import SAME_AGAIN

if TYPE_CHECKING:  # cli.plan brings protobuf, which --help does not need
    from cli.plan import Plan

_COLOURS = {
    StepResult.DONE: "32",
    StepResult.IN_PLACE: "36",
    StepResult.ABSENT: "36",
    StepResult.FOREIGN: "36",
    StepResult.FAILED: "31",
    StepResult.UNDONE: "33",
    StepResult.KEPT: "33",
    StepResult.UNKNOWN: "31",
}


class Terminal:
    """Prints for one command; output is table or json.

    typed is the command line as it was typed, given the options in it that say where the agents are: commands that
    are suggested need them, too.
    """

    def __init__(self, output: str, *, debug: bool = False, typed: str = "lvs", given: str = "") -> None:
        self.json = output == "json"
        self._typed = typed
        self._given = given
        self._debug = debug
        self._warned: set[str] = set()
        self._colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """How many columns data may have; 0: any number, off a terminal."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0

    def data(self, text: str) -> None:
        """Print data."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines of data, which may be thousands, at once."""
        text = "\n".join(lines)
        if text:
            self.data(text)

    def document(self, document: Any) -> None:
        """Print one JSON document."""
        self.data(json.dumps(document, indent=2))

    def say(self, text: str) -> None:
        """Print something that is not data."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def step(self, step: StepReport) -> None:
        """Print a step that has just happened."""
        word = f"{step.result.value:9}"
        if self._colour:
            word = f"\x1b[{_COLOURS[step.result]}m{word}\x1b[0m"
        self.say(f"{word} {step.agent}: {step.title}")
        for line in step.details:
            if line != step.title:
                self.say(f"            {line}")
        for line in step.warnings:
            self.say(f"warning   {line}")

    def plan(self, plan: Plan) -> None:
        """Print what the operator should know before anything happens."""
        self._warn(plan.warnings)

    async def confirm(self, lines: Iterable[str], question: str) -> bool:
        """Show what would be done, and ask whether it shall be; standard input must be a terminal."""
        import asyncio  # --help does without

        for line in lines:
            self.say(line)
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()
        loop.add_reader(sys.stdin, answered.set)  # not in a thread: that could not be ended by Ctrl-C
        try:
            await answered.wait()
        finally:
            loop.remove_reader(sys.stdin)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def debug(self, text: str) -> None:
        """Print a line that --debug asks for."""
        if self._debug:
            self.say(f"debug     {text}")

    def outcome(self, outcome: Outcome) -> None:
        """Print how a command ended."""
        outcome.commands = [replace(each, command=self._whole(each.command)) for each in outcome.commands]
        if self.json:
            self.document(outcome.as_json())
            return
        for line in outcome.plan:
            self.data(line)
        printer = self.data if not outcome.status else self.say
        printer(f"lvs: {outcome.message}" if outcome.status else outcome.message)
        self._warn(each for each in outcome.warnings if each not in self._warned)
        for each in outcome.commands:
            self.say(f"{each.purpose}:")
            self.say(f"  {each.command}")

    def _whole(self, command: str) -> str:
        """Return a suggested command as it must be typed here."""
        if command == SAME_AGAIN:
            return self._typed
        return command.replace("lvs ", f"lvs {self._given} ", 1) if self._given else command

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            self._warned.add(warning)
            self.say(f"warning   {warning}")
