"""Reads a cluster file as far as these checks look into it: protobuf's text format, without its rarer forms.

    cluster = parse('router { name: "router-0" address: "router-0.router:7400" }')
    cluster["router"][0]["name"]      # ["router-0"]: every field is a list

Whether it is a good cluster file only the programs say (programs.py); names of fields are not checked here.
"""

import re

TOKEN = re.compile(r'\s+|#[^\n]*|(?P<token>"(?:[^"\\]|\\.)*"|[A-Za-z_]\w*|-?[\d.]+|[{}:])')


def tokens(text):
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            line = text.count("\n", 0, at) + 1
            raise ValueError(f"line {line}: no token of the text format: {text[at:at + 20]!r}")
        if match["token"]:
            yield match["token"]
        at = match.end()


def parse(text):
    stack = [{}]
    name = None
    for token in tokens(text):
        if token == "}":
            stack.pop()
            if not stack:
                raise ValueError("a '}' too many")
        elif token == "{":
            block = {}
            stack[-1].setdefault(name, []).append(block)
            stack.append(block)
            name = None
        elif token == ":":
            continue
        elif name is None:
            name = token
        else:
            value = token[1:-1] if token.startswith('"') else token
            stack[-1].setdefault(name, []).append(value)
            name = None
    if len(stack) != 1:
        raise ValueError("a '}' is missing")
    return stack[0]


def first(block, *path):
    """The field at the end of the path, or None."""
    for name in path:
        if block is None:
            return None
        block = block.get(name, [None])[0]
    return block


def members(cluster, role):
    return cluster.get(role, [])


def is_spare(member):
    return first(member, "spare") == "true"


def is_retiring(member):
    return first(member, "retiring") == "true"
