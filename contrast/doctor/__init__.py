"""What is wrong with a run, in plain words with the number behind each; out of its files alone."""

from contrast.doctor.baselines import Reference, best_reference, references
from contrast.doctor.evidence import samples_per_step
from contrast.doctor.examine import Examination, examine
from contrast.doctor.finding import Finding

__all__ = ["Examination", "Finding", "Reference", "best_reference", "examine", "references", "samples_per_step"]
