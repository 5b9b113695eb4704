"""Hidden Potts field on a grid: the labels of an image restored from a noisy one, exactly or by message passing."""

REFUSED: dict[str, str] = {
    "nuts": "NUTS follows gradients, and a field of labels is discrete",
    "laplace": "Laplace's method needs a curvature, and a field of labels is discrete",
}

DATA = "pattern"
