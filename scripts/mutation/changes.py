"""Every small fault that can be put into a file: an operator, a constant, a condition, a call, a keyword at a time.

Left alone are texts for people (docstrings, words with spaces, what an exception or a warning says, descriptions of
fields and options), annotations, decorators, imports, `__all__`, and the checks of a programmer's own assumptions
(`assert`, `strict=` of zip), whose loss changes nothing that a user sees.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

_COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_OPPOSITES = {
    "min": "max",
    "any": "all",
    "floor": "ceil",
    "mean": "sum",
    "sin": "cos",
    "amin": "amax",
    "argmin": "argmax",
}
_OPPOSITES = _OPPOSITES | {new: old for old, new in _OPPOSITES.items()}
# Their arguments are for people, or for a type checker.
_SPEECH = re.compile(
    r".*(Error|Warning|Exit|BadParameter)$|warn|warning|info|debug|print|echo|say|note|cast|TypeVar|NewType"
)
_WORDS_FOR_PEOPLE = {"description", "help", "metavar", "desc", "strict", "encoding", "rich_help_panel"}
_WORD = re.compile(r"[\w./:-]+")


@dataclass(frozen=True)
class Change:
    """Bytes `start` to `end` of a file replaced by `new`; `line` counts from 1, `scope` is the function or class."""

    path: str
    scope: str
    line: int
    text: str  # the line, without its indentation
    kind: str
    start: int
    end: int
    new: str
    key: str = ""  # by content: the same after lines moved

    def applied(self, source: bytes) -> bytes:
        """The file with the fault."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def changes_of(path: str, source: bytes) -> list[Change]:
    """All faults of a file, by place; `is_sound` is asked of those that are used."""
    tree = ast.parse(source)
    found = []
    seen: dict[str, int] = {}
    for change in sorted(_Finder(path, source).of(tree), key=lambda each: (each.start, each.end, each.kind, each.new)):
        place = len(source[: change.start].rsplit(b"\n", 1)[-1].lstrip())
        content = "\0".join([path, change.scope, change.text, change.kind, str(place), change.new])
        seen[content] = seen.get(content, 0) + 1
        key = hashlib.sha256(f"{content}\0{seen[content]}".encode()).hexdigest()[:12]
        found.append(replace(change, key=key))
    return found


