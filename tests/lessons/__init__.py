"""What each exercise of the course must answer: to its right solution and to classic mistakes.

In the folder of each notebook, ``answers.py`` lists its EXERCISES. tests/test_notebooks.py
feeds them to the notebook's own kernel.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Exercise:
    """One exercise cell.

    Attributes:
        cell: The id of the code cell that the reader edits.
        solution: Source that solves it, in place of the whole cell.
        says: Part of what the cell prints for the solution.
        mistakes: Pairs of a wrong source and part of what the cell prints for it.
    """

    cell: str
    solution: str
    says: str
    mistakes: tuple[tuple[str, str], ...] = ()
