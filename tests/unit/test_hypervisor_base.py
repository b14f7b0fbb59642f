"""The plugin registry: what is found, what is refused, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sncontroller.hypervisors.base import (
    ENTRY_POINT_GROUP,
    NodeInfo,
    NodeRequest,
    Owner,
    PluginError,
    load,
    names,
    shape_problems,
)

MODULE = """
from pydantic import BaseModel

class Good:
    class Config(BaseModel):
        room: int = 3
    protocol_version = 1
    def __init__(self, config, owner): ...
    def start_node(self, request): ...
    def stop_node(self, name): ...
    def list_nodes(self): ...

class Bad:
    protocol_version = 0

def function(): ...
"""

Install = Callable[..., None]


class Shape:
    """A plugin of the right shape that has no nodes."""

    class Config(BaseModel):
        """An empty section."""

    protocol_version = 1

    def __init__(self, config: Any, owner: Owner) -> None: ...

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Nothing is ever started."""
        raise NotImplementedError

    def stop_node(self, name: str) -> None:
        """Nothing is there to stop."""

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """No nodes."""
        return ()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with these entry points on the import path."""

    def _install(name: str, **points: str) -> None:
        site = tmp_path / name
        metadata = site / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{point} = {value}\n" for point, value in points.items()]
        (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{''.join(lines)}")
        (site / f"{name}.py").write_text(MODULE)
        monkeypatch.syspath_prepend(site)

    return _install


class TestLoad:
    """From a name to a class."""

    def test_plugin_of_another_distribution_is_found(self, install: Install) -> None:
        """Installing a distribution is all it takes."""
        install("snt_cloud", cloud="snt_cloud:Good")
        assert "cloud" in names()
        plugin = load("cloud")
        assert plugin.Config.model_validate({"room": 5}) == plugin.Config(room=5)

    def test_names_are_sorted_and_unique(self, install: Install) -> None:
        """Two distributions with one name give it once."""
        install("snt_one", zebra="snt_one:Good", ant="snt_one:Good")
        install("snt_two", zebra="snt_two:Good")
        found = [name for name in names() if name in ("ant", "zebra")]
        assert found == ["ant", "zebra"]

    def test_unknown_name_lists_the_known(self, install: Install) -> None:
        """A typing mistake is answered with what there is."""
        install("snt_cloud", cloud="snt_cloud:Good")
        with pytest.raises(PluginError, match=r"no .* named 'clowd'; installed: .*\bcloud\b"):
            load("clowd")

    def test_two_plugins_of_one_name_are_refused(self, install: Install) -> None:
        """Nobody guesses which of them is meant; the message names both."""
        install("snt_one", cloud="snt_one:Good")
        install("snt_two", cloud="snt_two:Good")
        with pytest.raises(PluginError, match="'cloud': snt_one:Good, snt_two:Good"):
            load("cloud")

    def test_same_plugin_found_twice_is_one(self, install: Install) -> None:
        """A distribution that is on the import path twice is no ambiguity."""
        install("snt_one", cloud="snt_one:Good")
        install("snt_again", cloud="snt_one:Good")
        assert load("cloud").__name__ == "Good"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("snt_no_module:Good", "No module named 'snt_no_module'"),
            ("snt_cloud:Missing", "no attribute 'Missing'"),
            ("snt_cloud:function", "it must be a class"),
            ("snt_cloud:Bad", "protocol_version must be 1; Config must be"),
        ],
    )
    def test_plugin_that_cannot_be_used_says_why(
        self, install: Install, value: str, reason: str
    ) -> None:
        """The message has the plugin's name, where it is, and the reason."""
        install("snt_cloud", cloud=value)
        with pytest.raises(PluginError, match=f"'cloud' \\({value}\\): .*{reason}"):
            load("cloud")


class TestShape:
    """What a plugin class must look like."""

    def test_right_shape_has_no_problem(self) -> None:
        """The smallest plugin passes."""
        assert shape_problems(Shape) == ()

    @pytest.mark.parametrize(
        ("attribute", "value", "problem"),
        [
            ("protocol_version", 2, "protocol_version must be 1"),
            ("protocol_version", None, "protocol_version must be 1"),
            ("Config", None, "Config must be a pydantic model"),
            ("Config", dict, "Config must be a pydantic model"),
            ("Config", Shape.Config(), "Config must be a pydantic model"),
            ("start_node", None, "start_node is missing"),
            ("start_node", lambda self: None, "start_node must take (self, request)"),
            ("stop_node", lambda self, node: None, "stop_node must take (self, name)"),
            ("list_nodes", lambda self, group: (), "list_nodes must take (self)"),
            ("__init__", lambda self, owner, config: None, "__init__ must take (self, config"),
        ],
    )
    def test_each_deviation_is_named(self, attribute: str, value: Any, problem: str) -> None:
        """One phrase per deviation, and no other."""
        (said,) = shape_problems(type("Plugin", (Shape,), {attribute: value}))
        assert said.startswith(problem)

    def test_all_deviations_are_named_at_once(self) -> None:
        """An empty class lacks everything, and hears so in one go."""
        said = "; ".join(shape_problems(type("Plugin", (), {})))
        for part in ("protocol_version", "Config", "__init__", "start_node", "stop_node"):
            assert part in said

    def test_instance_is_no_plugin(self) -> None:
        """The entry point names the class, not an object of it."""
        assert shape_problems(Shape(None, Owner("a", "b"))) == ("it must be a class",)
