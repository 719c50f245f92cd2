"""Under which parameters the results that are kept were made."""

import json
from pathlib import Path
from typing import Any

from dreamorph.fingerprint import fingerprint
from dreamorph.parameters import Parameters

#: Not of the results, or a column of theirs.
_FREE: dict[str, set[str]] = {
    "cohort": {"path", "manifest"},
    "training": {"steps", "seeds", "arms", "device", "progress"},
    "registration": {"batch_size", "device"},
    "evaluation": {"seed"},
}
_ELSEWHERE = {"report", "simulation"}


def check_settings(name: str, given: Parameters, file: Path, mix: bool = False) -> None:
    """Refuse to add to results of other parameters; note those that results were made under.

    Raises:
        SystemExit: parameters differ from all those noted, and `mix` does not allow it.
    """
    noted: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    marks = {
        group: fingerprint(value.model_dump(mode="json", exclude=_FREE.get(group, set())))
        for group, value in given
        if group not in _ELSEWHERE
    }
    before = noted.get(name, [])
    if marks in before:
        return
    if before and not mix:
        other = sorted(group for group in marks if before[-1].get(group) != marks[group])
        raise SystemExit(
            f"the results of {name} that are kept were made under other parameters"
            f" ({', '.join(other)}): move them away, or add to them all the same by --mix"
        )
    file.parent.mkdir(exist_ok=True)
    noted[name] = [*before, marks]
    file.write_text(json.dumps(noted, indent=2, sort_keys=True) + "\n")
