"""The home is private, remembers its ports, and says clearly why it cannot be used."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from agentos.apps.embedded import plan
from agentos.apps.embedded.home import DiskFull, Home, HomeDamaged, HomeUnusable, Memory
from agentos.apps.embedded.ports import Ports, PortTaken, choose, free


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def test_a_home_is_made_private_and_making_it_again_changes_nothing(home):
    home.prepare()
    home.prepare()
    assert {path.stat().st_mode & 0o777 for path in (home.path, home.logs, home.postgres, home.temporal)} == {0o700}


def test_a_folder_of_somebody_else_is_not_taken_over(home):
    home.path.mkdir(mode=0o755)
    (home.path / "thesis.txt").touch()
    with pytest.raises(HomeUnusable, match="open to others"):
        home.prepare()
    assert home.path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_place_of_the_home_is_told(home):
    home.path.touch()
    with pytest.raises(HomeUnusable, match="File exists"):
        home.prepare()


def test_a_disk_without_room_is_told(home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    with pytest.raises(DiskFull, match="Less than 200 MB are free"):
        home.prepare()


def test_a_full_disk_ends_up_in_one_line_with_the_exit_code_of_exhausted(stack, agentos):
    """A real file system of 1 MB in a mount namespace; where those are refused the test above stands alone."""
    stack.home.path.mkdir(mode=0o700, parents=True)
    mount = f"mount -t tmpfs -o size=1m,mode=700 none {stack.home.path}"
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} || exit 99; exec "$@"', "sh")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this machine refuses mount namespaces")
    code, _, err = agentos("up", prefix=prefix)
    assert code == 6 and err.startswith("home_disk_full: "), err


def test_lost_passwords_of_an_existing_database_are_told_not_replaced(home):
    home.prepare()
    (home.postgres / "data").mkdir()
    with pytest.raises(HomeDamaged, match="passwords"):
        home.memory()
    (home.path / "stack.json").write_text("{torn")
    with pytest.raises(HomeDamaged, match="cannot be read"):
        home.memory()


def test_what_a_home_remembers_comes_back(home):
    home.prepare()
    memory = Memory.new()
    memory.ports["api"] = 15001
    home.remember(memory)
    assert home.memory() == memory
    assert (home.path / "stack.json").stat().st_mode & 0o777 == 0o600


def test_a_port_is_chosen_once():
    remembered: dict[str, int] = {}
    first = Ports(remembered).take("api")
    assert Ports(remembered).take("api") == first == remembered["api"]


def test_a_port_that_a_stranger_took_is_chosen_anew_and_told():
    with socket.create_server(("127.0.0.1", choose())) as stranger:
        taken = stranger.getsockname()[1]
        said: list[str] = []
        assert Ports({"api": taken}, say=said.append).take("api") != taken
        assert said == [f"port {taken} of api is used by another program; choosing a new one"]
        assert Ports({"api": taken}, held={taken}).take("api") == taken, "our own service listens there"
        with pytest.raises(PortTaken, match=str(taken)):
            Ports({}).take("api", asked=taken)


def test_chosen_ports_lie_outside_the_range_of_outgoing_connections():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert lowest < 16_000 or all(15_000 <= choose() < lowest for _ in range(50))


def test_a_stack_moves_to_new_ports_when_strangers_took_its_own(stack, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", os.environ["AGENTOS_TEST_DATABASE_URL"])
    stack.up(workers=1)
    before = stack.home.memory().ports
    stack.down()
    with socket.create_server(("127.0.0.1", before["api"])), socket.create_server(("127.0.0.1", before["temporal"])):
        assert not free(before["api"])
        state = stack.up()
        after = stack.home.memory().ports
        assert {name for name in after if after[name] != before[name]} == {"api", "temporal"}
        assert state.api == f"http://127.0.0.1:{after['api']}"
    assert sum("choosing a new one" in line for line in stack.said) == 2


def test_services_start_compiled_where_python_may_not_write_beside_the_sources(home, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    assert plan._compiled(home) == {}
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    subprocess.run(
        [sys.executable, "-c", "import agentos.kernel.units"], env=os.environ | plan._compiled(home), check=True
    )
    assert any((home.path / "compiled").rglob("units.*.pyc"))
