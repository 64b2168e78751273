"""Coroutine shapes that compile and then go wrong; docs/hazards.md says what to write instead.

A capturing lambda's captures die with the lambda, not with the coroutine's frame. The others are miscompiled by GCC 12: bodies skipped,
short-circuits lost, temporaries destroyed twice.
"""

import re

import source
from source import Braces, Lambda, Token

_AWAITING = ("co_await", "co_yield")
_COROUTINE = ("co_await", "co_yield", "co_return")
# A braced temporary of these has no destructor that could run twice.
_WITHOUT_DESTRUCTOR = re.compile(r"(nano|micro|milli)?seconds|minutes|hours|duration|span|string_view|byte|u?int\d*_t|size_t|int|bool|char")
_CONTROL = ("if", "while", "for", "switch")


def violations(statements):
    """(line, what) for each violation in `statements` and what they contain."""
    for statement in source.walk(statements):
        for item in source.all_items(statement.items):
            if isinstance(item, Lambda) and item.captures and _is_coroutine(item.body):
                yield item.line, "a capturing lambda is a coroutine: use a function with parameters"
        conditions, expression = _split_control(statement.items)
        for keyword, condition in conditions:
            yield from _condition(keyword, condition)
        yield from _full_expression(expression)


def _is_coroutine(body):
    """Whether the function with this body awaits, itself: not in a lambda inside it."""
    return any(
        source.has_token(statement.items, *_COROUTINE) or (statement.block is not None and _is_coroutine(statement.block))
        for statement in body
    )


def _closing(items, start):
    depth = 0
    for index in range(start, len(items)):
        if isinstance(items[index], Token):
            depth += {"(": 1, ")": -1}.get(items[index].text, 0)
            if depth == 0:
                return index
    return len(items)


def _split_control(items):
    """The conditions that a statement begins with, as (keyword, items), and the rest: `if (a) while (b) c` has two."""
    conditions = []
    while items and isinstance(items[0], Token):
        if items[0].text == "else":
            items = items[1:]
            continue
        if items[0].text not in _CONTROL:
            break
        start = 1
        while start < len(items) and not (isinstance(items[start], Token) and items[start].text == "("):
            start += 1
        end = _closing(items, start)
        conditions.append((items[0].text, items[start + 1 : end]))
        items = items[end + 1 :]
    return conditions, items


def _split(items, separator):
    """`items` at each `separator` that stands in no parentheses."""
    parts, depth = [[]], 0
    for item in items:
        text = item.text if isinstance(item, Token) else ""
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(text, 0)
        if text == separator and depth == 0:
            parts.append([])
        else:
            parts[-1].append(item)
    return parts


def _is_declaration(items):
    """`auto received = ...`, `const Type<Argument>& name = ...`."""
    left = []
    for item in items:
        if not isinstance(item, Token):
            return False
        if item.text == "=":
            words = [text for text in left if re.match(r"\w", text)]
            return len(words) >= 2 and all(re.match(r"\w|::|<|>|,|&|\*|\[|\]", text) for text in left)
        left.append(item.text)
    return False


def _condition(keyword, items):
    for index, part in enumerate(_split(items, ";")):
        if not source.has_token(part, *_AWAITING):
            continue
        line = next(item.line for item in source.all_items(part) if isinstance(item, Token) and item.text in _AWAITING)
        if not _is_declaration(part) or (keyword == "for" and index > 0):
            yield line, f"co_await in the condition of `{keyword}`: name the value first, or declare it there"
        yield from _full_expression(part)


def _nested(items):
    """`items` with each parenthesised group as a list of its own."""
    stack = [[]]
    for item in items:
        text = item.text if isinstance(item, Token) else ""
        if text in ("(", "["):
            stack.append([])
        elif text in (")", "]") and len(stack) > 1:
            group = stack.pop()
            stack[-1].append(group)
        else:
            stack[-1].append(item)
    while len(stack) > 1:
        group = stack.pop()
        stack[-1].append(group)
    return stack[0]


def _awaits(item):
    if isinstance(item, list):
        return any(_awaits(inner) for inner in item)
    if isinstance(item, Braces):
        return source.has_token(item.items, *_AWAITING)
    return isinstance(item, Token) and item.text in _AWAITING


def _operators(group):
    """(line, what) for operators that have an operand which awaits."""
    segments = [[]]
    for item in group:
        if isinstance(item, Token) and item.text == ",":
            segments.append([])
        else:
            segments[-1].append(item)
    for segment in segments:
        if any(_awaits(item) for item in segment):
            for index, item in enumerate(segment):
                text = item.text if isinstance(item, Token) else ""
                if text == "?" or text in ("||", "or", "and"):
                    yield item.line, f"co_await in an operand of `{text}`: name the value first"
                if text == "&&" and not _is_reference(segment, index):
                    yield item.line, "co_await in an operand of `&&`: name the value first"
        for item in segment:
            if isinstance(item, list):
                yield from _operators(item)
            if isinstance(item, Braces):
                yield from _operators(_nested(item.items))


def _is_reference(segment, index):
    """Whether `&&` is part of a declared type: `auto&& name = ...`, `Type&& name : ...`."""
    after = [item.text if isinstance(item, Token) else "" for item in segment[index + 1 : index + 3]]
    before = segment[index - 1].text if index > 0 and isinstance(segment[index - 1], Token) else ""
    return before == "auto" or (len(after) == 2 and bool(re.match(r"[A-Za-z_]", after[0])) and after[1] in ("=", ":"))


def _full_expression(items):
    if not source.has_token(items, *_AWAITING):
        return
    for item in source.all_items(items):
        if isinstance(item, Lambda) and item.captures:
            yield item.line, "co_await in one full expression with a capturing lambda: name the lambda first"
        if isinstance(item, Braces) and source.has_token(item.items, *_AWAITING):
            yield item.line, "co_await in an initializer list: name the value first"
    nested = _nested(items)
    yield from _operators(nested)
    yield from _braced_arguments(nested, False)


def _braced_arguments(group, is_argument):
    """Braced temporaries that are arguments: those that are awaited themselves are destroyed once."""
    for index, item in enumerate(group):
        if isinstance(item, list):
            yield from _braced_arguments(item, True)
        if is_argument and isinstance(item, Braces):
            before = group[index - 1].text if index > 0 and isinstance(group[index - 1], Token) else ""
            if not _WITHOUT_DESTRUCTOR.fullmatch(before):
                yield item.line, "co_await in one full expression with a braced temporary as an argument: name the value first"
