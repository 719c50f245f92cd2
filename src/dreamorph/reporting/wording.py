"""What is said in words: metrics, checks, diagnostics, limits."""

from dreamorph.evaluation import CONFIDENCE

#: What every interval of the page is called.
INTERVAL = f"{100 * CONFIDENCE:g} % interval"
MINUS, TIMES, NOTHING = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"

METRIC_NAMES = {
    "dice": "Dice",
    "surface_dice": "surface Dice",
    "hd95_mm": "HD95",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
}
UNITS = {metric: " (mm)" if metric.endswith("_mm") else "" for metric in METRIC_NAMES}
HIGHER_IS_BETTER = {metric: metric != "hd95_mm" for metric in METRIC_NAMES}

VERDICT_WORDS = {"pass": "pass", "fail": "fail", "not_assessable": "not assessable"}
VERDICT_SYMBOLS = {"pass": "✓", "fail": "✕", "not_assessable": "?"}

#: Check name -> what it looks for, for a reader who has never heard of it.
CHECK_MEANINGS = {
    "folds": "Tissue must not pass through itself: a warp that folds shows anatomy twice.",
    "jacobian_envelope": "Regions may not grow or shrink beyond what real subjects show"
    " significantly more often than theirs do.",
    "topology": "A label may not come apart, merge or get holes beyond what mere resampling of its"
    " source does to it. Where resampling does much, tears as small go unseen.",
    "provenance": "Every voxel of a dream must come from its source scan by warping and nothing"
    " else, so that no intensity is invented.",
    "round_trip": "Warping a dream back must give its source: no small structure is lost.",
    "label_fit": "The outline must still lie on the edge that it lay on in the source.",
    "cohort_constraint": "Volumes, surfaces and distances of the structures may not lie outside"
    " what real subjects have significantly more often than theirs do.",
    "class_preservation": "A dream must still show the class that its source has.",
    "two_sample": "A classifier that tries to tell dreams from real volumes must not succeed"
    " better than when real volumes and dreams of one source subject are exchanged at random.",
    "diversity": "Dreams must differ from each other about as much as real subjects do.",
    "prior_quality": "The prior must neither repeat its members nor invent what they do not have.",
    "copy": "Tells whether dreams lie suspiciously near to one real subject.",
    "lineage": "No test subject may have had a part in registration, prior, dream or training.",
    "label_shuffle": "With shuffled labels nothing may be learned; otherwise something leaks.",
    "baseline_first": "Networks must beat a plain method without deep learning to be worth it.",
    "dream_ablation": "Dreams must beat random warps; otherwise the learned prior adds nothing.",
    "small_n": "There must be enough test subjects for a difference to be told from luck.",
    "remove": "Where a structure was painted out of the image, the network must not draw it."
    " Without label maps nothing can be painted out, and nothing is known.",
    "insert": "A structure put into the image must be found.",
    "worst_case": "A tiny change of the image must not change the answer much.",
    "more_data": "More or finer data must not make the answer worse.",
    "corruption": "Scanner artefacts must not hurt the network more than a plain method.",
    "agreement": "Where the network is unsure, it must be able to say so.",
    "calibration": "Its stated confidence must match how often it is right.",
    "reverse_accuracy": "Predictions without a reference are judged by registering them to"
    " labelled volumes.",
    "out_of_cohort": "Inputs unlike the training data must be recognised as such.",
}

#: Claim that is stated -> what is not shown where it does not hold.
CLAIMS = {
    "baseline_first": "that the networks judged are better than a plain method",
    "dream_ablation": "that learned dreams are better than random warps",
}

#: Recommended arm that is not that of dreams -> what its network was trained on.
UNJUDGED = {
    "learned": "The recommended network was not trained on dreams but on volumes warped in learned"
    " directions, as far as tuning chose, which is mostly further than subjects of this population"
    " differ. Such samples may lie outside the growth and shrinkage that dreams must keep to.",
    "elastic": "The recommended network was not trained on dreams but on volumes under random"
    " warps, which need not look like anybody.",
    "classic": "The recommended network was not trained on dreams but on volumes under affine maps"
    " alone.",
    "": "The recommended network was not trained on dreams.",
}
UNJUDGED_ALL = (
    "The checks judge dreams; what this network was trained on instead, none of them has judged."
    " Of the network itself they ask how it answers (baseline_first, small_n and, where there are"
    " label maps, remove), and whether a test subject was among its training volumes (lineage)."
)

#: Diagnostic of the prior -> how to read it; compactness_<k> is handled apart.
DIAGNOSTIC_MEANINGS = {
    "members": ("members", "Volumes that the prior was learned from, labelled or not."),
    "shrinkage": (
        "shrinkage",
        "Share of the variance that is modelled as smooth random deformation instead of"
        " mixtures of the members. Near 1 the members say little about each other, and dreams"
        " are close to random warps with the population's smoothness and strength.",
    ),
    "localisation_mm": (
        "localisation (mm)",
        "Places so far apart take their own mixtures of the members' deformations. Not there"
        " where one mixture for the whole volume foretells left-out subjects better.",
    ),
    "gain": (
        "gain",
        "How much likelier left-out subjects are than under a smooth random field of the same"
        " strength, in nats per value. Above 0 the members foretell something about others.",
    ),
    "unexplained": (
        "unexplained",
        "Share of a left-out subject's deformation (mm²) that no single mixture of the others"
        " gives. Near 1 each subject deforms in its own way; local mixtures reach further.",
    ),
    "coverage": (
        "coverage",
        "How far left-out subjects lie from the prior's mean, in units of its own width: 1 is"
        " right, above 1 the prior is too narrow, below 1 too wide.",
    ),
    "specificity": (
        "specificity",
        "Distance of a drawn subject to the nearest real one, relative to that between real"
        " ones: about 1 is right; well above 1 draws leave the population.",
    ),
}

LIMITS = (
    (
        "Checks that were not made",
        "Twelve checks were made; others are known and were not: whether dreams lose small"
        " structures, keep their class and fit their edges; whether the network finds inserted"
        " lesions, withstands worst-case noise and scanner artefacts, knows its own uncertainty,"
        " recognises foreign inputs and its own bad answers; whether a classifier answers from"
        " what is not there. Where networks draw structures, only that of the"
        " dream arm, and the recommended one where there is one, were shown images without them.",
    ),
    (
        "Lesions",
        "A warp moves what is there. It cannot create or remove a lesion, an artefact or a"
        " contrast; dreams add variety of shape and nothing else.",
    ),
    (
        "Privacy",
        "A dream is a bent copy of a real scan. It is patient data like its source and must be"
        " protected like it; it is not anonymous.",
    ),
    (
        "Absence of evidence",
        "The checks look for known faults with known methods. Passing them does not prove that"
        " nothing was hallucinated.",
    ),
    (
        "Use",
        "For research only. This is not a medical device, and nothing here may guide the"
        " treatment of a patient.",
    ),
)


def compactness(name: str) -> tuple[str, str] | None:
    """Title and meaning of compactness_<k>, None for another diagnostic."""
    if not name.startswith("compactness_"):
        return None
    k = name.removeprefix("compactness_")
    plural = "mode carries" if k == "1" else "modes carry"
    return (
        f"compactness, {k} {'mode' if k == '1' else 'modes'}",
        f"Share of the members' variance that the first {k} {plural}. High means that few"
        " directions describe the population.",
    )
