"""Progress in a terminal, in a log, and without standard error."""

import io
import re
import sys

import pytest

from skxmc._utils import progress
from skxmc._utils.progress import progress_bar, show_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def show(monkeypatch):
    """Function that runs a bar of 1,000 steps on an output, and returns what that has got."""

    def run(output, verbose=1, **options):
        monkeypatch.setattr(sys, "stderr", output)
        for step in progress_bar(verbose, range(1000), desc="epoch 1/1", **options):
            if step == 499:
                show_line(verbose, "half of it")
        return output and output.getvalue()

    return run


def test_progress_bar_in_log_prints_first_and_last_line(show):
    lines = show(io.StringIO()).splitlines()
    assert [line.split(" [")[0] for line in lines] == [
        "epoch 1/1: 0/1000",
        "half of it",
        "epoch 1/1: 1000/1000",
    ]
    assert re.fullmatch(r"epoch 1/1: 1000/1000 \[\d\d:\d\d<00:00, .*it/s\]", lines[-1])


def test_progress_bar_in_log_prints_lines_between(show):
    text = show(io.StringIO(), seconds_per_line=0)
    assert len(text.splitlines()) > 100
    assert "\r" not in text


def test_progress_bar_in_terminal_overwrites_itself(show):
    assert show(Terminal()).count("\r") > 2


@pytest.mark.parametrize(("before", "shown"), [(0.0, True), (600.0, False)])
def test_slow_bar_appears_only_after_some_seconds(before, shown, monkeypatch):
    output = Terminal()
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", before)
    with progress.slow_bar(1, desc="encoding texts", total=3) as bar:
        bar.update(3)
    assert ("encoding texts" in output.getvalue()) == shown


def test_progress_bar_verbose_0_prints_nothing(show):
    assert show(io.StringIO(), verbose=0) == ""


def test_progress_bar_without_stderr_prints_nothing(show, capsys):
    show(None)
    assert capsys.readouterr().out == ""


def test_progress_bar_stderr_that_can_only_write_prints_lines(show):
    class Sink:
        """Minimal replacement of standard error, as servers and windows install it."""

        text = ""

        def write(self, text):
            self.text += text

        def getvalue(self):
            return self.text

    lines = show(Sink()).splitlines()
    assert [line.split(" [")[0] for line in lines if line] == [
        "epoch 1/1: 0/1000",
        "half of it",
        "epoch 1/1: 1000/1000",
    ]
