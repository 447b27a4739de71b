"""The index of errors: what each code says, and its cure, read from where it is raised."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tenslora
from tenslora import errors

_CLASSES = {
    "1": ("The language", "SpecError"),
    "2": ("Sizes, ranks and budgets", "SizeError"),
    "3": ("Families", "FamilyError"),
    "4": ("Plans and backends", "PlanError"),
    "5": ("Adapters on a model", "AttachError"),
    "6": ("Checkpoints and JSON", "StateError"),
    "7": ("Data and tasks", "DataError"),
    "8": ("The command line", "UsageError"),
    "9": ("Fitting", "FitError"),
    "W": ("Warnings", "TensloraWarning"),
}
_SHOWN = 6  # places of one code
_BY_HAND = {  # what is told without a call
    "W201": [
        (
            "rank … is above …, all that its mode can carry: the extra parameters are redundant",
            "Lower it to the number that is named: fewer parameters reach the same updates.",
        )
    ]
}

_CURES = {  # what is said where advice depends on the case
    "E101": "Names are letters, digits and _; marks are [ ] ( ) = and +.",
    "E102": "Write it as W[out in] = B[out r] A[r in].",
    "E103": "Give the bond to a second core of the term, or drop it; a close name is proposed.",
    "E310": "Give start='...' for the result, or start='' for none.",
    "E501": "Name linear layers by the endings of their names; those that there are follow.",
    "E511": "Call merge() or unmerge() first, whichever is said.",
    "E533": "Call unmerge_adapter() first.",
    "E611": "The file was changed or cut: copy or save it again.",
    "E612": "The file belongs to another adapter, or a part of it is missing: copy it again.",
    "E613": "The file belongs to an adapter of other sizes.",
    "E615": "Attach a model of the architecture that it was trained on.",
    "E702": "Quote the cells that hold the separator, or give the file another ending.",
    "E705": "Give a folder of images, or a file of numpy.savez with the arrays named.",
    "E707": "Take the weights of a ViT with a class token.",
    "E801": "The options are listed; `tenslora COMMAND --help` explains them.",
}

_OTHERWISE = "The message ends with it: it depends on the case."


def error_index() -> str:
    """Return the page: for each code its title, its messages and what to do."""
    places = _places()
    parts = []
    for key, (title, name) in _CLASSES.items():
        codes = [c for c in errors.CODES if (c[0] if c[0] == "W" else c[1]) == key]
        if codes:
            parts.append(f"## {title}\n\n{{class}}`~tenslora.errors.{name}`\n")
            parts += [_entry(code, places.get(code, [])) for code in sorted(codes)]
    return "\n".join(parts)


def _entry(code: str, places: list[tuple[str, str]]) -> str:
    title = errors.CODES[code]
    lines = [f"({code})=", f"### {code}", "", title[:1].upper() + title[1:] + ".", ""]
    clear = [(what, cure.strip("…")) for what, cure in dict.fromkeys(places) if what.strip("…")]
    told = clear[:_SHOWN] or _BY_HAND.get(code, [])
    if told:
        lines += ["| it says | what to do |", "|---|---|"]
        lines += [
            f"| {_cell(what)} | {_cell(cure or _CURES.get(code, _OTHERWISE))} |"
            for what, cure in told
        ]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(plain.replace("*", "\\*").replace("_", "\\_").replace("[", "\\[").split())


def _places() -> dict[str, list[tuple[str, str]]]:
    """Return, for each code, the message and the advice at each place that names it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(Path(tenslora.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = [node for node in tree.body if isinstance(node, ast.Assign)]
        for scope in ast.walk(tree):
            if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for code, what, cure in _raised(scope, constants):
                    found.setdefault(code, []).append((what, cure))
    return found


def _raised(
    scope: ast.FunctionDef | ast.AsyncFunctionDef, constants: list[ast.Assign]
) -> Iterator[tuple[str, str, str]]:
    assigned: list[ast.Assign | ast.AugAssign] = [*constants]
    assigned += [n for n in ast.walk(scope) if isinstance(n, (ast.Assign, ast.AugAssign))]
    for call in ast.walk(scope):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        code = call.args[0]
        if not isinstance(code, ast.Constant) or code.value not in errors.CODES:
            continue
        what = _text(call.args[1], assigned, call.lineno) if len(call.args) > 1 else ""
        given = next((k.value for k in call.keywords if k.arg == "advice"), None)
        given = call.args[2] if given is None and len(call.args) > 2 else given
        cure = _text(given, assigned, call.lineno) if given is not None else ""
        yield str(code.value), what, cure


def _text(node: ast.AST, assigned: list[ast.Assign | ast.AugAssign], line: int) -> str:
    """Return the text of an expression, with an ellipsis for what is known only when it happens."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return _text(node.left, assigned, line) + _text(node.right, assigned, line)
    if isinstance(node, ast.IfExp):
        return _text(node.body, assigned, line)
    if isinstance(node, ast.Name):
        return _assigned(node.id, assigned, line)
    return "…"


def _assigned(name: str, assigned: list[ast.Assign | ast.AugAssign], line: int) -> str:
    """Return what a name was given last before a line."""
    values: list[tuple[int, str]] = []
    for node in assigned:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        same = any(isinstance(t, ast.Name) and t.id == name for t in targets)
        if same and node.lineno <= line:
            text = _text(node.value, [], line)
            if isinstance(node, ast.AugAssign) and values:
                text = values[-1][1] + text
            values.append((node.lineno, text))
    return max(values)[1] if values else "…"
