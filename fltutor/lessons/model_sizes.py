"""Models whose traffic exercises count: how many weights each has."""

MODEL_SIZES = {"digits": 2_410, "a million": 10**6, "ResNet-50": 25_600_000}
