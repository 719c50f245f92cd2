import pytest

from dreamorph.simulation import SimulatedCohort, SimulationConfig, simulate

CONFIG = SimulationConfig(n_labelled=4, n_unlabelled=2, n_test=2, seed=3)


@pytest.fixture(scope="session")
def cohort() -> SimulatedCohort:
    return simulate(CONFIG)
