"""How small a cache is safe: the smallest budget at which answers survive, with the confidence that questions allow."""

from judgeq.evaluation.calibration.plan import BUDGETS, calibrate
from judgeq.evaluation.calibration.questions import CalibrationQuestion, propose_questions
from judgeq.evaluation.calibration.result import Calibration, CalibrationPoint

__all__ = [
    "BUDGETS",
    "Calibration",
    "CalibrationPoint",
    "CalibrationQuestion",
    "calibrate",
    "propose_questions",
]
