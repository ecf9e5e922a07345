"""Training: data sets, haze synthesis, losses and the loop."""
