"""The GPU kernels on the CPU: their unchanged source, compiled against a shim."""
