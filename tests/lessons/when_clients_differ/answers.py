"""Answers to the exercises of notebook 05, right and wrong."""

from tests.lessons import Exercise


def server_step(expression: str) -> str:
    """The cell of exercise 5.1 with this answer."""
    return f"""
def my_server_step(params, models, sizes, learning_rate):
    average = np.average(models, axis=0, weights=sizes)
    return {expression}


lesson.check_server_step(my_server_step)
"""


def with_momentum(velocity: str, step: str) -> str:
    """The cell of exercise 5.2 with this answer."""
    return f"""
def my_momentum(params, updates, beta):
    v = np.zeros_like(params)
    for update in updates:
        v = {velocity}
        params = {step}
    return params


lesson.check_momentum(my_momentum)
"""


def traffic(up: str, down: str) -> str:
    """The cell of exercise 5.3 with this answer."""
    return f"""
def my_scaffold_bytes(cohort, num_params):
    return {up}, {down}


lesson.check_scaffold_bytes(my_scaffold_bytes)
"""


UP, DOWN = "4 * cohort * (2 * num_params + 1)", "4 * cohort * 2 * num_params"

EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=server_step("params + learning_rate * (average - params)"),
        says="✓ my_server_step agrees with sgd on 3 cases",
        mistakes=(
            (server_step("learning_rate * average"), "✗ my_server_step: this is a share of the"),
            (server_step("average"), "✗ my_server_step: this is FedAvg at any rate"),
            (
                server_step("params - learning_rate * (average - params)"),
                "✗ my_server_step: this is a step against the updates",
            ),
            (
                server_step("params + learning_rate * average"),
                "✗ my_server_step: this is models added to the weights",
            ),
            (
                server_step("params + learning_rate * (models.mean(axis=0) - params)"),
                "✗ my_server_step: this is the unweighted mean",
            ),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=with_momentum("beta * v + update", "params + v"),
        says="✓ my_momentum agrees with momentum on 3 cases",
        mistakes=(
            (
                with_momentum("v", "beta * params + (1 - beta) * (params + update)"),
                "✗ my_momentum: this is momentum on the model",
            ),
            (
                with_momentum("beta * v + (1 - beta) * update", "params + v"),
                "✗ my_momentum: this is a fading mean",
            ),
            (with_momentum("update", "params + v"), "✗ my_momentum: this is FedAvg"),
            (
                with_momentum("beta * v + update", "params - v"),
                "✗ my_momentum: this is a step against the updates",
            ),
            (
                with_momentum("beta * v + update", "params + update + beta * v"),
                "✗ my_momentum: this is Nesterov's variant",
            ),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=traffic(UP, DOWN),
        says="✓ both directions are counted",
        mistakes=(
            (
                traffic("4 * cohort * (num_params + 1)", "4 * cohort * num_params"),
                "✗ this is FedAvg: the control variates travel, too",
            ),
            (
                traffic(UP, "4 * cohort * num_params"),
                "✗ this is without the server's control variate",
            ),
            (traffic(DOWN, DOWN), "✗ this is without the one number that goes up"),
            (traffic(DOWN, UP), "✗ this is down before up"),
            (
                traffic("8 * cohort * (num_params + 1)", DOWN),
                "✗ this is two weights a client",
            ),
        ),
    ),
]
