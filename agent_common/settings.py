"""Settings of a program: flag over environment over file over default.

A key in a file is the flag's name with underscores, a variable is LVS_ and that in capitals. No key is unknown: what
nobody reads is an error, since it is what somebody mistyped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_common.errors import InvalidInputError

_LARGEST = 10**300
"""A whole number beyond it may be too large for a float, and is for any setting."""

Value = str | bool | int | float | tuple[str, ...]


def load(
    defaults: Mapping[str, Value],
    *,
    flags: Mapping[str, Value | None],
    environment: Mapping[str, str],
    file: Path | None,
    default_files: Sequence[Path],
) -> dict[str, Value]:
    """Return every setting; the type of its default is the type that it must have.

    A file that was named must exist; of the default ones the first that exists is read. Raises InvalidInputError, which
    names the key and where it stands.
    """
    values = dict(defaults)
    if file is not None and not _exists(file):
        raise InvalidInputError("config", f"config: cannot read {file}: there is no such file")
    path = file or next((each for each in default_files if _exists(each)), None)
    if path is not None:
        values.update(_from_file(path, defaults))
    values.update(_from_environment(environment, defaults))
    values.update({key: value for key, value in flags.items() if value is not None})
    return values


def named_file(given: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Return the file that --config or LVS_CONFIG names, if one does."""
    text = environment.get("LVS_CONFIG")
    return given or (Path(text) if text else None)


def _exists(path: Path) -> bool:
    """Whether a file is there; in a folder that is closed to this user nobody can tell: HOME may be another's."""
    try:
        return path.exists()
    except OSError as error:
        raise InvalidInputError("config", f"config: cannot read {path}: {error.strerror}") from error


def _from_file(path: Path, defaults: Mapping[str, Value]) -> dict[str, Value]:
    import tomllib  # only where there is a file

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of a number too long to read, or lists in lists in lists
        raise InvalidInputError("config", f"config: cannot read {path}: {error}") from error
    for key in table:
        if key not in defaults:
            raise InvalidInputError(key, f"{key}: unknown key in {path}; known are {', '.join(sorted(defaults))}")
    return {key: _typed(key, value, defaults[key], str(path)) for key, value in table.items()}


def _from_environment(environment: Mapping[str, str], defaults: Mapping[str, Value]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key, default in defaults.items():
        variable = f"LVS_{key.upper()}"
        if variable in environment:
            values[key] = _typed(key, _parse(environment[variable], default), default, variable)
    return values


def _parse(text: str, default: Value) -> Any:
    """Read a variable as the type of the default; what cannot be read stays text, which _typed refuses."""
    if isinstance(default, bool):
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(text.lower(), text)
    if isinstance(default, tuple):
        return text.split()
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            return text
    return text


def _typed(key: str, value: object, default: Value, where: str) -> Value:
    if isinstance(default, tuple):
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and all(isinstance(each, str) for each in texts):
            return tuple(_printable(key, each, where) for each in texts)
        raise InvalidInputError(key, f"{key}: must be a text or a list of texts, in {where}")
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < _LARGEST else float("inf")
    if type(value) is not type(default):
        names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
        raise InvalidInputError(key, f"{key}: must be {names[type(default)]}, in {where}")
    return _printable(key, value, where) if isinstance(value, str) else value


def _printable(key: str, text: str, where: str) -> str:
    """Return a text that is one line: names of files, hosts and the like are nothing else."""
    if not text.isprintable():
        raise InvalidInputError(key, f"{key}: {text!r} has characters that cannot be printed, in {where}")
    return text
