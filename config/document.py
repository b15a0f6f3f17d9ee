"""Reads the provisioning document: YAML into rows, with the line and path of every value, all errors at once.

Strict: an unknown key, a value of the wrong type, an entry twice, a missing secret are errors. Whether references exist
and rules hold is the database's to say, in `config.apply`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import yaml

from config.errors import ConfigError
from config.form import BY_TABLE, ROUTES, SECTIONS, UNCHANGED, Field, Kind, Section, Value

VERSION = 1
_DOCUMENT_KEYS = ("version", *(s.table for s in SECTIONS if not s.within))


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One error: where it is and what to do."""

    line: int
    path: str
    text: str


class DocumentError(ConfigError):
    """A document that is not applied; `faults` has all errors, in the order of lines."""

    def __init__(self, file: str, faults: list[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__("\n".join(f"{file}:{f.line}: {f.path}: {f.text}" for f in self.faults))


@dataclass(frozen=True, slots=True)
class Password:
    """What the document says of a secret: the secret itself; or it stays (`text` None, `stays`); or it goes."""

    text: str | None = None
    stays: bool = False
    marked: bool = False
    """The document says that one is stored."""

    def __repr__(self) -> str:
        return "Password(...)"


@dataclass(slots=True)
class Entry:
    """One row as the document states it."""

    section: Section
    values: dict[str, Value]
    line: int
    path: str
    password: Password | None = None
    places: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Line and path of each column that the document writes."""

    @property
    def key(self) -> tuple[str, ...]:
        """The values of the key columns."""
        return tuple(str(self.values[c]) for c in self.section.key)

    def fault(self, text: str, column: str = "") -> Fault:
        """An error of this entry, at `column` where the document writes it."""
        line, path = self.places.get(column) or self.places.get(f"{column}_kind") or (self.line, self.path)
        return Fault(line, path, text)


@dataclass(slots=True)
class Document:
    """All entries by table and key."""

    file: str
    entries: dict[str, dict[tuple[str, ...], Entry]]


def read_document(file: Path, environment: Mapping[str, str] | None = None) -> Document:
    """Read `file`; secrets come from it, from `environment`, or from files beside it. Raises DocumentError."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(str(file), [Fault(1, "document", f"cannot be read: {error}")]) from None
    return parse_document(text, str(file), environment)


def parse_document(text: str, file: str = "document", environment: Mapping[str, str] | None = None) -> Document:
    """As `read_document`, of a text; `file` is its name in errors."""
    reader = _Reader(Path(file).parent, os.environ if environment is None else environment)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        what = getattr(error, "problem", None) or "is no YAML"
        raise DocumentError(file, [Fault(line, "document", f"is no YAML: {what}")]) from None
    document = Document(file, {s.table: {} for s in SECTIONS})
    reader.document(root, document)
    if reader.faults:
        raise DocumentError(file, reader.faults)
    return document


class _Wrong(Exception):
    """A value is not what its key wants."""


class _Reader:
    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.faults: list[Fault] = []
        self._folder = folder
        self._environment = environment

    def document(self, root: yaml.Node | None, document: Document) -> None:
        if root is None:
            self.faults.append(Fault(1, "document", f"is empty; it begins with version: {VERSION}"))
            return
        top = self._mapping(root, "document", _DOCUMENT_KEYS)
        version = top.pop("version", None)
        if version is None or not isinstance(version, yaml.ScalarNode) or version.value != str(VERSION):
            self.faults.append(Fault(_line(version or root), "version", f"must be {VERSION}"))
        for table, node in top.items():
            self._entries(BY_TABLE[table], node, table, document)

    def _entries(
        self, section: Section, node: yaml.Node, path: str, document: Document, block: Entry | None = None
    ) -> None:
        if _is_null(node):
            return
        if not isinstance(node, yaml.SequenceNode):
            self.faults.append(Fault(_line(node), path, "must be a list"))
            return
        for index, item in enumerate(node.value):
            entry = self._entry(section, item, f"{path}[{index}]", document, block)
            if entry is None:
                continue
            table = document.entries[section.table]
            first = table.setdefault(entry.key, entry)
            if first is not entry:
                name = "/".join(entry.key)
                self.faults.append(
                    Fault(entry.line, entry.path, f"{name} is here twice; the first is in line {first.line}")
                )

    def _entry(
        self, section: Section, node: yaml.Node, path: str, document: Document, block: Entry | None
    ) -> Entry | None:
        keys = [f.key for f in section.fields]
        secret = section.secret
        if secret is not None:
            keys += [secret.key, f"{secret.key}_env", f"{secret.key}_file"]
        if section.table == "blocks":
            keys.append("ranges")
        before = len(self.faults)
        given = self._mapping(node, path, keys)
        entry = Entry(section, {}, _line(node), path)
        if block is not None:
            entry.values["block"] = block.values.get("prefix")
        for wanted in section.fields:
            self._field(wanted, given.get(wanted.key), path, entry)
        if secret is not None:
            entry.password = self._password(secret.key, secret.keep, given, path)
        if len(self.faults) > before and any(entry.values.get(c) is None for c in section.key):
            return None
        if "ranges" in given and section.table == "blocks":
            self._entries(BY_TABLE["ranges"], given["ranges"], f"{path}.ranges", document, entry)
        return entry

    def _mapping(self, node: yaml.Node, path: str, allowed: tuple[str, ...] | list[str]) -> dict[str, yaml.Node]:
        found: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            self.faults.append(Fault(_line(node), path, f"must be a mapping with the keys {', '.join(allowed)}"))
            return found
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            at = f"{path}.{key}" if path != "document" else key
            if key not in allowed:
                self.faults.append(Fault(_line(key_node), at, f"unknown key; known are {', '.join(allowed)}"))
            elif key in found:
                self.faults.append(Fault(_line(key_node), at, "this key is here twice"))
            else:
                found[key] = value
        return found

    def _field(self, wanted: Field, node: yaml.Node | None, path: str, entry: Entry) -> None:
        at = f"{path}.{wanted.key}"
        if wanted.kind is Kind.GROUP:
            given = {} if node is None or _is_null(node) else self._mapping(node, at, [p.key for p in wanted.parts])
            for part in wanted.parts:
                self._field(part, given.get(part.key), at, entry)
            return
        columns = [wanted.stored_in]
        values: list[Value]
        if wanted.kind is Kind.ROUTE:
            columns = [f"{wanted.stored_in}_kind", f"{wanted.stored_in}_target"]
        if node is None or _is_null(node):
            if wanted.required:
                self.faults.append(Fault(_line(node) if node else entry.line, at, "is required"))
            values = ["none" if wanted.key == "route" else None, None] if len(columns) == 2 else [wanted.default]
        else:
            entry.places.update(dict.fromkeys(columns, (_line(node), at)))
            try:
                values = list(_route(node)) if len(columns) == 2 else [_value(wanted.kind, node)]
            except _Wrong as wrong:
                self.faults.append(Fault(_line(node), at, str(wrong)))
                values = [None] * len(columns)
        entry.values.update(zip(columns, values, strict=True))

    def _password(self, key: str, keep: bool, given: Mapping[str, yaml.Node], path: str) -> Password:
        named = [k for k in (key, f"{key}_env", f"{key}_file") if k in given]
        if not named:
            return Password(stays=keep)
        if len(named) > 1:
            self.faults.append(Fault(_line(given[named[1]]), path, f"{' and '.join(named)}: give one of them"))
            return Password(stays=True)
        node = given[named[0]]
        at = f"{path}.{named[0]}"
        if named[0] == key:
            if _is_null(node):
                return Password()
            try:
                text = _text(node)
            except _Wrong as wrong:
                self.faults.append(Fault(_line(node), at, str(wrong)))
                return Password(stays=True)
            if text == UNCHANGED:
                return Password(stays=True, marked=True)
        else:
            try:
                text = self._secret_from(named[0], _text(node))
            except _Wrong as wrong:
                self.faults.append(Fault(_line(node), at, str(wrong)))
                return Password(stays=True)
        if not text:
            self.faults.append(Fault(_line(node), at, "is empty; leave it out for no password"))
        return Password(text)

    def _secret_from(self, key: str, name: str) -> str:
        if key.endswith("_env"):
            found = self._environment.get(name)
            if found is None:
                raise _Wrong(f"the environment has no variable {name}; set it")
            return found
        try:
            return (self._folder / name).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise _Wrong(f"the file {name} cannot be read: {getattr(error, 'strerror', error)}") from None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _Wrong("must be a text")
    kind = node.tag.rpartition(":")[2]
    if kind != "str":
        hint = "true or false" if kind == "bool" else "a number" if kind in ("int", "float") else f"a {kind}"
        raise _Wrong(f'must be a text, YAML reads {hint}: write it in quotes, "{node.value}"')
    if any(c < " " for c in node.value):
        raise _Wrong("must be one line without control characters")
    return str(node.value)


def _integer(node: yaml.Node) -> int:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int":
        plain = node.value.removeprefix("-")
        if plain.isdecimal() and (plain == "0" or plain[0] != "0") and len(plain) <= 9:
            return int(node.value)
    raise _Wrong("must be a whole number")


def _moment(node: yaml.Node) -> date | datetime:
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    try:
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise _Wrong("must be a date such as 2026-12-01 or a time such as 2026-11-20T10:00:00Z") from None


def _network(node: yaml.Node) -> IPv4Network | IPv6Network:
    text = _text(node)
    try:
        return ip_network(text)
    except ValueError as error:
        raise _Wrong(f"{text} is no address or network: {error}") from None


def _value(kind: Kind, node: yaml.Node) -> Value:
    if kind is Kind.TEXT:
        return _text(node)
    if kind is Kind.INTEGER:
        return _integer(node)
    if kind is Kind.BOOLEAN:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
            return node.value.lower() in ("true", "yes", "on")
        raise _Wrong("must be true or false")
    if kind is Kind.MOMENT:
        return _moment(node)
    if not isinstance(node, yaml.SequenceNode):
        raise _Wrong("must be a list")
    if kind is Kind.INTEGERS:
        return [_integer(item) for item in node.value]
    if kind is Kind.NETWORKS:
        return [_network(item) for item in node.value]
    return [_text(item) for item in node.value]


def _route(node: yaml.Node) -> tuple[str, str | None]:
    if isinstance(node, yaml.ScalarNode) and node.value == "none":
        return "none", None
    words = f"must be none or a mapping with one of {', '.join(ROUTES)}"
    if not isinstance(node, yaml.MappingNode) or len(node.value) != 1:
        raise _Wrong(words)
    key, target = node.value[0]
    if not isinstance(key, yaml.ScalarNode) or key.value not in ROUTES:
        raise _Wrong(words)
    if key.value == "reject":
        return "reject", str(_integer(target))
    return key.value, _text(target)
