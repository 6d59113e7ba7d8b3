"""How commands end: one line on stderr, and an exit code."""

import pytest

from keras_elu import commands


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValueError("--a  is\nwrong."), 2), (OSError("--a is wrong."), 1), ("--a is wrong.", 1)],
)
def test_a_failure_is_one_line_and_its_exit_code_is_2_for_wrong_arguments(error, code, capsys):
    assert commands.failure(error) == code
    assert capsys.readouterr() == ("", "error: --a is wrong.\n")


def test_only_wrong_arguments_end_the_process():
    with pytest.raises(SystemExit) as stop, commands.checking_arguments():
        raise ValueError("--a is wrong.")
    assert stop.value.code == 2
    with pytest.raises(KeyError), commands.checking_arguments():
        raise KeyError("a")


def test_the_parser_accepts_whole_names_only():
    parser = commands.Parser("keras_elu.report", "Compares runs.")
    parser.add_argument("--accuracy")
    assert parser.parse_args(["--accuracy", "1"]).accuracy == "1"
    with pytest.raises(ValueError, match=r"unrecognized arguments: --acc 1; --help lists"):
        parser.parse_args(["--acc", "1"])
