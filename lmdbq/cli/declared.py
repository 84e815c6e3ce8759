"""Settings as data: what a TOML file declares, how it differs from what there is, and the file that says what there is.

The file's words are the API's: ``[queues.NAME]`` has the fields of PUT /v1/queues/NAME, and so it is with groups,
group_rules and schedules. Both sides are brought into one form by the readers of ``wire``, so that a wrong value is
refused in the API's words before anything is changed, and a file that was applied differs in nothing. Whether something
is paused is an operator's business: it is left as it is unless the file says it. TOML has no null: a payload or
metadata with one in it stands as JSON text, in ``payload_json`` or ``metadata_json``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec

from lmdbq.client import core_groups
from lmdbq.client.verbs import Verbs
from lmdbq.errors import InvalidInput
from lmdbq.model import Problem, ScheduleView
from lmdbq.wire.group_shapes import RuleAnswer
from lmdbq.wire.groups import read_group, read_rule, rule_answer, settings_body
from lmdbq.wire.problems import JSON_CODEC
from lmdbq.wire.queue_settings import read_queue, settings_answer
from lmdbq.wire.schedule_shapes import ScheduleAnswer
from lmdbq.wire.schedules import read_schedule, schedule_answer

Fields = dict[str, Any]
Declared = dict[str, dict[str, Fields]]
_JSON_FIELDS: Final = ("payload", "metadata")
_ABSENT: Final = "(not said)"


class Change(NamedTuple):
    """One thing to do. action: create, change, reset (to the defaults) or delete. fields: name -> (now, then)."""

    kind: str
    name: str
    action: str
    fields: dict[str, tuple[Any, Any]]
    is_paused: bool = False  # now

    def lines(self) -> list[str]:
        """Return it as text: a line for the thing, one for each field."""
        sign = {"create": "+", "delete": "-"}.get(self.action, "~")
        said = [f"    {field}: {_text(now)} -> {_text(then)}" for field, (now, then) in sorted(self.fields.items())]
        return [f"{sign} {self.kind.removesuffix('s')} {self.name} ({self.action})", *said]


def _text(value: Any) -> str:
    return _ABSENT if value is None else msgspec.json.encode(value).decode()


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


# --- one form for both sides ---


def _queue_form(table: Fields) -> Fields:
    settings, named = read_queue(msgspec.json.encode(table), JSON_CODEC)
    form: Fields = _plain(settings_answer(settings, JSON_CODEC))
    return form if "paused" in named else {name: value for name, value in form.items() if name != "paused"}


def _schedule_form(table: Fields) -> Fields:
    schedule, named = read_schedule(msgspec.json.encode(table), JSON_CODEC, whole=True)
    form = _form_of_schedule(schedule_answer(ScheduleView("", schedule, 0, 0), JSON_CODEC, 0))
    return form if "paused" in named else {name: value for name, value in form.items() if name != "paused"}


def _group_form(table: Fields) -> Fields:
    settings, named = read_group(msgspec.json.encode(table), JSON_CODEC)
    form: Fields = _plain(settings_body(settings))
    return {**form, "paused": settings.paused} if "paused" in named else form


def _rule_form(table: Fields) -> Fields:
    return _form_of_rule(rule_answer(read_rule("*", msgspec.json.encode(table), JSON_CODEC)))


def _form_of_rule(answer: RuleAnswer) -> Fields:
    form: Fields = _plain(answer.settings)
    return {**form, "priority": answer.priority} if answer.priority else form


def _own_groups(client: Verbs) -> dict[str, Fields]:
    """Return the groups with settings of their own."""
    found: dict[str, Fields] = {}
    cursor: str | None = None
    while cursor != "":
        page = client.groups(cursor)
        found |= {one.group_key: _plain(one.settings) for one in page.groups if one.settings is not None}
        cursor = page.next
    return found


def _form_of_schedule(answer: ScheduleAnswer) -> Fields:
    shown = _plain(answer)
    return {name: shown[name] for name in ("cron", "timezone", "catch_up", "paused", "task")}


class _Kind(NamedTuple):
    form: Callable[[Fields], Fields]
    there: Callable[[Verbs], dict[str, Fields]]
    put: Callable[[Verbs, str, Fields], object]
    remove: Callable[[Verbs, str], object]
    removal: str


KINDS: Final[Mapping[str, _Kind]] = {
    "queues": _Kind(
        _queue_form,
        lambda client: {queue.name: _plain(queue.settings) for queue in client.queues()},
        lambda client, name, fields: client.put_queue(name, **fields),
        lambda client, name: client.put_queue(name),
        "reset",
    ),
    "groups": _Kind(
        _group_form,
        _own_groups,
        lambda client, name, fields: client.call(core_groups.put_group(name, fields)),
        lambda client, name: client.delete_group(name),
        "delete",
    ),
    "group_rules": _Kind(
        _rule_form,
        lambda client: {one.pattern: _form_of_rule(one) for one in client.group_rules()},
        lambda client, name, fields: client.put_group_rule(name, **fields),
        lambda client, name: client.delete_group_rule(name),
        "delete",
    ),
    "schedules": _Kind(
        _schedule_form,
        lambda client: {one.name: _form_of_schedule(one) for one in client.schedules()},
        lambda client, name, fields: client.put_schedule(name, **fields),
        lambda client, name: client.delete_schedule(name),
        "delete",
    ),
}


# --- a file, and what to do about it ---


def read_file(path: Path) -> Declared:
    """Return what a file declares. Raises click.UsageError for what is no such file, InvalidInput for wrong values."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.UsageError(f"{path}: {error}") from None
    problems: list[Problem] = []
    declared: Declared = {}
    for kind, named in tables.items():
        if kind not in KINDS or not isinstance(named, dict):
            known = ", ".join(f"[{name}.NAME]" for name in KINDS)
            problems.append(Problem("unknown_field", f"/{kind}", f"a file has the tables {known}"))
            continue
        declared[kind] = {}
        for name, table in named.items():
            try:
                declared[kind][name] = KINDS[kind].form(_from_toml(table))
            except InvalidInput as bad:
                problems += [Problem(one.code, f"/{kind}/{name}{one.pointer}", one.detail) for one in bad.problems]
    if problems:
        raise InvalidInput(problems)
    return declared


