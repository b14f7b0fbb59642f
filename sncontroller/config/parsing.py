"""From a file to a ``Config``, or to all of its problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sncontroller.config import rules, text, wording
from sncontroller.config.problems import ConfigError, Problem
from sncontroller.config.text import Document, Key
from sncontroller.config.wording import Found
from sncontroller.core.model import Config, GroupSpec, HypervisorSpec
from sncontroller.hypervisors import base

M = TypeVar("M", bound=BaseModel)
_GROUPS_ARE = "must be a mapping of a group's name to its settings, as in groups: {web: {...}}"


def load(path: str | Path) -> Config:
    """The configuration in a file. Raises ``ConfigError``."""
    name = str(path)
    try:
        content = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([Problem(name, "there is no such file")]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(name, "is a directory; name the YAML file in it")]) from None
    except PermissionError:
        message = "cannot be read: permission denied; run as its owner or root"
        raise ConfigError([Problem(name, message)]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start + 1}); save it as UTF-8"
        raise ConfigError([Problem(name, message)]) from None
    except (OSError, ValueError) as error:
        raise ConfigError([Problem(name, f"cannot be read: {error}")]) from None
    return parse(content, name)


def parse(content: str, name: str = "configuration") -> Config:
    """The configuration in YAML text; ``name`` is what problems call it. Raises ``ConfigError``."""
    document = text.read(content, name)
    if not isinstance(document.value, dict):
        message = f"must hold a mapping with the key 'groups', not {_kind(document.value)}"
        raise ConfigError([Problem(name, message)])
    reader = _Reader()
    config = reader.config(document.value)
    if config is None or reader.found:
        raise ConfigError(_problems(reader.found, document))
    return config


class _Reader:
    """One reading of a file's values: what was found wrong so far."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self._plugins: dict[str, type[base.Hypervisor]] = {}
        """Those looked up so far: a look among all that is installed takes milliseconds."""

    def config(self, raw: dict[Any, Any]) -> Config | None:
        """The configuration, or ``None`` when its parts outside the groups are wrong."""
        head = {key: value for key, value in raw.items() if key != "groups"}
        config = self._model(Config, head, ())
        groups = self._groups(raw)
        self.found += rules.contradictions(groups)
        return None if config is None else config.model_copy(update={"groups": groups})

    def _groups(self, raw: dict[Any, Any]) -> tuple[GroupSpec, ...]:
        if "groups" not in raw:
            self.found.append((("groups",), f"is missing; it {_GROUPS_ARE}"))
            return ()
        groups = raw["groups"]
        if not isinstance(groups, dict):
            self.found.append((("groups",), f"{_GROUPS_ARE}, not {_kind(groups)}"))
            return ()
        specs = (self._group(name, value) for name, value in groups.items())
        return tuple(spec for spec in specs if spec is not None)

    def _group(self, name: Any, raw: Any) -> GroupSpec | None:
        at = ("groups", str(name))
        if not isinstance(name, str):
            self.found.append((at, f"must be text; put the name in quotes: '{name}'"))
            return None
        if not isinstance(raw, dict):
            message = f"must be a mapping with match, primary, scaling and health, not {_kind(raw)}"
            self.found.append((at, message))
            return None
        before = len(self.found)
        values = dict(raw)
        if "name" in values:
            message = "unknown key; a group's name is the key it stands under"
            self.found.append(((*at, "name"), message))
        values["name"] = name
        if values.get("hypervisor") is not None:
            values["hypervisor"] = self._hypervisor(values["hypervisor"], (*at, "hypervisor"))
        spec = self._model(GroupSpec, values, at)
        return spec if len(self.found) == before else None

    def _hypervisor(self, raw: Any, at: tuple[Key, ...]) -> HypervisorSpec | None:
        if not isinstance(raw, dict):
            message = f"must be a mapping with the plugin's name, {{plugin: ...}}, not {_kind(raw)}"
            self.found.append((at, message))
            return None
        name = raw.get("plugin")
        if not isinstance(name, str):
            installed = ", ".join(base.names()) or "none"
            missing = "is missing" if name is None else "must be text"
            message = f"{missing}: name the hypervisor plugin; installed: {installed}"
            self.found.append(((*at, "plugin"), message))
            return None
        try:
            plugin = self._plugins.get(name) or base.load(name)
        except base.PluginError as error:
            self.found.append(((*at, "plugin"), str(error)))
            return None
        self._plugins[name] = plugin
        own = {key: value for key, value in raw.items() if key in HypervisorSpec.own_keys()}
        section = {key: value for key, value in raw.items() if key not in own}
        config = self._model(plugin.Config, section, at)
        if config is None:
            return None
        return self._model(HypervisorSpec, {**own, "config": config}, at)

    def _model(self, model: type[M], raw: dict[Any, Any], at: tuple[Key, ...]) -> M | None:
        """``raw`` as the model, or ``None`` with what is wrong noted under ``at``."""
        core = {key: value for key, value in raw.items() if not isinstance(value, BaseModel)}
        stray = list(wording.stray_booleans(model, core))
        self.found += (((*at, *keys), message) for keys, message in stray)
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            told = {keys for keys, _ in stray}
            self.found += (
                _placed(at, keys, message)
                for keys, message in wording.found_in(error, model, raw)
                if keys not in told
            )
            return None


def _placed(at: tuple[Key, ...], keys: tuple[Key, ...], message: str) -> Found:
    """A problem inside a section as one of the whole file; a group's name is its key."""
    if at[:1] == ("groups",) and len(at) == 2 and keys == ("name",):
        return at, wording.NAME_RULE
    return (*at, *keys), message


def _problems(found: Iterable[Found], document: Document) -> list[Problem]:
    """The problems with their lines, in the order of the file."""
    problems = []
    for keys, message in dict.fromkeys(found):
        path, line = document.place(keys)
        problems.append(Problem(path, message, line))
    return sorted(problems, key=lambda problem: problem.line or 0)


def _kind(value: Any) -> str:
    """What a wrong value is, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else f"'{value}'"
