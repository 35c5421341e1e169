"""Doctor: find what is wrong with a run, from its files only.

Each finding is a plain sentence with the number behind it, and advice on what to do.
"""

from contrast.doctor.data_rules import Reference, best_reference, references
from contrast.doctor.evidence import Finding, samples_per_step
from contrast.doctor.examine import Examination, examine

__all__ = ["Examination", "Finding", "Reference", "best_reference", "examine", "references", "samples_per_step"]
