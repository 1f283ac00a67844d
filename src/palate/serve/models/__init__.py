"""Models in production: what is loaded and how it is succeeded, retraining, the gate before it, and drift after it."""
