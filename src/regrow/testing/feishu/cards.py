"""Cards: what the platform refuses, what a card says to people, and which buttons it has.

Schema 2.0 is checked closely, because unknown attributes are errors there; of 1.0 only its size and shape are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from regrow.testing.feishu.codes import CardError


def _names(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


REMOVED = frozenset({"note", "action"})
TEMPLATES = _names("blue wathet turquoise green yellow orange red carmine violet purple indigo grey default")
_COMMON = frozenset({"tag", "element_id", "margin"})
_ATTRIBUTES: dict[str, frozenset[str]] = {
    tag: _names(names)
    for tag, names in {
        "plain_text": "content i18n i18n_content lines text_size text_color text_align",
        "lark_md": "content i18n i18n_content lines text_size text_color text_align",
        "markdown": "content i18n_content text_size text_align text_color icon",
        "div": "text icon width fields",
        "hr": "",
        "img": "img_key alt title corner_radius scale_type size transparent preview",
        "img_combination": "combination_mode corner_radius img_list combination_transparent",
        "person": "user_id size show_avatar show_name style",
        "person_list": "persons size show_avatar show_name lines drop_invalid_user_id icon ud_icon",
        "chart": "chart_spec aspect_ratio color_theme preview height",
        "table": "columns rows row_height row_max_height page_size freeze_first_column header_style",
        "audio": "file_key audio_id show_time fill_mode",
        "column_set": "columns flex_mode horizontal_spacing horizontal_align background_style action",
        "column": (
            "elements width weight vertical_align horizontal_align vertical_spacing horizontal_spacing padding "
            "background_style direction action"
        ),
        "collapsible_panel": (
            "elements header expanded background_color border vertical_spacing horizontal_spacing padding "
            "direction vertical_align horizontal_align"
        ),
        "interactive_container": (
            "elements behaviors width height background_style has_border border_color corner_radius padding confirm "
            "disabled disabled_tips hover_tips direction vertical_spacing horizontal_spacing vertical_align "
            "horizontal_align"
        ),
        "form": (
            "elements name confirm direction horizontal_spacing horizontal_align vertical_spacing vertical_align "
            "padding"
        ),
        "button": (
            "text type size width icon hover_tips disabled disabled_tips confirm behaviors name required "
            "form_action_type"
        ),
        "input": (
            "name placeholder default_value width required disabled max_length input_type show_icon rows auto_resize "
            "max_rows label label_position value behaviors confirm fallback"
        ),
        "select_static": (
            "name placeholder options initial_option initial_index width type required disabled behaviors confirm"
        ),
        "multi_select_static": (
            "name placeholder options selected_values width type required disabled behaviors confirm"
        ),
        "select_person": "name placeholder options initial_option width type required disabled behaviors confirm",
        "multi_select_person": (
            "name placeholder options selected_values width type required disabled behaviors confirm"
        ),
        "select_img": (
            "name options style multi_select layout can_preview aspect_ratio required disabled disabled_tips behaviors"
        ),
        "date_picker": "name placeholder initial_date width required disabled behaviors confirm value",
        "picker_time": "name placeholder initial_time width required disabled behaviors confirm value",
        "picker_datetime": "name placeholder initial_datetime width required disabled behaviors confirm value",
        "overflow": "options width behaviors confirm value",
        "checker": (
            "name text checked overall_checkable button_area checked_style hover_tips padding confirm behaviors "
            "disabled disabled_tips"
        ),
        "text_tag": "text color",
        "standard_icon": "token color size",
        "custom_icon": "img_key size",
    }.items()
}
_TOP = frozenset({"schema", "config", "card_link", "header", "body"})
_CONFIG = _names(
    "streaming_mode streaming_config summary locales enable_forward update_multi width_mode use_custom_translation "
    "enable_forward_interaction style"
)
_HEADER = _names("title subtitle text_tag_list i18n_text_tag_list template icon padding")
_CONTAINERS = frozenset({"column_set", "form", "collapsible_panel", "interactive_container"})
_INTERACTIVE = _names(
    "button input select_static multi_select_static select_person multi_select_person select_img date_picker "
    "picker_time picker_datetime checker"
)
_ELEMENT_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}")
_AT = re.compile(r"<at\s+(?:id|user_id|ids)\s*=\s*[\"']?([^\s\"'>]+)[\"']?\s*>", re.IGNORECASE)
_TABLE_LINE = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")


@dataclass(frozen=True)
class Limits:
    """The numbers a card is held to."""

    card_bytes: int
    elements: int
    depth: int
    tables: int


def parse(text: str, limits: Limits, *, schema_2_only: bool = False) -> dict[str, Any]:
    """The card in `text`.

    Args:
        text: the JSON as sent.
        limits: bytes, elements, nesting, tables.
        schema_2_only: CardKit takes nothing else.

    Raises:
        CardError: with the code of each rule (issue 3, sections 4.3, 4.4 and 5.2 of the protocol notes).
    """
    if len(text.encode()) > limits.card_bytes:
        raise CardError(200860, f"card content exceeds {limits.card_bytes} bytes", outer=230025)
    try:
        card = json.loads(text)
    except ValueError as error:
        raise CardError(200621, f"parse card json err, {error}") from error
    if not isinstance(card, dict):
        raise CardError(200621, "parse card json err, the card is no object")
    if not card:
        raise CardError(200621, "the card is empty", kit=300307)
    if card.get("schema") != "2.0":
        if "schema" in card and card["schema"] != "1.0":
            raise CardError(200621, f"unknown schema {card['schema']!r}")
        if schema_2_only:
            raise CardError(200621, "schema 2.0 is required", kit=300303)
        _check_1(card)
        return card
    _check_2(card, limits)
    return card


def is_2(card: dict[str, Any]) -> bool:
    """Whether it is of schema 2.0."""
    return card.get("schema") == "2.0"


def streaming(card: dict[str, Any]) -> bool:
    """Whether streaming is switched on in its settings."""
    return bool(card.get("config", {}).get("streaming_mode"))


def config(card: dict[str, Any], name: str, default: bool) -> bool:
    """A yes or no of its `config`."""
    return bool(card.get("config", {}).get(name, default))


def _check_1(card: dict[str, Any]) -> None:
    if not any(key in card for key in ("elements", "i18n_elements", "header", "type")):
        raise CardError(200621, "the card has neither elements nor a header")
    if not isinstance(card.get("elements", []), list):
        raise CardError(200621, "elements is no list")


def _check_2(card: dict[str, Any], limits: Limits) -> None:
    _only(card, _TOP, "card")
    _only(_object(card, "config"), _CONFIG, "config")
    if _object(card, "config").get("update_multi") is False:
        raise CardError(200621, "update_multi cannot be false in schema 2.0", kit=300302)
    header = _object(card, "header")
    _only(header, _HEADER, "header")
    if header and header.get("template", "default") not in TEMPLATES:
        raise CardError(200621, f"unknown header template {header['template']!r}")
    body = _object(card, "body")
    elements = body.get("elements", [])
    if not isinstance(elements, list):
        raise CardError(200621, "body.elements is no list")
    if not elements and not header:
        raise CardError(200621, "the card is empty", kit=300307)
    check_elements(elements, limits, extra=sum(1 for _ in walk(header)))


def check_elements(elements: list[Any], limits: Limits, *, extra: int = 0) -> None:
    """Check the elements of a body.

    Args:
        elements: the root elements.
        limits: see `Limits`.
        extra: elements outside of the body that count.

    Raises:
        CardError: as `parse`.
    """
    ids: set[str] = set()
    names: set[str] = set()
    count = extra
    tables = 0
    for element in walk(elements):
        count += 1
        tag = element["tag"]
        if tag in REMOVED:
            raise CardError(200861, f"cards of schema V2 no longer support this capability; unsupported tag {tag}")
        if tag not in _ATTRIBUTES:
            raise CardError(200861, f"unknown tag {tag!r}")
        _only(element, _ATTRIBUTES[tag] | _COMMON, tag)
        identity = element.get("element_id")
        if identity is not None:
            if not isinstance(identity, str) or not _ELEMENT_ID.fullmatch(identity):
                raise CardError(200621, f"element_id {identity!r} is not a letter and up to 19 letters, digits or _")
            if identity in ids:
                raise CardError(200621, f"element_id {identity} is not unique", kit=300301)
            ids.add(identity)
        if tag in _INTERACTIVE | {"form"} and (name := element.get("name")) is not None:
            if name in names:
                raise CardError(200621, f"name {name} is not unique")
            names.add(name)
        tables += tag == "table"
        _check_element(element, tag)
    if count > limits.elements:
        raise CardError(11310, "element exceeds the limit", kit=300305)
    if tables > limits.tables:
        raise CardError(11310, "card table number over limit")
    for element in elements:
        if not isinstance(element, dict) or "tag" not in element:
            raise CardError(200621, "an element has no tag")
        _check_place(element, 0, limits.depth, root=True, form=False)


def _check_element(element: dict[str, Any], tag: str) -> None:
    if tag in ("markdown", "plain_text", "lark_md"):
        content = element.get("content")
        if not isinstance(content, str):
            raise CardError(200621, f"{tag} has no content")
        if tag == "markdown" and markdown_tables(content) > 3:
            # The documents allow four; four were refused in the field.
            raise CardError(11310, "card table number over limit")
    if tag == "button":
        text = element.get("text", {})
        if isinstance(text, dict) and len(str(text.get("content", ""))) > 100:
            raise CardError(200621, "the text of a button has at most 100 characters")
        for behavior in element.get("behaviors", []):
            if behavior.get("type") not in ("callback", "open_url"):
                raise CardError(200621, f"unknown behavior {behavior.get('type')!r}")
            if behavior["type"] == "callback" and not isinstance(behavior.get("value"), dict | str):
                raise CardError(200621, "the value of a callback is neither an object nor a text")
        if "confirm" in element and not _object(element, "confirm").get("title"):
            raise CardError(200621, "confirm has no title")
    if tag == "input":
        most = element.get("max_length", 1000)
        if not isinstance(most, int) or not 1 <= most <= 1000:
            raise CardError(200621, f"max_length of an input is 1 to 1000, not {most!r}")
    if tag == "column_set" and not isinstance(element.get("columns", []), list):
        raise CardError(200621, "column_set has no list of columns")


def _check_place(element: dict[str, Any], depth: int, most: int, *, root: bool, form: bool) -> None:
    tag = element["tag"]
    if tag in ("form", "table") and not root:
        raise CardError(200621, f"{tag} is allowed at the root only")
    if tag in _CONTAINERS:
        depth += 1
        if depth > most:
            raise CardError(11310, f"containers are nested more than {most} deep")
    if tag == "form":
        if not element.get("name"):
            raise CardError(200530, "a form has no name")
        if not any(inner["tag"] == "button" and inner.get("form_action_type") == "submit" for inner in walk(element)):
            raise CardError(200621, "a form has no submit button")
    if form and tag in _INTERACTIVE and not element.get("name"):
        raise CardError(200530, f"{tag} in a form has no name")
    children = [*element.get("elements", []), *element.get("columns", [])] if tag != "table" else []
    for child in children:
        if not isinstance(child, dict) or "tag" not in child:
            raise CardError(200621, f"an element of {tag} has no tag")
        _check_place(child, depth, most, root=False, form=form or tag == "form")


def walk(part: Any) -> Iterator[dict[str, Any]]:
    """Every object with a tag, outermost first, in the order of the card. Values of callbacks and specifications of
    charts are data and not looked into."""
    if isinstance(part, list):
        for item in part:
            yield from walk(item)
    elif isinstance(part, dict):
        if isinstance(part.get("tag"), str):
            yield part
        for key, value in part.items():
            if key not in ("value", "behaviors", "chart_spec", "rows", "i18n", "i18n_content"):
                if part.get("tag") == "table" and key == "columns":
                    continue
                yield from walk(value)


def markdown_tables(content: str) -> int:
    """How many Markdown tables stand outside of fences."""
    found = 0
    for line in _outside_fences(content):
        found += bool(_TABLE_LINE.match(line))
    return found


def _outside_fences(content: str) -> Iterator[str]:
    fence = ""
    for line in content.split("\n"):
        opened = _FENCE.match(line)
        if fence:
            if opened and opened[1][0] == fence[0] and len(opened[1]) >= len(fence) and not line.strip(" `~"):
                fence = ""
        elif opened:
            fence = opened[1]
        else:
            yield line


def mentioned(card: dict[str, Any]) -> list[str]:
    """Ids that the card's Markdown calls, `all` among them; those inside a fence are taken to be inert (assumption)."""
    found: list[str] = []
    for element in walk(card):
        if element["tag"] in ("markdown", "lark_md"):
            for line in _outside_fences(str(element.get("content", ""))):
                for match in _AT.findall(line):
                    found += match.split(",")
    return found


