"""An environment at work: activation, commands, wrappers, kernels, containers."""