def changes_of(client: Verbs, declared: Declared, *, prune: bool) -> list[Change]:
    """Return what makes things as declared. prune: also undo what is not declared, of the kinds the file has."""
    found: list[Change] = []
    for kind, named in declared.items():
        there = KINDS[kind].there(client)
        for name, wanted in named.items():
            known = there.get(name)
            fields = _differences(known or {}, wanted)
            if known is None:
                found.append(Change(kind, name, "create", fields))
            elif fields:
                found.append(Change(kind, name, "change", fields, bool(known.get("paused"))))
        for name in sorted(there.keys() - named.keys()) if prune else ():
            fields = {field: (value, None) for field, value in there[name].items() if field != "paused" or value}
            if fields or KINDS[kind].removal == "delete":
                found.append(Change(kind, name, KINDS[kind].removal, fields))
    return found


def _differences(known: Fields, wanted: Fields) -> dict[str, tuple[Any, Any]]:
    names = (known.keys() | wanted.keys()) - ({"paused"} - wanted.keys())
    return {name: (known.get(name), wanted.get(name)) for name in names if known.get(name) != wanted.get(name)}


def carry_out(client: Verbs, declared: Declared, changes: list[Change]) -> None:
    """Make changes."""
    for change in changes:
        kind = KINDS[change.kind]
        if change.action == kind.removal:
            kind.remove(client, change.name)
            continue
        fields = dict(declared[change.kind][change.name])
        if change.is_paused:
            fields.setdefault("paused", True)
        kind.put(client, change.name, fields)


# --- and back ---


def written(client: Verbs) -> str:
    """Return the file that declares what there is."""
    import tomli_w

    tables: Declared = {}
    for kind, about in KINDS.items():
        there = about.there(client)
        if there:
            tables[kind] = {name: _to_toml(fields) for name, fields in sorted(there.items())}
    return tomli_w.dumps(tables)


def _to_toml(fields: Fields) -> Fields:
    """Return fields without nulls and without what is not paused."""
    found: Fields = {}
    for name, value in fields.items():
        if isinstance(value, dict) and name == "task":
            found[name] = _to_toml(value)
        elif name in _JSON_FIELDS and _has_null(value):
            found[f"{name}_json"] = msgspec.json.encode(value).decode()
        elif value is not None and (name, value) != ("paused", False):
            found[name] = value
    return found


def _from_toml(table: Any) -> Fields:
    """Return a table with its JSON texts read. Raises InvalidInput."""
    if not isinstance(table, dict):
        raise InvalidInput([Problem("wrong_type", "", "it is a table")])
    found: Fields = {}
    for name, value in table.items():
        if name == "task" and isinstance(value, dict):
            found[name] = _from_toml(value)
        elif name.removesuffix("_json") in _JSON_FIELDS and name.endswith("_json"):
            try:
                found[name.removesuffix("_json")] = msgspec.json.decode(value)
            except (msgspec.DecodeError, TypeError) as bad:
                raise InvalidInput([Problem("bad_value", f"/{name}", f"it is JSON text: {bad}")]) from None
        else:
            found[name] = value
    return found


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, list) else value is None