def find_buttons(card: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Every button with the form it stands in."""
    forms = [element for element in walk(card) if element["tag"] == "form"]
    within = {id(inner): form for form in forms for inner in walk(form)}
    return [(element, within.get(id(element))) for element in walk(card) if element["tag"] == "button"]


def reading(card: dict[str, Any]) -> str:
    """The card as plain text: title, tags, texts in order, `[Button]`, `(input name)`."""
    lines: list[str] = []
    header = card.get("header") or {}
    if title := (header.get("title") or {}).get("content"):
        tags = [tag.get("text", {}).get("content", "") for tag in header.get("text_tag_list", [])]
        lines.append(" ".join([f"# {title}", *(f"[{tag}]" for tag in tags)]))
    body = card.get("body") if is_2(card) else card
    for element in (body or {}).get("elements", []):
        lines += _lines(element)
    return "\n".join(lines)


def _lines(element: dict[str, Any]) -> list[str]:
    tag = element.get("tag")
    if tag in ("markdown", "plain_text", "lark_md"):
        return [str(element.get("content", ""))]
    if tag == "div":
        return _lines(element.get("text", {}))
    if tag == "hr":
        return ["---"]
    if tag == "button":
        return [f"[{(element.get('text') or {}).get('content', '')}]"]
    if tag == "input":
        return [f"({element.get('name', 'input')})"]
    lines: list[str] = []
    if tag == "collapsible_panel":
        lines += _lines((element.get("header") or {}).get("title") or {})
    for child in [*element.get("elements", []), *element.get("columns", []), *element.get("actions", [])]:
        if isinstance(child, dict):
            lines += _lines(child)
    return lines


def _object(part: dict[str, Any], key: str) -> dict[str, Any]:
    value = part.get(key, {})
    if not isinstance(value, dict):
        raise CardError(200621, f"{key} is no object")
    return value


def _only(part: dict[str, Any], allowed: frozenset[str], where: str) -> None:
    for key in part:
        if key not in allowed:
            raise CardError(200621, f"unknown property {key!r} of {where}")
