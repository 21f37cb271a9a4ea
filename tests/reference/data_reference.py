#!/usr/bin/env python3
"""Writes tests/reference/data/: small image files in many formats, and what Pillow, torchvision and scikit-learn make of
them. Pixels are stored as SHA-256 of the RGB bytes. Needs numpy, Pillow, torch, torchvision, scikit-learn.

    python3 tests/reference/data_reference.py
"""
import hashlib
import io
import json
import os
import pathlib
import struct
import warnings
import zlib

import numpy as np
import PIL
import sklearn
import torch
import torchvision
from PIL import Image, ImageEnhance
from sklearn import metrics
from torchvision.transforms import functional as F
from torchvision.transforms import InterpolationMode

OUT = pathlib.Path(__file__).parent / "data"


def picture(height, width, seed):
    """A smooth picture with edges and some noise: every byte value occurs, and JPEG has something to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = []
    for c in range(3):
        a, b, p = rng.uniform(0.05, 0.4, 2).tolist() + [rng.uniform(0, 6)]
        plane = 128 + 90 * np.sin(a * x + b * y + p) + 60 * ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / (3 + c)) ** 2)
        planes.append(plane + rng.normal(0, 12, plane.shape))
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))


def digest(image):
    return hashlib.sha256(np.ascontiguousarray(np.asarray(image.convert("RGB"))).tobytes()).hexdigest()


def png16(values):
    """A 16-bit grey or RGB PNG, which Pillow cannot write from RGB."""
    height, width = values.shape[:2]
    color = 0 if values.ndim == 2 else 2
    rows = b"".join(b"\0" + values[r].astype(">u2").tobytes() for r in range(height))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_images():
    rgb = picture(37, 53, 1)
    files = {}

    def save(name, image, **options):
        buffer = io.BytesIO()
        image.save(buffer, **options)
        (OUT / name).write_bytes(buffer.getvalue())
        opened = Image.open(OUT / name)
        files[name] = {"height": opened.height, "width": opened.width, "sha256": digest(opened)}

    for name, options in {"444": dict(subsampling=0), "422": dict(subsampling=1), "420": dict(subsampling=2),
                          "progressive": dict(progressive=True), "low": dict(quality=10)}.items():
        save(f"jpeg_{name}.jpg", rgb, format="JPEG", **{"quality": 90, **options})
    save("jpeg_grey.jpg", rgb.convert("L"), format="JPEG", quality=85)
    save("jpeg_cmyk.jpg", rgb.convert("CMYK"), format="JPEG", quality=85)
    save("png_rgb.png", rgb, format="PNG")
    save("png_grey.png", rgb.convert("L"), format="PNG")
    save("png_bilevel.png", rgb.convert("1"), format="PNG")
    palette = rgb.quantize(17)
    save("png_palette.png", palette, format="PNG")
    save("png_palette_transparent.png", palette, format="PNG", transparency=3)
    alpha = Image.fromarray(np.arange(37 * 53).reshape(37, 53).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    save("png_rgba.png", rgba, format="PNG")
    save("png_grey_alpha.png", rgba.convert("LA"), format="PNG")
    save("bmp_rgb.bmp", rgb, format="BMP")
    save("gif_palette.gif", palette, format="GIF")
    save("tga_rgb.tga", rgb, format="TGA")
    save("ppm_rgb.ppm", rgb, format="PPM")
    save("tiff_rgb_raw.tif", rgb, format="TIFF")
    save("tiff_rgb_lzw.tif", rgb, format="TIFF", compression="tiff_lzw")
    save("tiff_rgb_deflate.tif", rgb, format="TIFF", compression="tiff_adobe_deflate")
    save("tiff_rgba.tif", rgba, format="TIFF")
    save("tiff_grey.tif", rgb.convert("L"), format="TIFF", compression="packbits")
    save("tiff_bilevel.tif", rgb.convert("1"), format="TIFF", compression="group4")
    save("tiff_palette.tif", palette, format="TIFF")
    save("tiff_multipage.tif", rgb, format="TIFF", save_all=True, append_images=[picture(11, 13, 2)])

    # EXIF says "turn by 90 degrees": Pillow's open and torchvision's loaders do not.
    exif = Image.Exif()
    exif[0x0112] = 6
    save("jpeg_exif_turned.jpg", rgb, format="JPEG", quality=90, exif=exif)

    # 16 bits: the high byte, where Pillow would clip grey at 255.
    rng = np.random.default_rng(3)
    for name, shape in {"png_grey16.png": (9, 14), "png_rgb16.png": (9, 14, 3)}.items():
        values = rng.integers(0, 65536, shape)
        (OUT / name).write_bytes(png16(values))
        high = (values >> 8).astype(np.uint8)
        low = (values & 255).astype(np.uint8)
        files[name] = {"height": 9, "width": 14, "sha256": digest(Image.fromarray(high)),
                       "low_sha256": digest(Image.fromarray(low))}
    values = rng.integers(0, 65536, (9, 14)).astype(np.uint16)
    Image.fromarray(values).save(OUT / "tiff_grey16.tif")
    files["tiff_grey16.tif"] = {"height": 9, "width": 14, "sha256": digest(Image.fromarray((values >> 8).astype(np.uint8))),
                                "low_sha256": digest(Image.fromarray((values & 255).astype(np.uint8)))}
    return files


def resize_cases():
    rgb = Image.open(OUT / "png_rgb.png")
    cases = []
    for height, width in [(37, 53), (20, 30), (19, 53), (37, 31), (64, 80), (5, 4), (1, 1), (111, 40), (36, 106)]:
        cases.append({"height": height, "width": width,
                      "sha256": digest(rgb.resize((width, height), Image.BILINEAR))})
    boxes = []
    for y, x, h, w, size in [(0, 0, 37, 53, 16), (3, 5, 20, 31, 24), (36, 52, 1, 1, 7), (10, 0, 27, 53, 48)]:
        boxes.append({"box": [y, x, h, w], "size": size,
                      "sha256": digest(F.resized_crop(rgb, y, x, h, w, [size, size], InterpolationMode.BILINEAR))})
    crops = []
    for resize, crop in [(32, 28), (37, 37), (24, 24), (25, 24), (64, 61), (20, 24), (30, 40), (16, 64), (37, 44)]:
        for turned in (False, True):
            image = rgb.transpose(Image.TRANSPOSE) if turned else rgb
            result = F.center_crop(F.resize(image, resize, InterpolationMode.BILINEAR), crop)
            crops.append({"resize": resize, "crop": crop, "turned": turned, "sha256": digest(result)})
    sizes = []
    for height, width in [(300, 451), (451, 300), (256, 256), (97, 1024), (1000, 999), (3, 1000)]:
        for shorter in (256, 232, 73):
            # Nothing is resized here: torchvision's own rule for the size.
            sizes.append({"height": height, "width": width, "shorter": shorter,
                          "result": list(F._compute_resized_output_size((height, width), [shorter]))})
    return {"resize": cases, "resized_crop": boxes, "resize_and_crop": crops, "shorter_side": sizes}


def augment_cases():
    rgb = Image.open(OUT / "png_rgb.png")
    return {
        "rotate": [{"degrees": d, "sha256": digest(rgb.rotate(d, Image.BILINEAR))}
                   for d in (0.0, 7.5, -13.25, 45.0, 90.0, 179.0, 271.125)],
        "brightness": [{"factor": f, "sha256": digest(ImageEnhance.Brightness(rgb).enhance(f))} for f in (0.0, 0.625, 1.0, 1.4375)],
        "contrast": [{"factor": f, "sha256": digest(ImageEnhance.Contrast(rgb).enhance(f))} for f in (0.0, 0.625, 1.0, 1.4375)],
        "saturation": [{"factor": f, "sha256": digest(ImageEnhance.Color(rgb).enhance(f))} for f in (0.0, 0.625, 1.0, 1.4375)],
    }


def normalise_cases():
    rgb = Image.open(OUT / "png_rgb.png")

    def record(tensor, **fields):
        data = np.ascontiguousarray(tensor.permute(1, 2, 0).numpy().astype("<f4"))
        return {**fields, "sha256": hashlib.sha256(data.tobytes()).hexdigest()}

    cases = []
    for mean, std in [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.1, 0.7), (0.31, 1.0, 0.07))]:
        cases.append(record(F.normalize(F.to_tensor(rgb), mean, std), scale=255.0, mean=mean, std=std, bgr=False))
    bytes_chw = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
    caffe = (103.939, 116.779, 123.68)
    cases.append(record(F.normalize(bytes_chw.flip(0).float(), caffe, (1.0, 1.0, 1.0)),
                        scale=1.0, mean=caffe, std=(1.0, 1.0, 1.0), bgr=True))
    return cases


def photo_cases():
    """The whole way to the network for real photographs, where they are at hand; otherwise the stored cases stay."""
    root = pathlib.Path(os.environ.get("GRAFT_TEST_DATA", pathlib.Path(__file__).parents[3] / "shared" / "data"))
    paths = sorted(root.glob("photos/*.[pj]*g"))
    for folder in sorted(root.glob("*/t*/*/")):
        paths += sorted(folder.glob("*.jpg"))[:1]
    if not paths:
        return json.loads((OUT / "reference.json").read_text())["photos"]
    cases = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        shown = F.center_crop(F.resize(image, 256), 224)
        floats = F.normalize(F.to_tensor(shown), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        floats = np.ascontiguousarray(floats.permute(1, 2, 0).numpy().astype("<f4"))
        cases.append({"path": str(path.relative_to(root)), "pixels": digest(image), "shown": digest(shown),
                      "floats": hashlib.sha256(floats.tobytes()).hexdigest()})
    return cases


def metric_cases():
    rng = np.random.default_rng(5)
    cases = []
    for name, n, classes, drop in [("binary", 23, 2, None), ("three", 31, 3, None), ("five_one_absent", 40, 5, 4),
                                   ("never_predicted", 25, 4, None)]:
        logits = rng.normal(0, 1.2, (n, classes))
        labels = rng.integers(0, classes if drop is None else drop, n)
        labels[: classes if drop is None else drop] = np.arange(classes if drop is None else drop)
        logits[np.arange(n), labels] += 0.7
        if name == "never_predicted":
            logits[:, 2] -= 20
        p = np.exp(logits)
        p = np.round(p / p.sum(1, keepdims=True), 2)  # rounding makes ties
        p[:, -1] = np.round(1 - p[:, :-1].sum(1), 2)
        p = np.clip(p, 0.01, 1)
        predicted = p.argmax(1)
        present = [c for c in range(classes) if (labels == c).any()]
        if classes == 2:
            auc = metrics.roc_auc_score(labels, p[:, 1])
        else:
            auc = np.mean([metrics.roc_auc_score(labels == c, p[:, c]) for c in present])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cases.append({
                "name": name, "classes": classes, "labels": labels.tolist(), "probabilities": p.ravel().tolist(),
                "loss": float(-np.log(p[np.arange(n), labels]).mean()),
                "accuracy": metrics.accuracy_score(labels, predicted),
                "macro_accuracy": metrics.balanced_accuracy_score(labels, predicted),
                "macro_f1": metrics.f1_score(labels, predicted, average="macro"),
                "kappa": metrics.cohen_kappa_score(labels, predicted),
                "auc": float(auc),
                "average_precision": float(np.mean([metrics.average_precision_score(labels == c, p[:, c]) for c in present])),
                "confusion": metrics.confusion_matrix(labels, predicted, labels=range(classes)).tolist(),
            })
    return cases


def main():
    OUT.mkdir(exist_ok=True)
    reference = {
        "made_with": {"pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
                      "sklearn": sklearn.__version__},
        "files": write_images(), **resize_cases(), **augment_cases(), "normalise": normalise_cases(),
        "metrics": metric_cases(), "photos": photo_cases(),
    }
    (OUT / "reference.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
