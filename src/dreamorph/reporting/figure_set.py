"""The report's figures one by one, for a tracking server."""

import re

from matplotlib.figure import Figure

from dreamorph.reporting.figures import arms, dreams, prior, recovery, registration
from dreamorph.reporting.inputs import ReportInputs


def montages(inputs: ReportInputs) -> dict[str, Figure]:
    """All figures that can be drawn from these inputs, by name."""
    drawn: dict[str, Figure | str] = {
        "registration_quality": registration.quality(inputs),
        "prior_draws": prior.draws(inputs),
        "prior_spectrum": prior.spectrum(inputs),
        "dreams_gallery": dreams.gallery(inputs),
        "dreams_planes": dreams.three_planes(inputs),
        "label_volumes": dreams.label_volumes(inputs),
        "scores": arms.scores(inputs),
        "differences": arms.differences(inputs),
        "training_curves": arms.curves(inputs),
        "worst_cases": arms.worst(inputs),
        "registration_error": recovery.registration_error(inputs),
    }
    for index in range(len(inputs.pair_examples)):
        drawn[f"registration_pair_{index + 1}"] = registration.pair(inputs, index)
    for cls in [] if inputs.prior is None else inputs.prior.class_names:
        suffix = "" if cls is None else "_" + re.sub("[^A-Za-z0-9_-]", "_", cls)
        drawn["prior_modes" + suffix] = prior.modes(inputs, cls)
    return {name: figure for name, figure in drawn.items() if isinstance(figure, Figure)}
