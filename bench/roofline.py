"""Upper bounds on images/s for the three networks (torchvision's, 224 px, 16-bit activations), from a device's matrix rate
and copy bandwidth. Every kernel is a pair (floating-point operations, bytes); kernels run one after another, so an image
takes at least the sum over kernels of max(operations / rate, bytes / bandwidth). Caches between kernels are not credited.

Two levels of fusion in training: "b", where batch norm with ReLU and residual sum is one operation, and "c1", what cuDNN 9
fuses into convolutions (batch norm and ReLU while reading, statistics while writing). Inference has batch norm folded and
everything element-wise fused. `python3 bench/roofline.py` prints the table for H100 and H200.
"""
import sys

BYTES = 2  # of an activation
LEVELS = ("b", "c1", "infer")
ARCHITECTURES = ("resnet50", "densenet121", "vgg19")


class Kernels:
    """The kernels of one image, by level."""

    def __init__(self):
        self.of = {level: [] for level in LEVELS}

    def add(self, levels, operations, elements, extra_bytes=0.0):
        for level in levels.split():
            self.of[level].append((operations, elements * BYTES + extra_bytes))

    def seconds(self, level, rate, bandwidth):
        return sum(max(operations / rate, size / bandwidth) for operations, size in self.of[level])


class Conv:
    def __init__(self, inputs, outputs, kernel, stride, side):
        self.side = (side + 2 * (kernel // 2) - kernel) // stride + 1
        self.x, self.y = inputs * side * side, outputs * self.side * self.side
        self.operations = 2 * self.y * inputs * kernel * kernel


def conv_norm(k, conv, normalises_input, kind="relu", is_first=False, is_stored=False, input_is_shared=False):
    """A convolution and the batch norm behind it; kind: "relu", "add-relu" (end of a residual block) or "plain".
    normalises_input: at c1 the batch norm before it is applied while reading. input_is_shared: its gradient is added to
    another's. is_stored: the result is needed as such even at c1."""
    x, y, operations = conv.x, conv.y, conv.operations
    residual = y if kind == "add-relu" else 0
    k.add("b c1 infer", operations, x + y)
    if residual:
        k.of["infer"][-1] = (operations, (x + 2 * y) * BYTES)
    k.add("b", 0, 3 * y + residual)
    if kind == "add-relu" or is_stored:
        k.add("c1", 0, 2 * y + residual)
    k.add("b", 0, 5 * y + residual)
    k.add("c1", 0, 6 * y if kind == "add-relu" or is_stored else 5 * y if kind == "plain" else 3 * y)
    shared = x if input_is_shared else 0
    if not is_first:
        k.add("b", operations, x + y + shared)
        k.add("c1", operations, x + y + shared + (x if normalises_input else 0))
    k.add("b c1", operations, x + y)


def norm_conv(k, conv, input_is_shared):
    """DenseNet's order: batch norm, ReLU, convolution."""
    x, y, operations = conv.x, conv.y, conv.operations
    shared = x if input_is_shared else 0
    k.add("b", 0, 3 * x)
    k.add("b c1 infer", operations, x + y)
    k.add("b c1", operations, x + y)
    k.add("b", operations, x + y)
    k.add("b", 0, 5 * x + shared)
    k.add("c1", operations, 2 * x + y)
    k.add("c1", 0, 3 * x + shared)


def conv_bias_relu(k, conv, is_first):
    x, y, operations = conv.x, conv.y, conv.operations
    k.add("b c1 infer", operations, x + y)
    k.add("b", 0, 3 * y)
    k.add("c1", 0, y)
    if not is_first:
        k.add("b c1", operations, x + y)
    k.add("b c1", operations, x + y)


def linear(k, inputs, outputs, batch):
    """Weights are read once per batch; their gradient is written in four bytes."""
    operations, elements, weights = 2 * inputs * outputs, inputs + outputs, inputs * outputs / batch
    k.add("b c1 infer", operations, elements, weights * BYTES)
    k.add("b c1", operations, elements, weights * BYTES)
    k.add("b c1", operations, elements, weights * 4)


def pool(k, channels, side, side_after, has_index):
    x, y = channels * side * side, channels * side_after * side_after
    index = y / 2 if has_index else 0  # a byte per output
    k.add("b c1", 0, x + y + index)
    k.add("b c1", 0, x + y + index)
    k.add("infer", 0, x + y)


def resnet50(batch):
    k = Kernels()
    conv_norm(k, Conv(3, 64, 7, 2, 224), False, is_first=True, is_stored=True)
    pool(k, 64, 112, 56, True)
    channels, side = 64, 56
    for blocks, width, first_stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            middle = Conv(width, width, 3, stride, side)
            conv_norm(k, Conv(channels, width, 1, 1, side), False, input_is_shared=True)
            conv_norm(k, middle, True)
            if block == 0:
                conv_norm(k, Conv(channels, 4 * width, 1, stride, side), False, kind="plain")
            conv_norm(k, Conv(width, 4 * width, 1, 1, middle.side), True, kind="add-relu")
            channels, side = 4 * width, middle.side
    pool(k, channels, 7, 1, False)
    linear(k, 2048, 1000, batch)
    return k


def densenet121(batch):
    k = Kernels()
    conv_norm(k, Conv(3, 64, 7, 2, 224), False, is_first=True, is_stored=True)
    pool(k, 64, 112, 56, True)
    channels, side, growth = 64, 56, 32
    for block, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            norm_conv(k, Conv(channels, 4 * growth, 1, 1, side), True)
            norm_conv(k, Conv(4 * growth, growth, 3, 1, side), False)
            channels += growth
        if block < 3:
            norm_conv(k, Conv(channels, channels // 2, 1, 1, side), True)
            channels //= 2
            pool(k, channels, side, side // 2, False)
            side //= 2
    k.add("b c1", 0, 3 * channels * side * side)
    k.add("b c1", 0, 5 * channels * side * side)
    pool(k, channels, side, 1, False)
    linear(k, 1024, 1000, batch)
    return k


def vgg19(batch):
    k = Kernels()
    channels, side = 3, 224
    for width, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            conv_bias_relu(k, Conv(channels, width, 3, 1, side), channels == 3)
            channels = width
        pool(k, channels, side, side // 2, True)
        side //= 2
    for inputs, outputs in ((25088, 4096), (4096, 4096), (4096, 1000)):
        linear(k, inputs, outputs, batch)
    return k


def images_per_second(arch, level, batch, matrix_flops, copy_bytes):
    """The bound: level "b" or "c1" of training (the optimizer's step apart), "infer" of inference.
    matrix_flops: operations/s of a large 16-bit matrix product; copy_bytes: bytes/s read plus written by a copy."""
    kernels = {"resnet50": resnet50, "densenet121": densenet121, "vgg19": vgg19}[arch](batch)
    return 1 / kernels.seconds(level, matrix_flops, copy_bytes)


# (b, c1, inference) at batch 256 for 790 TFLOP/s with 3.0 and with 4.3 TB/s, derived independently.
KNOWN = {
    "resnet50": ((8101, 9323, 46110), (10913, 12504, 59188)),
    "densenet121": ((7323, 10310, 62782), (10265, 14466, 84540)),
    "vgg19": ((5147, 5731, 17587), (5547, 6007, 18313)),
}


def main():
    """Prints the bounds; fails when they are not the known ones."""
    wrong = 0
    print("| network | H100: b | c1 | inference | H200: b | c1 | inference |\n|---|---|---|---|---|---|---|")
    for arch in ARCHITECTURES:
        bounds = [round(images_per_second(arch, level, 256, 790e12, bandwidth))
                  for bandwidth in (3.0e12, 4.3e12) for level in LEVELS]
        wrong += tuple(bounds) != KNOWN[arch][0] + KNOWN[arch][1]
        print(f"| {arch} | " + " | ".join(str(b) for b in bounds) + " |")
    sys.exit(f"roofline: {wrong} networks differ from the known bounds" if wrong else 0)


if __name__ == "__main__":
    main()
