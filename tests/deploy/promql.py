"""What a PromQL expression asks for: series, by name, and labels. Whether it is well formed `promtool` says (rules.py).

    asked = promql.read('sum by (pod) (rate(orrery_x_total{code="OK"}[5m])) > 0')
    asked.selectors     # [Selector(name="orrery_x_total", matchers=[("code", "=", "OK")], at=...)]
    asked.groupings     # [Grouping(labels=["pod"], selectors=[that one])]
"""

import dataclasses
import re

TOKEN = re.compile(r"""\s+ | \#[^\n]*
    | (?P<token> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | `[^`]*`
        | \d[\w.]* | [A-Za-z_:][\w:]* | [=!]~ | [=!<>]= | [-+*/%^<>=(){}\[\],@.:] )""", re.VERBOSE)
NAME = re.compile(r"[A-Za-z_:][\w:]*")
# Before a list of labels, between operands, and numbers. What a `(` follows is a function.
LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
OTHER_WORDS = {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"}
CLOSES = {"(": ")", "[": "]", "{": "}"}


@dataclasses.dataclass
class Selector:
    name: str  # empty: it has none, and may select any series
    matchers: list  # (label, operator, value)
    at: int  # index of its token


@dataclasses.dataclass
class Grouping:
    labels: list
    selectors: list  # whose series are grouped; empty: those of both sides of an operator


@dataclasses.dataclass
class Asked:
    selectors: list
    groupings: list


def tokens(expression):
    found, at = [], 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        if not match:
            raise ValueError(f"no PromQL: {expression[at:at + 20]!r}")
        found += [match["token"]] if match["token"] else []
        at = match.end()
    return found


def partners(found):
    """{index of a bracket: that of the other one}"""
    pairs, opened = {}, []
    for i, token in enumerate(found):
        if token in CLOSES:
            opened.append(i)
        elif token in CLOSES.values():
            if not opened or CLOSES[found[opened[-1]]] != token:
                raise ValueError(f"no PromQL: a {token!r} too many")
            pairs[i], pairs[opened[-1]] = opened[-1], i
            opened.pop()
    if opened:
        raise ValueError(f"no PromQL: a {found[opened[-1]]!r} is not closed")
    return pairs


def read(expression):
    found = tokens(expression)
    pairs = partners(found)
    selectors, lists = [], []
    i = 0
    while i < len(found):
        token, following = found[i], found[i + 1] if i + 1 < len(found) else ""
        if token == "[":
            i = pairs[i]  # durations
        elif token == "{":
            selectors.append(Selector("", matchers(found[i + 1:pairs[i]]), i))
            i = pairs[i]
        elif token.lower() in LISTS and following == "(":
            lists.append(i)
            i = pairs[i + 1]
        elif (NAME.fullmatch(token) and following != "(" and following.lower() not in ("by", "without")
              and token.lower() not in OTHER_WORDS | LISTS):
            has_matchers = following == "{"
            selectors.append(Selector(token, matchers(found[i + 2:pairs[i + 1]]) if has_matchers else [], i))
            i = pairs[i + 1] if has_matchers else i
        i += 1
    groupings = [Grouping([label for label in found[i + 2:pairs[i + 1]] if label != ","],
                          [each for each in selectors if each.at in operand(found, pairs, i)]) for i in lists]
    return Asked(selectors, groupings)


def matchers(found):
    """`code`, `=`, `"OK"`, `,`, ..."""
    if len(found) % 4 not in (0, 3) or any(separator != "," for separator in found[3::4]):
        raise ValueError(f"no PromQL matchers: {' '.join(found)}")
    return [(found[i], found[i + 1], found[i + 2][1:-1]) for i in range(0, len(found) - 2, 4)]


def operand(found, pairs, i):
    """Of `by` at index i: `sum by (pod) (HERE)` or `sum(HERE) by (pod)`. Of `on` and its like: nothing."""
    if found[i].lower() not in ("by", "without"):
        return range(0)
    after = pairs[i + 1] + 1
    if after < len(found) and found[after] == "(":
        return range(after, pairs[after])
    return range(pairs[i - 1], i) if found[i - 1] == ")" else range(0)


def problems(expression, known, values):
    """What is wrong with it. `known`: labels of each series that there is; `values`: those that a label may have, of
    labels that scraping gives."""
    try:
        asked = read(expression)
    except ValueError as error:
        return [f"{error} in {expression}"]
    wrong = []
    everywhere = set().union(*(known.get(each.name, set()) for each in asked.selectors))
    for selector in asked.selectors:
        if not selector.name or any(label == "__name__" for label, _, _ in selector.matchers):
            wrong.append(f"a selector without a plain name in {expression}")
        elif selector.name not in known:
            wrong.append(f"there is no series {selector.name}")
        else:
            wrong += [f"{selector.name} has no label {label}" for label, _, _ in selector.matchers
                      if label not in known[selector.name]]
            wrong += [f"{selector.name} never has {label}{operator}{value!r}"
                      for label, operator, value in selector.matchers
                      if label in values and not any(matches(operator, value, each) for each in values[label])]
    for grouping in asked.groupings:
        wrong += [f"{', '.join(each.name for each in grouping.selectors) or expression} has no label {label}"
                  for label in grouping.labels
                  if not all(label in known.get(each.name, {label}) for each in grouping.selectors)
                  or label not in everywhere]
    return wrong


def matches(operator, pattern, value):
    found = value == pattern if operator in ("=", "!=") else re.fullmatch(pattern, value) is not None
    return found is operator.startswith("=")
