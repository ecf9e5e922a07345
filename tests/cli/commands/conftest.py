"""Commands that must fail, and what happens in the middle of a run."""

import pytest

from infdehaze_cli import api


@pytest.fixture
def failing(cli, make_raster, listing, tmp_path, scratch):
    """Run something that must fail, and check everything that holds for each failure."""

    def run(code, *arguments, lines=1):
        before = listing(tmp_path, scratch)
        ended = cli(*arguments)
        assert ended.code == code, ended.err
        assert ended.out == ""
        assert ended.err.count("\n") == lines
        assert ended.err.splitlines()[-1].startswith("infdehaze: ")
        assert "Traceback" not in ended.err
        assert listing(tmp_path, scratch) == before
        assert [path for path in scratch.iterdir() if path.name.startswith("infdehaze-")] == []
        return ended.err

    return run


@pytest.fixture
def at_phase(monkeypatch):
    """Do something when a run announces a phase: in the middle, when its files are open."""

    def patch(phase, action):
        def announce(self, name, total):
            if name == phase:
                action()

        monkeypatch.setattr(api.Silent, "phase", announce)

    return patch
