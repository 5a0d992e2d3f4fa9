"""The engine's kernels on a graphics processor: the same bytes, by the optional extra `cuda`."""
