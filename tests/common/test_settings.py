"""Settings: flag over environment over file over default, and nothing unknown or of the wrong kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agent_common.errors import InvalidInputError
from agent_common.settings import Value, load

DEFAULTS: dict[str, Value] = {
    "listen": ("127.0.0.1:9710",),
    "state_dir": "/var/lib/lvs",
    "insecure": False,
    "timeout": 10.0,
    "tries": 3,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def loaded(
    *,
    flags: Mapping[str, Value | None] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    default_files: Sequence[Path] = (),
) -> dict[str, Value]:
    return load(DEFAULTS, flags=flags or {}, environment=environment or {}, file=file, default_files=default_files)


def refused(field: str, **given: object) -> str:
    with pytest.raises(InvalidInputError) as caught:
        loaded(**given)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.message.startswith(f"{field}: ")
    return caught.value.message


def test_without_anything_the_defaults_hold() -> None:
    assert loaded() == DEFAULTS


def test_a_file_is_over_the_default_the_environment_over_the_file_and_a_flag_over_all(file: Path) -> None:
    file.write_text('state_dir = "file"\ntries = 1\ntimeout = 1.5\n')
    values = loaded(
        file=file,
        environment={"LVS_STATE_DIR": "environment", "LVS_TRIES": "2"},
        flags={"state_dir": "flag", "tries": None},
    )
    assert (values["state_dir"], values["tries"], values["timeout"]) == ("flag", 2, 1.5)


def test_a_flag_that_is_false_counts_and_one_that_is_none_does_not(file: Path) -> None:
    file.write_text("insecure = true\n")
    assert loaded(file=file, flags={"insecure": None})["insecure"] is True
    assert loaded(file=file, flags={"insecure": False})["insecure"] is False


def test_a_file_that_was_named_must_exist_and_a_default_one_need_not(file: Path) -> None:
    assert "there is no such file" in refused("config", file=file)
    assert loaded(default_files=[file]) == DEFAULTS


def test_of_the_default_files_the_first_that_exists_is_read_alone(file: Path, tmp_path: Path) -> None:
    file.write_text("tries = 7\n")
    system = tmp_path / "system.toml"
    system.write_text('tries = 8\nstate_dir = "system"\n')
    values = loaded(default_files=[tmp_path / "missing.toml", file, system])
    assert (values["tries"], values["state_dir"]) == (7, "/var/lib/lvs")


def test_a_file_that_was_named_replaces_the_default_ones(file: Path, tmp_path: Path) -> None:
    file.write_text("tries = 7\n")
    (tmp_path / "default.toml").write_text('state_dir = "default"\n')
    assert loaded(file=file, default_files=[tmp_path / "default.toml"])["state_dir"] == "/var/lib/lvs"


def test_an_unknown_key_names_itself_its_file_and_what_is_known(file: Path) -> None:
    file.write_text("time_out = 3\n")
    said = refused("time_out", file=file)
    assert str(file) in said
    assert "known are insecure, listen, state_dir, timeout, tries" in said


def test_a_table_is_an_unknown_key(file: Path) -> None:
    file.write_text("[cli]\ntries = 1\n")
    refused("cli", file=file)


def test_variables_of_others_are_not_read() -> None:
    assert loaded(environment={"LVS_SYSTEM_DIR": "/etc/lvm", "TRIES": "9", "lvs_tries": "9"}) == DEFAULTS


@pytest.mark.parametrize("text", ["tries = ", 'tries = "1', "= 3", "\x00"])
def test_a_file_that_is_no_toml_is_named(file: Path, text: str) -> None:
    file.write_text(text)
    assert str(file) in refused("config", file=file)


def test_a_default_file_that_cannot_even_be_looked_for_is_named(tmp_path: Path) -> None:
    """As in the home of another user, where sudo -u has left HOME; root is kept out by a name that is too long."""
    hidden = tmp_path / ("x" * 300)
    assert f"cannot read {hidden}" in refused("config", default_files=[hidden])


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    file.write_bytes(b"state_dir = '\xff'")
    assert str(file) in refused("config", file=file)
    file.unlink()
    file.mkdir()
    assert str(file) in refused("config", file=file)


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        ("tries = 1.5", "tries", "must be a whole number"),
        ("tries = true", "tries", "must be a whole number"),
        ('tries = "1"', "tries", "must be a whole number"),
        ("timeout = true", "timeout", "must be a number"),
        ('timeout = "1"', "timeout", "must be a number"),
        ("state_dir = 1", "state_dir", "must be a text"),
        ("insecure = 1", "insecure", "must be true or false"),
        ('insecure = "yes"', "insecure", "must be true or false"),
        ("listen = 1", "listen", "must be a text or a list of texts"),
        ("listen = [1]", "listen", "must be a text or a list of texts"),
    ],
)
def test_a_value_of_another_kind_names_key_kind_and_file(file: Path, line: str, field: str, said: str) -> None:
    file.write_text(line)
    message = refused(field, file=file)
    assert said in message
    assert str(file) in message


def test_a_whole_number_will_do_for_a_number_and_a_text_for_a_list(file: Path) -> None:
    file.write_text('timeout = 3\nlisten = "unix:/x"\n')
    values = loaded(file=file)
    assert (values["timeout"], values["listen"]) == (3.0, ("unix:/x",))
    assert isinstance(values["timeout"], float)
    file.write_text('listen = ["a", "b"]\n')
    assert loaded(file=file)["listen"] == ("a", "b")


def test_variables_are_read_as_the_kind_that_the_key_has() -> None:
    values = loaded(
        environment={
            "LVS_LISTEN": "127.0.0.1:1  unix:/x",
            "LVS_STATE_DIR": "/x y",
            "LVS_TIMEOUT": "2.5",
            "LVS_TRIES": "4",
        }
    )
    assert values["listen"] == ("127.0.0.1:1", "unix:/x")
    assert (values["state_dir"], values["timeout"], values["tries"]) == ("/x y", 2.5, 4)


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("true", True), ("YES", True), ("0", False), ("False", False), ("no", False)]
)
def test_yes_and_no_in_the_environment(text: str, value: bool) -> None:
    assert loaded(environment={"LVS_INSECURE": text})["insecure"] is value


@pytest.mark.parametrize(
    ("variable", "text"),
    [("LVS_INSECURE", "maybe"), ("LVS_INSECURE", ""), ("LVS_TRIES", "many"), ("LVS_TRIES", "1.5"), ("LVS_TIMEOUT", "")],
)
def test_a_variable_that_cannot_be_read_is_named(variable: str, text: str) -> None:
    field = variable.removeprefix("LVS_").lower()
    assert refused(field, environment={variable: text}).endswith(f"in {variable}")


@pytest.mark.parametrize("text", ["a\\u0000b", "a\\nb", "\\u001b[31m"])
def test_a_text_with_characters_that_cannot_be_printed_is_refused(tmp_path: Path, text: str) -> None:
    """No name of a file or host has them; the error shows them as they are written."""
    file = tmp_path / "x.toml"
    file.write_text(f'state_dir = "{text}"\n')
    with pytest.raises(InvalidInputError, match=r"state_dir: .* cannot be printed") as caught:
        load({"state_dir": ""}, flags={}, environment={}, file=file, default_files=[])
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 2000, '"\\u0000', "1e", "{a = {a = "])
def test_a_file_that_nobody_can_read_is_refused_and_named(file: Path, value: str) -> None:
    """Also one at which Python itself gives up: a number of thousands of digits, lists in lists in lists."""
    file.write_text(f"tries = {value}\n")
    assert str(file) in refused("config", file=file)


def test_a_whole_number_that_is_too_large_for_a_float_is_as_large_as_can_be(file: Path) -> None:
    """Whatever it is for refuses it then, with its range."""
    file.write_text(f"timeout = {10**400}\n")
    assert loaded(file=file)["timeout"] == float("inf")
