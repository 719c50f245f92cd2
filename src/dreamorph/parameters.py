"""All parameters of a run, so that a misspelt one stops it before any work is done."""

from pydantic import field_validator

from dreamorph.baselines.atlas import FusionConfig
from dreamorph.baselines.shape_classifier import ShapeClassifierConfig
from dreamorph.config import Config
from dreamorph.dreaming import AffineWarpConfig, DreamConfig, ElasticWarpConfig
from dreamorph.evaluation import EvaluationConfig
from dreamorph.hallucination import AuditConfig
from dreamorph.prior import PriorConfig
from dreamorph.registration import RegistrationConfig
from dreamorph.registration.pairing import PairingConfig
from dreamorph.reporting.config import ReportConfig
from dreamorph.simulation import SimulationConfig
from dreamorph.training import TrainingConfig
from dreamorph.training.tuning import TuningConfig
from dreamorph.volumes.config import CohortConfig, SplitConfig


class Parameters(Config):
    """One field per group of `conf/<env>/parameters`; see each group's own type."""

    cohort: CohortConfig = CohortConfig()
    split: SplitConfig = SplitConfig()
    simulation: SimulationConfig = SimulationConfig()
    pairing: PairingConfig = PairingConfig()
    registration: RegistrationConfig = RegistrationConfig()
    prior: PriorConfig = PriorConfig()
    dreaming: DreamConfig = DreamConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig = TuningConfig()
    affine_warps: AffineWarpConfig = AffineWarpConfig()
    elastic_warps: ElasticWarpConfig = ElasticWarpConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    atlas_fusion: FusionConfig = FusionConfig()
    shape_classifier: ShapeClassifierConfig = ShapeClassifierConfig()
    audit: AuditConfig = AuditConfig()
    report: ReportConfig = ReportConfig()

    @field_validator("registration")
    @classmethod
    def _deformable(cls, registration: RegistrationConfig) -> RegistrationConfig:
        if registration.velocity is None:
            raise ValueError(
                "expected a deformable step (velocity), from which the prior is learned; without"
                " one, registration works from Python alone (dreamorph.registration.register)"
            )
        return registration
