"""What `--json` prints: the report's rows as plain dicts and lists."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, cast


def plain(value: Any) -> Any:
    """`value` with every dataclass and named tuple in it as a dict, every tuple as a list."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("list[Any]", value)]
    return value
