"""All four steps in one call."""

from dreamorph.volumes.cohort import Cohort
from dreamorph.volumes.config import CohortConfig, SplitConfig
from dreamorph.volumes.preprocess import preprocess
from dreamorph.volumes.scan import scan
from dreamorph.volumes.splits import assign_splits
from dreamorph.volumes.validation import validate


def load_cohort(config: CohortConfig, split: SplitConfig | None = None) -> Cohort:
    """Scan, validate, split and preprocess a cohort. Raises CohortError."""
    checked = validate(scan(config), config)
    table = assign_splits(checked.good, split or SplitConfig(), checked.quarantine)
    return preprocess(table, checked.facts, config)
