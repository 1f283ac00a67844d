"""The fitting loop of torch models: objectives, samplers, stopping, checkpoints."""
