"""Answers to the exercises of notebook 03, right and wrong."""

from tests.lessons import Exercise


def server_step(expression: str) -> str:
    """The cell of exercise 3.1 with this answer."""
    return f"""
def my_server_step(params, gradient, learning_rate):
    return {expression}


lesson.check_server_step(my_server_step)
"""


def fedavg_round(expression: str) -> str:
    """The cell of exercise 3.2 with this answer."""
    return f"""
def my_fedavg_round(params, gradients, sizes, learning_rate):
    models = params - learning_rate * gradients
    return {expression}


lesson.check_fedavg_round(my_fedavg_round, start, rows, sizes)
"""


def sampled_gradient(expression: str) -> str:
    """The cell of exercise 3.3 with this answer."""
    return f"""
def my_sampled_gradient(gradients, sizes, num_clients, num_examples):
    return {expression}


lesson.check_sampled_gradient(my_sampled_gradient, rows, sizes)
"""


EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=server_step("params - learning_rate * gradient"),
        says="✓ one step against the gradient, as long as the learning rate says",
        mistakes=(
            (server_step("params - gradient"), "✗ this is a forgotten learning rate"),
            (server_step("params + learning_rate * gradient"), "✗ this is +gradient: it climbs"),
            (server_step("-learning_rate * gradient"), "✗ this is the step alone"),
            (server_step("learning_rate * (params - gradient)"), "✗ this is the learning rate on"),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=fedavg_round("mean(models, sizes).update"),
        says="✓ one full-batch FedAvg step equals FedSGD, but for rounding",
        mistakes=(
            (fedavg_round("mean(models).update"), "✗ this is the unweighted mean of the models"),
            (fedavg_round("models.mean(axis=0)"), "✗ this is the unweighted mean of the models"),
            (fedavg_round("models.sum(axis=0)"), "✗ this is the sum of the models"),
            (fedavg_round("sizes @ models"), "✗ this is the weighted sum: divide"),
            (fedavg_round("models"), "✗ this is every client's model"),
            (fedavg_round("params + mean(models, sizes).update"), "✗ this is a model added to"),
            (fedavg_round("mean(models - params, sizes).update"), "✗ this is the mean update"),
            (
                fedavg_round("params - mean(gradients, sizes).update"),
                "✗ this is a forgotten learning rate",
            ),
            (
                fedavg_round("params + learning_rate * mean(models - params, sizes).update"),
                "✗ this is the learning rate used twice",
            ),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=sampled_gradient(
            "num_clients / len(sizes) * (sizes @ gradients) / num_examples",
        ),
        says="✓ unbiased: averaged over all 120 cohorts of 3, it is the pooled gradient",
        mistakes=(
            (
                sampled_gradient("mean(gradients, sizes).update"),
                "✗ this is the weighted mean of the cohort, whose divisor changes: averaged over",
            ),
            (
                sampled_gradient("gradients.mean(axis=0)"),
                "✗ this is the unweighted mean of the cohort: averaged over all 120 cohorts",
            ),
            (
                sampled_gradient("sizes @ gradients / num_examples"),
                "✗ this is missing the factor num_clients / len(sizes): averaged over all 120",
            ),
            (sampled_gradient("num_clients * sizes @ gradients"), "✗ the estimate is biased"),
        ),
    ),
]
