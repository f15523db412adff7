"""Image quality as in medical physics: phantoms, measures that smoothing cannot win, a verdict on weights."""
