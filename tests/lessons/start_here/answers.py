"""Answers to the exercises of notebook 00, right and wrong."""

from tests.lessons import Exercise

EXERCISES = [
    Exercise(
        cell="exercise-1-code",
        solution="lesson.check_enough_clients(50)",
        says="✓ 50 clients are enough",
        mistakes=(
            ("lesson.check_enough_clients(20)", "too few people share the noise"),
            ("lesson.check_enough_clients(100)", "enough, but not the smallest: 50 clients"),
            ("lesson.check_enough_clients(7)", "choose one of 5, 10, 20"),
        ),
    ),
    Exercise(
        cell="exercise-2-code",
        solution="lesson.check_affordable_rounds(12)",
        says="✓ 12 rounds cost epsilon 2.97",
        mistakes=(
            ("lesson.check_affordable_rounds(4)", "you added up the epsilons of single rounds"),
            ("lesson.check_affordable_rounds(13)", "13 rounds cost epsilon 3.12, over 3"),
            ("lesson.check_affordable_rounds(10)", "there is room for more"),
        ),
    ),
]
