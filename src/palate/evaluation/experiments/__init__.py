"""Statistics of online experiments: who gets what, and what may be concluded when. Arrays in, values out.

``assignment``    which variant a unit gets: a salted hash, an allocation of its range, a share of traffic.
``moments``       running totals of a metric's units; everything below is computed from them.
``contrast``      a difference and a ratio of two arms, with their errors.
``fixed``         intervals, p-values and sizes for one reading at the planned size.
``sequential``    intervals and p-values that hold however often they are read.
``ratio``         whether the arms have the sizes that they should.
``cuped``         less variance from what was known before the experiment.
``guardrails``    metrics that must not get worse by more than a margin.
``interleaving``  two or more rankings in one list, and which of them people prefer.
``analysis``      all of it for one experiment, with words for a tired reader.
"""

from palate.evaluation.experiments.analysis import analyse
from palate.evaluation.experiments.assignment import Allocation, Assignment
from palate.evaluation.experiments.guardrails import Guardrail
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.experiments.results import Analysis

__all__ = ["Allocation", "Analysis", "Assignment", "Guardrail", "Moments", "analyse"]
