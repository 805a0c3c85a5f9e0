"""Answers to the exercises of notebook 07, right and wrong."""

from tests.lessons import Exercise


def single_image(expression: str) -> str:
    """The cell of exercise 7.1 with this answer."""
    return f"""
def my_single_image(kernel_gradient, bias_gradient):
    return {expression}


lesson.check_single_image(my_single_image)
"""


def blur(expression: str) -> str:
    """The cell of exercise 7.2 with this answer."""
    return f"""
def my_blur(images, bias_gradients):
    return {expression}


lesson.check_blur(my_blur)
"""


def count(expression: str) -> str:
    """The cell of exercise 7.3 with this answer."""
    return f"""
def my_count(guesses, originals):
    errors = np.abs(guesses[:, None] - originals[None])
    return {expression}


lesson.check_count(my_count)
"""


EXERCISES = [
    Exercise(
        cell="ex-1-code",
        solution=single_image("kernel_gradient @ bias_gradient / (bias_gradient @ bias_gradient)"),
        says="✓ one guess from all units, as close as least squares",
        mistakes=(
            (
                single_image("(kernel_gradient / bias_gradient).mean(axis=1)"),
                "✗ my_single_image: this is the plain mean",
            ),
            (
                single_image("my_invert(kernel_gradient, bias_gradient).mean(axis=0)"),
                "✗ my_single_image: this is the plain mean",
            ),
            (
                single_image("kernel_gradient.sum(axis=1) / bias_gradient.sum()"),
                "✗ my_single_image: this is one sum over the other",
            ),
            (
                single_image(
                    "my_invert(kernel_gradient, bias_gradient)[np.abs(bias_gradient).argmax()]"
                ),
                "✗ my_single_image: this is the loudest unit alone",
            ),
            (
                single_image(
                    "kernel_gradient @ np.sign(bias_gradient) / np.abs(bias_gradient).sum()"
                ),
                "✗ my_single_image: this is a mean weighted by size",
            ),
            (
                single_image("kernel_gradient @ bias_gradient"),
                "✗ my_single_image: this is the sum without its divisor",
            ),
            (
                single_image("np.median(kernel_gradient / bias_gradient, axis=1)"),
                "✗ there is more in these gradients",
            ),
            (
                single_image("my_invert(kernel_gradient, bias_gradient)"),
                "✗ my_single_image gives shape (32, 64), needed (64,)",
            ),
        ),
    ),
    Exercise(
        cell="ex-2-code",
        solution=blur("bias_gradients @ images / bias_gradients.sum()"),
        says="✓ my_blur agrees with the gradient of the batch on 13 cases",
        mistakes=(
            (blur("images.mean(axis=0)"), "✗ my_blur: this is the plain mean"),
            (
                blur("np.abs(bias_gradients) @ images / np.abs(bias_gradients).sum()"),
                "✗ my_blur: this is a mean weighted by size",
            ),
            (blur("bias_gradients @ images"), "✗ my_blur: this is the weighted sum: divide"),
            (
                blur("bias_gradients @ images / len(images)"),
                "✗ my_blur: this is the weighted sum over the number of images",
            ),
        ),
    ),
    Exercise(
        cell="ex-3-code",
        solution=count("int((errors.max(axis=2) < 1 / 32).any(axis=0).sum())"),
        says="✓ my_count agrees with exact_recoveries on 4 cases",
        mistakes=(
            (
                count("int((errors.max(axis=2) < 1 / 32).any(axis=1).sum())"),
                "✗ my_count: this is a count of guesses",
            ),
            (count("int((errors.max(axis=2) < 1 / 32).sum())"), "this is a count of guesses"),
            (
                count("int((errors.mean(axis=2) < 1 / 32).any(axis=0).sum())"),
                "✗ my_count: this is a count with the mean error",
            ),
            (
                count("int((errors.min(axis=2) < 1 / 32).any(axis=0).sum())"),
                "✗ my_count: this is a count of images with one right pixel",
            ),
            (
                count("(errors.max(axis=2) < 1 / 32).any(axis=0).mean()"),
                "✗ my_count: this is a share",
            ),
            (
                count("int((errors.max(axis=2) == 0).any(axis=0).sum())"),
                "✗ my_count: this is a count of equal images",
            ),
        ),
    ),
]
