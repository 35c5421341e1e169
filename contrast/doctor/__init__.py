"""What is wrong with a run, in plain words with the number behind each; out of its files alone."""

from contrast.doctor.data_rules import Reference, best_reference, references
from contrast.doctor.evidence import Finding, samples_per_step
from contrast.doctor.examine import Examination, examine

__all__ = ["Examination", "Finding", "Reference", "best_reference", "examine", "references", "samples_per_step"]
