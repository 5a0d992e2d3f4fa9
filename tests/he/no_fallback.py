"""Native kernels that must not be asked."""

from chainnode.he.kernels import NativeKernels


class NoFallback(NativeKernels):
    """What a device leaves to the processor fails the test."""

    def weighted(self, *_: object) -> list[list[bytes]]:
        raise AssertionError("computed on the processor")

    def sums(self, *_: object) -> bytes:
        raise AssertionError("computed on the processor")

    def relinearise(self, *_: object) -> bytes:
        raise AssertionError("computed on the processor")
