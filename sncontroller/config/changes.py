"""What differs between two configurations, by group: what a reload has to do, and no more."""

from __future__ import annotations

from dataclasses import dataclass

from sncontroller.core.model import Config


@dataclass(frozen=True, slots=True)
class Differences:
    """Names of groups, each in the order of its file, and of settings outside the groups."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.settings)

    def __str__(self) -> str:
        parts = {
            "settings": self.settings,
            "added": self.added,
            "changed": self.changed,
            "removed": self.removed,
        }
        told = [f"{what} {', '.join(names)}" for what, names in parts.items() if names]
        return "; ".join(told) or "nothing changed"


def differences(old: Config, new: Config) -> Differences:
    """The groups that were added, removed and changed, and the other settings that changed."""
    before, after = ({spec.name: spec for spec in config.groups} for config in (old, new))
    settings = [name for name in Config.model_fields if name != "groups"]
    return Differences(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
        settings=tuple(name for name in settings if getattr(old, name) != getattr(new, name)),
    )
