"""What schemas cannot see: that the objects fit each other and slotway.toml. The rules stand in pod.py and around.py."""

from checks import around, pod
from checks.view import Unreadable, View

RULES = [*pod.RULES, *around.RULES]


def check(objects):
    """`(rule, what is wrong)` for every finding. A rule that cannot even find what it looks at has failed too."""
    findings = []
    try:
        view = View(objects)
    except Unreadable as error:
        return [("objects", str(error))]
    for rule in RULES:
        try:
            findings += [(rule.__name__, text) for text in rule(view)]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            findings.append((rule.__name__, f"cannot be checked: {type(error).__name__}: {error}"))
    return findings
