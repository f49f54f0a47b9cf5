"""What the tests of commands on pictures share."""

from __future__ import annotations

import sys

import pytest

from pipelines import cli


@pytest.fixture
def agfas(monkeypatch, capsys):
    """Run a command in this process: its exit code, what it printed, and the last line on stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["agfas", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return int(stop.value.code or 0), printed.out, (printed.err.strip().splitlines() or [""])[-1]

    return run