def is_sound(change: Change, source: bytes) -> bool:
    """Whether the faulty file parses and is another program."""
    try:
        return ast.dump(ast.parse(change.applied(source))) != ast.dump(ast.parse(source))
    except (SyntaxError, ValueError):
        return False


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self._path, self._source = path, source
        self._lines = source.split(b"\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._scope: list[str] = []

    def of(self, tree: ast.Module) -> Iterator[Change]:
        yield from self._block(tree.body)

    # Where things are.

    def _start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr) -> str:
        return self._source[self._start(node) : self._end(node)].decode()

    def _change(self, kind: str, start: int, end: int, new: str) -> Change:
        line = self._source.count(b"\n", 0, start) + 1
        text = self._lines[line - 1].decode().strip()
        return Change(self._path, ".".join(self._scope), line, text, kind, start, end, new)

    def _instead(self, kind: str, node: ast.expr | ast.stmt, new: str) -> Change:
        return self._change(kind, self._start(node), self._end(node), new)

    def _between(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Change]:
        """Another operator between two expressions."""
        first, last = self._end(left), self._start(right)
        gap = self._source[first:last].decode()
        pattern = r"\s+".join(map(re.escape, old.split()))
        match = re.search(rf"(?<!\w){pattern}(?!\w)" if old[0].isalpha() else pattern, gap)
        if match:
            offset = first + len(gap[: match.start()].encode())
            yield self._change(kind, offset, offset + len(match.group().encode()), new)

    # Statements.

    def _block(self, body: list[ast.stmt]) -> Iterator[Change]:
        for node in body:
            yield from self._statement(node)

    def _statement(self, node: ast.stmt) -> Iterator[Change]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._scope.append(node.name)
            if not isinstance(node, ast.ClassDef):
                for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                    yield from self._expression(default)
            yield from self._block(node.body)
            self._scope.pop()
        elif isinstance(node, (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Assert, ast.Pass)):
            return
        elif isinstance(node, ast.Expr):
            yield from self._call_statement(node)
        elif isinstance(node, ast.Raise):
            yield self._instead("raise deleted", node, "pass")
        elif isinstance(node, (ast.Break, ast.Continue)):
            yield self._instead("jump", node, "continue" if isinstance(node, ast.Break) else "break")
        elif isinstance(node, ast.Return):
            yield from self._return(node)
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            yield from self._assignment(node)
        elif isinstance(node, ast.Delete):
            yield self._instead("statement deleted", node, "pass")
        else:
            yield from self._compound(node)

    def _call_statement(self, node: ast.Expr) -> Iterator[Change]:
        if isinstance(node.value, ast.Constant):
            return
        if not (isinstance(node.value, ast.Call) and _SPEECH.fullmatch(_name(node.value))):
            if isinstance(node.value, (ast.Call, ast.Await)):
                yield self._instead("statement deleted", node, "pass")
            yield from self._expression(node.value)

    def _return(self, node: ast.Return) -> Iterator[Change]:
        if node.value is None:
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield self._instead("return value", node.value, "None")
        yield from self._expression(node.value)

    def _assignment(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> Iterator[Change]:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if node.value is None or (isinstance(target, ast.Name) and target.id == "__all__"):
            return
        if isinstance(node, ast.AugAssign):
            old, new = _ARITHMETIC.get(type(node.op), ("", ""))
            if old:
                yield from self._between("arithmetic", node.target, node.value, f"{old}=", f"{new}=")
        again = isinstance(target, ast.Name) and any(
            isinstance(each, ast.Name) and each.id == target.id for each in ast.walk(node.value)
        )
        if self._scope and (
            again or isinstance(node, ast.AugAssign) or isinstance(target, (ast.Attribute, ast.Subscript))
        ):
            yield self._instead("statement deleted", node, "pass")
        yield from self._expression(node.value)

    def _compound(self, node: ast.stmt) -> Iterator[Change]:
        if isinstance(node, (ast.If, ast.While)):
            test = ast.unparse(node.test)
            if test in ("TYPE_CHECKING", "__name__ == '__main__'"):
                return
            yield from self._negated(node.test)
        for _, value in ast.iter_fields(node):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.stmt):
                    yield from self._statement(each)
                elif isinstance(each, ast.expr):
                    yield from self._expression(each)
                elif isinstance(each, ast.withitem):
                    yield from self._expression(each.context_expr)
                elif isinstance(each, (ast.ExceptHandler, ast.match_case)):
                    yield from self._block(each.body)

    # Expressions.

    def _negated(self, test: ast.expr) -> Iterator[Change]:
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return
        yield self._instead("condition negated", test, f"(not ({self._text(test)}))")

    def _expression(self, node: ast.AST) -> Iterator[Change]:
        if isinstance(node, ast.JoinedStr):
            return
        special: dict[type[ast.AST], Callable[..., Iterator[Change]]] = {
            ast.Compare: self._compare,
            ast.BinOp: self._binary,
            ast.BoolOp: self._boolean,
            ast.UnaryOp: self._unary,
            ast.Constant: self._constant,
            ast.Slice: self._slice,
        }
        if isinstance(node, ast.Call):
            yield from self._call(node)
            return
        if isinstance(node, ast.Subscript) and _name(node.value) in ("Literal", "Annotated", "Callable"):
            parts = node.slice.elts[1:] if isinstance(node.slice, ast.Tuple) else []
            if _name(node.value) == "Annotated":
                for part in parts:
                    yield from self._expression(part)
            return
        if type(node) in special:
            yield from special[type(node)](node)
        if isinstance(node, ast.IfExp):
            yield from self._negated(node.test)
        if isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield from self._negated(test)
        for child in ast.iter_child_nodes(node):
            yield from self._expression(child)

    def _compare(self, node: ast.Compare) -> Iterator[Change]:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            old, news = _COMPARISONS[type(operator)]
            for new in news:
                yield from self._between("comparison", left, right, old, new)

    def _binary(self, node: ast.BinOp) -> Iterator[Change]:
        old, new = _ARITHMETIC.get(type(node.op), ("", ""))
        # Neither texts joined nor a path's `/ NAME`, where any other operator fails at once.
        texts = [side for side in (node.left, node.right) if _is_text(side)]
        if old and not texts and not (old == "/" and _name(node.right).isupper()):
            yield from self._between("arithmetic", node.left, node.right, old, new)

    def _boolean(self, node: ast.BoolOp) -> Iterator[Change]:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from self._between("boolean", left, right, old, new)

    def _unary(self, node: ast.UnaryOp) -> Iterator[Change]:
        if isinstance(node.op, (ast.Not, ast.USub)):
            yield self._instead("unary dropped", node, f"({self._text(node.operand)})")

    def _constant(self, node: ast.Constant) -> Iterator[Change]:
        value = node.value
        if isinstance(value, bool):
            yield self._instead("constant", node, str(not value))
        elif isinstance(value, int):
            yield self._instead("constant", node, str(value + 1))
            if value > 1:
                yield self._instead("constant", node, str(value - 1))
        elif isinstance(value, float):
            yield self._instead("constant", node, repr(value * 1.5 if value else 1.0))
        elif isinstance(value, str) and _WORD.fullmatch(value) and self._text(node)[:1] in "\"'":
            yield self._instead("constant", node, repr(f"{value}X"))

    def _slice(self, node: ast.Slice) -> Iterator[Change]:
        for bound in (node.lower, node.upper):
            if bound is not None:
                yield self._instead("bound dropped", bound, "")

    def _call(self, node: ast.Call) -> Iterator[Change]:
        name = _name(node)
        if _SPEECH.fullmatch(name):
            return
        yield from self._expression(node.func)
        if name in _OPPOSITES:
            end = self._end(node.func)
            yield self._change("opposite", end - len(name), end, _OPPOSITES[name])
        for argument in node.args:
            yield from self._expression(argument)
        for keyword in node.keywords:
            if keyword.arg in _WORDS_FOR_PEOPLE:
                continue
            if keyword.arg is not None:
                yield self._dropped(node, keyword)
            yield from self._expression(keyword.value)

    def _dropped(self, call: ast.Call, keyword: ast.keyword) -> Change:
        start, end = self._start(keyword), self._end(keyword.value)
        after = re.match(rb"[\s)]*?\s*,\s*", self._source[end : self._end(call)])
        return self._change("keyword dropped", start, end + (after.end() if after else 0), "")


def _name(node: ast.expr) -> str:
    """The last part of what is called or named."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))
