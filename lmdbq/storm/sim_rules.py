"""What is set in a simulated file: of queues, of groups, of rules; and how many tokens there may be.

The tokens are an upper bound: a bucket whose rate was changed counts as full, for what was kept of the old one is told
to nobody. A claim that spends more than the bound has been given one too many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from lmdbq import lanes
from lmdbq.model import (
    DEFAULT_SETTINGS,
    GroupDelete,
    GroupPatch,
    GroupPut,
    GroupRule,
    GroupSettings,
    Op,
    QueueDelete,
    QueuePatch,
    QueuePut,
    QueueSettings,
    Rate,
    RuleDelete,
    RulePut,
)

_ROUNDING: Final = 1e-6  # tokens


class Tokens:
    """At most so many tokens there are, by the name of their bucket."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[Rate, float, int]] = {}

    def at(self, name: str, rate: Rate, steady: int) -> float:
        """Return how many there may be now."""
        known = self._left.get(name)
        if known is None or known[0] != rate:
            return float(rate.capacity)
        _, left, since = known
        return min(float(rate.capacity), left + (steady - since) * rate.tokens / rate.period_ns)

    def spend(self, name: str, rate: Rate, steady: int) -> bool:
        """Take one; False if there was none."""
        left = self.at(name, rate, steady) - 1
        self._left[name] = rate, left, steady
        return left >= -_ROUNDING

    def settle(self, steady: int) -> None:
        """Count what has come in by now, before a new boot."""
        self._left = {name: (rate, self.at(name, rate, steady), steady) for name, (rate, _, _) in self._left.items()}

    def rearm(self, steady: int) -> None:
        """A new boot: steady time begins anew, and what was between is nobody's."""
        self._left = {name: (rate, left, steady) for name, (rate, left, _) in self._left.items()}

    def forget(self, name: str) -> None:
        """Its rate was changed."""
        self._left.pop(name, None)


class Rules:
    """What is set."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self._queues: dict[str, QueueSettings] = {}
        self._groups: dict[str, GroupSettings] = {}
        self._rules: dict[str, GroupRule] = {}
        self._resolved: dict[str, GroupSettings] = {}
        self._following: Final[dict[type, Callable[..., None]]] = {
            QueuePut: self._put_queue,
            QueuePatch: self._patch_queue,
            QueueDelete: self._delete_queue,
            GroupPut: self._put_group,
            GroupPatch: self._patch_group,
            GroupDelete: self._delete_group,
            RulePut: self._put_rule,
            RuleDelete: self._delete_rule,
        }

    def follow(self, op: Op) -> bool:
        """Take down what was set; False if ``op`` sets nothing."""
        following = self._following.get(type(op))
        if following is None:
            return False
        following(op)
        return True

    def queue(self, name: str) -> QueueSettings:
        """Return the settings of a queue."""
        return self._queues.get(name, DEFAULT_SETTINGS)

    @property
    def has_weights(self) -> bool:
        """Whether any queue shares by weight."""
        return any(settings.weight for settings in self._queues.values())

    def group(self, name: str) -> GroupSettings:
        """Return what holds for a group."""
        found = self._resolved.get(name)
        if found is None:
            found = lanes.resolve(self._groups.get(name), lanes.best_rule(self._rules.values(), name))
            self._resolved[name] = found
        return found

    def weight(self, group: str) -> int:
        """Return the weight of a group in a fair queue, and that of all without one ("")."""
        return (self.group(group).weight or 1) if group else 1

    def sharing(self) -> dict[str, object]:
        """Return what the turns of fair queues depend on: the order of each queue, and the weights of groups."""
        orders: dict[str, object] = {f"queue {name}": settings.order for name, settings in self._queues.items()}
        named = {f"group {name}": settings.weight for name, settings in self._groups.items() if settings.weight}
        ruled = {f"rule {name}": rule.settings.weight for name, rule in self._rules.items() if rule.settings.weight}
        return orders | named | ruled

    def _put_queue(self, op: QueuePut) -> None:
        self._set_queue(op.queue, op.settings)

    def _patch_queue(self, op: QueuePatch) -> None:
        fields = {name: getattr(op.settings, name) for name in op.fields}
        self._set_queue(op.queue, replace(self.queue(op.queue), **fields))

    def _delete_queue(self, op: QueueDelete) -> None:
        self._set_queue(op.queue, DEFAULT_SETTINGS)

    def _set_queue(self, name: str, settings: QueueSettings) -> None:
        if settings.rate != self.queue(name).rate:
            self.tokens.forget(f"queue {name}")
        self._queues[name] = settings

    def _put_group(self, op: GroupPut) -> None:
        self._groups[op.group] = op.settings
        self._resolve()

    def _patch_group(self, op: GroupPatch) -> None:
        fields = {name: getattr(op.settings, name) for name in op.fields}
        self._groups[op.group] = replace(self._groups.get(op.group, lanes.NO_SETTINGS), **fields)
        self._resolve()

    def _delete_group(self, op: GroupDelete) -> None:
        self._groups.pop(op.group, None)
        self._resolve()

    def _put_rule(self, op: RulePut) -> None:
        self._rules[op.rule.pattern] = op.rule
        self._resolve()

    def _delete_rule(self, op: RuleDelete) -> None:
        self._rules.pop(op.pattern, None)
        self._resolve()

    def _resolve(self) -> None:
        before, self._resolved = self._resolved, {}
        for name, settings in before.items():
            if self.group(name).rate != settings.rate:
                self.tokens.forget(f"group {name}")
