"""The file that says who the agents are: what is in it holds together, and a mistake is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import chat.roles
from chat.errors import Invalid
from chat.requests import CreateRun
from chat.roles import AGENTS, ROLES, load_roles
from chat.runs import Role
from tests.world import ANNA, World

FILE = Path(chat.roles.__file__).with_name("agents.toml")


def test_the_four_agents_are_who_they_always_were():
    assert [(one.id, one.name, one.role) for one in AGENTS.values()] == [
        ("miso", "Miso", Role.ARCHITECT),
        ("nori", "Nori", Role.CODER),
        ("koji", "Koji", Role.REVIEWER),
        ("toro", "Toro", Role.TESTER),
    ]


def test_every_role_can_be_started_in_each_way():
    for role in ROLES.line:
        for kind in ROLES.commands:
            assert ROLES.command(role, kind)
    with pytest.raises(Invalid, match="no command 'none' for the coder"):
        ROLES.command(Role.CODER, "none")


def test_a_role_may_have_a_command_of_its_own(tmp_path: Path):
    path = tmp_path / "agents.toml"
    path.write_text(FILE.read_text() + '\n[role.tester.commands]\ndemo = ["pytest", "{repo}"]\n')
    roles = load_roles(path)
    assert roles.command(Role.TESTER, "demo") == ["pytest", "{repo}"]
    assert roles.command(Role.CODER, "demo") == ROLES.command(Role.CODER, "demo")


MISTAKES = [
    ('name = "Nori"', 'name = ""', r"role\.coder\.name: String should have at least 1 character"),
    ("cpu = 1024", "cpu = 1000", r"role\.coder: cpu is one of 256, .*, not 1000"),
    ("memory_mib = 4096", "memory_mib = 512", r"memory_mib is 2048 to 8192 with cpu = 1024"),
    ("memory_mib = 4096", "memory_mib = 2500", r"with cpu = 1024, in steps of 1024, not 2500"),
    ("cpu = 1024", "cpu = 256", r"memory_mib is 512, 1024, 2048 with cpu = 256, not 4096"),
    ("timeout_min = 180", "timeout_min = 0", r"role\.coder\.timeout_min: .* greater than or equal"),
    ("timeout_min = 180", "timeout = 180", r"role\.coder\.timeout_min: Field required"),
    ("[role.coder]", "[role.codr]", r"role\.codr: Input should be 'architect', 'coder'"),
    ('agent_id = "nori"', 'agent_id = "miso"', "each role needs an agent_id of its own"),
    ('sends_back_to = "coder"', 'sends_back_to = "tester"', "reviewer.sends_back_to names a role"),
    ("rounds = 3", "rounds = -1", r"pipeline\.rounds: .* greater than or equal to 0"),
    ('"{pyz}", "run"', '"{pyy}", "run"', r"the command 'demo' has \{pyy\}, which is none of"),
    ("[pipeline]", "[pipeline", "Expected ']'"),
]


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES)
def test_a_mistake_is_one_line_that_names_its_place(
    tmp_path: Path, right: str, wrong: str, said: str
):
    path = tmp_path / "agents.toml"
    text = FILE.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong, 1))
    with pytest.raises(Invalid, match=said) as refused:
        load_roles(path)
    assert refused.value.detail.startswith("agents.toml")
    assert "\n" not in refused.value.detail


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path):
    with pytest.raises(Invalid, match="cannot be read"):
        load_roles(tmp_path / "agents.toml")


def test_an_operators_own_file_says_who_the_agents_are(
    tmp_path: Path, make_world: Callable[..., World]
):
    text = FILE.read_text().replace('"nori"', '"rolf"').replace('"Nori"', '"Rolf"')
    (tmp_path / "mine.toml").write_text(text)
    world = make_world(AGENTS_FILE=str(tmp_path / "mine.toml"))

    made = world.chat.runs.create(
        ANNA, CreateRun(feature_id=world.feature_id, agent_id="rolf"), key="k"
    )

    assert (made.run.agent_name, made.run.role) == ("Rolf", Role.CODER)
    assert "rolf" in world.chat.roles.agents
    with pytest.raises(Invalid, match="'agent_id' is one of miso, rolf, koji, toro"):
        world.chat.runs.create(ANNA, CreateRun(feature_id=world.feature_id, agent_id="nori"))
