"""Reads C++ far enough for the checks of tidy.py: tokens, and statements with the blocks and lambdas in them. It is no parser of C++."""

import collections
import re

Token = collections.namedtuple("Token", "text line")
# A lambda in an expression: whether it captures, and its body.
Lambda = collections.namedtuple("Lambda", "line captures body")
# Braces that are part of an expression: `Type{...}`, `{1, 2}`. `items` is what stands in them.
Braces = collections.namedtuple("Braces", "line items")
# A statement up to its `;` or its block. `items` are tokens, lambdas and braces; `block` is a list of statements, or None.
Statement = collections.namedtuple("Statement", "items block line")

_TOKEN = re.compile(
    r"""(?P<raw>(?:u8|[uUL])?R"(?P<delimiter>[^(\s]*)\(.*?\)(?P=delimiter)")
      | (?P<comment>//(?:\\\n|[^\n])*|/\*.*?\*/)
      | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*")
      | (?P<character>(?:u8|[uUL])?'(?:\\.|[^'\\\n])+')
      | (?P<directive>(?m:^)[ \t]*\#(?:\\\n|[^\n])*)
      | (?P<number>\.?[0-9](?:[eEpP][+-]|'[0-9a-zA-Z]|[0-9a-zA-Z_.])*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<operator><=>|->\*|\.\.\.|<<=|>>=|::|->|&&|\|\||==|!=|<=|>=|\+\+|--|\+=|-=|\*=|/=|%=|&=|\|=|\^=|<<|\S)
    """,
    re.VERBOSE | re.DOTALL,
)


def tokenize(text, comments=False):
    """Tokens without white space, preprocessor directives and, unless asked for, comments. Strings and characters are blanked."""
    tokens = []
    line = 1
    position = 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        kind = match.lastgroup if match.lastgroup != "delimiter" else "raw"
        if kind == "comment":
            if comments:
                tokens.append(Token(match.group(), line))
        elif kind in ("raw", "string", "character"):
            tokens.append(Token('""', line))
        elif kind != "directive":
            tokens.append(Token(match.group(), line))
    return tokens


_NO_VALUE_BEFORE = {"return", "co_return", "co_await", "co_yield", "throw", "case", "else", "do", "in", "and", "or", "not"}
_BLOCK_WORDS = {"else", "do", "try", "const", "noexcept", "override", "final", "mutable"}
_BLOCK_STARTS = {"namespace", "class", "struct", "union", "enum", "extern", "export"}


def _is_word(text):
    return bool(re.match(r"\w", text))


def matching(tokens, start):
    """The index of the token that closes the bracket at `start`."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    stack = []
    for index in range(start, len(tokens)):
        text = tokens[index].text
        if text in pairs:
            stack.append(pairs[text])
        elif stack and text == stack[-1]:
            stack.pop()
            if not stack:
                return index
    return len(tokens) - 1


def _begins_lambda(tokens, index):
    if tokens[index].text != "[":
        return False
    if index + 1 < len(tokens) and tokens[index + 1].text == "[":
        return False
    if index == 0:
        return True
    before = tokens[index - 1].text
    if before in ("[", "]", ")", "auto", "delete", "operator", '""'):
        return False
    if before in ("&", "&&") and index > 1 and tokens[index - 2].text == "auto":
        return False
    return not _is_word(before) or before in _NO_VALUE_BEFORE


def _lambda_body(tokens, index):
    """The index of the `{` of the lambda that begins at `index`, or None."""
    index = matching(tokens, index) + 1
    while index < len(tokens):
        text = tokens[index].text
        if text == "{":
            return index
        if text in (";", ")", ",", "}"):
            return None
        index = matching(tokens, index) + 1 if text in ("(", "[") else index + 1
    return None


def statements(tokens, begin=0, end=None):
    """The statements of tokens[begin:end], with their blocks."""
    found, index = [], begin
    end = len(tokens) if end is None else end
    while index < end:
        statement, index = _statement(tokens, index, end)
        if statement.items or statement.block is not None:
            found.append(statement)
    return found


def _statement(tokens, index, end):
    items = []
    line = tokens[index].line
    depth = 0
    while index < end:
        token = tokens[index]
        text = token.text
        if text == ";" and depth == 0:
            return Statement(items, None, line), index + 1
        if text == ":" and depth == 0 and len(items) == 1 and items[0].text in ("public", "private", "protected", "default"):
            return Statement(items, None, line), index + 1
        if _begins_lambda(tokens, index):
            body = _lambda_body(tokens, index)
            if body is not None:
                captures = tokens[index + 1].text != "]"
                close = matching(tokens, body)
                items.append(Lambda(token.line, captures, statements(tokens, body + 1, close)))
                index = close + 1
                continue
        if text == "{":
            close = matching(tokens, index)
            if depth == 0 and _opens_block(tokens, index, items):
                block = statements(tokens, index + 1, close)
                return Statement(items, block, line), close + 1
            inner, position = [], index + 1
            while position < close:
                part, position = _statement(tokens, position, close)
                inner.extend(part.items)
            items.append(Braces(token.line, inner))
            index = close + 1
            continue
        if text in "([":
            depth += 1
        elif text in ")]":
            depth -= 1
        items.append(token)
        index += 1
    return Statement(items, None, line), index


def _opens_block(tokens, index, items):
    if not items:
        return True
    last = items[-1]
    if isinstance(last, Braces):
        return True  # the body after a constructor's `member_{value}`
    if isinstance(last, Lambda):
        return False
    if last.text in (")", ":") or last.text in _BLOCK_WORDS:
        return True
    texts = [item.text for item in items if isinstance(item, Token)]
    if texts[0] == "inline" and "namespace" in texts:
        return True
    if "=" in texts:
        return False
    first = next((text for text in texts if text not in ("template", "typedef")), "")
    if texts[0] == "template":
        return any(text in ("class", "struct", "union") for text in after_template(texts)) or "->" in texts or "requires" in texts
    if first in _BLOCK_STARTS or '""' == texts[-1] and texts[0] == "extern":
        return True
    return "->" in texts and ")" in texts[: texts.index("->")]


def after_template(texts):
    depth = 0
    for index, text in enumerate(texts):
        depth += {"<": 1, ">": -1, ">>": -2}.get(text, 0)
        if index > 0 and depth <= 0:
            return texts[index + 1 :]
    return []


def walk(found):
    """Every statement, at any depth, blocks and lambda bodies included."""
    for statement in found:
        yield statement
        if statement.block is not None:
            yield from walk(statement.block)
        for item in all_items(statement.items):
            if isinstance(item, Lambda):
                yield from walk(item.body)


def all_items(items):
    """Tokens, lambdas and braces, those inside braces too; not what is inside a lambda's body, which is another function."""
    for item in items:
        yield item
        if isinstance(item, Braces):
            yield from all_items(item.items)


def has_token(items, *texts):
    return any(isinstance(item, Token) and item.text in texts for item in all_items(items))
