"""Image quality as medical physics measures it: phantoms, measures that smoothing cannot win, a verdict on weights."""
