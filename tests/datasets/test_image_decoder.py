"""Each format gives its own pixels, and what cannot be decoded is counted and named."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.errors import DataError, one_line
from cifar_deploy.core.records import Preprocessing
from cifar_deploy.datasets import Preparation
from cifar_deploy.datasets.image_decoder import _words
from cifar_deploy.datasets.image_folder import identify, load
from tests.datasets.folders import both, random_pixels, refused, save, zipped


def put(images: Path, name: str, content: bytes | Image.Image) -> None:
    """As the first training image, in the place of cat/0.png."""
    (images / "train/cat/0.png").unlink(missing_ok=True)
    path = images / "train/cat" / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.save(path)


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """Uncompressed in all but name, and of any header: Pillow writes no PNG of 16 bits in colour."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def tiff(tags: dict[int, tuple[int, int, int]], strip: bytes, more: bytes = b"") -> bytes:
    """Little-endian, of one strip: tag -> (type, count, value). The value 0 of 258 (bits) stands for where `more` lies."""
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags = {**tags, 273: (4, 1, start + len(more)), 279: (4, 1, len(strip))}
    entries = b"".join(
        struct.pack("<HHII", tag, kind, count, value or start) for tag, (kind, count, value) in sorted(tags.items())
    )
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + bytes(4) + more + strip


def colours() -> Image.Image:
    """With a palette of eight colours, so that GIF keeps each."""
    return Image.fromarray(random_pixels(3)).quantize(8)


@pytest.mark.parametrize("name", ["a.BMP", "a.tif", "a.TIFF", "a.ppm", "a.PNM", "a.png", "a.apng"])
def test_a_format_without_loss_gives_the_pixels_that_were_saved(images: Path, name: str) -> None:
    formats = {".pnm": "PPM", ".apng": "PNG"}
    Image.fromarray(random_pixels(9)).save(images / "train/cat" / name, formats.get(Path(name).suffix.lower()))
    for loaded in both(images):
        assert np.array_equal(
            loaded.train_images[list(loaded.train_names).index(f"train/cat/{name}")], random_pixels(9)
        )


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tiff_gives_the_pixels_that_were_saved(images: Path, compression: str) -> None:
    save(images / "train/cat/0.tif", 9, compression=compression)
    for loaded in both(images):
        assert np.array_equal(loaded.train_images[1], random_pixels(9))


@pytest.mark.parametrize(
    ("mode", "name"), [("L", "a.pgm"), ("1", "a.pbm"), ("L", "a.tiff"), ("1", "a.tif"), ("L", "a.gif")]
)
def test_grey_levels_and_bits_become_equal_channels(images: Path, mode: str, name: str) -> None:
    image = Image.fromarray(random_pixels(9)).convert(mode)
    put(images, name, image)
    for loaded in both(images):
        found = loaded.train_images[list(loaded.train_names).index(f"train/cat/{name}")]
        assert np.array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("format", "suffix"), [("GIF", "gif"), ("TIFF", "tif"), ("PNG", "png"), ("WEBP", "webp")])
def test_of_several_frames_the_first_is_read_and_that_is_said(images: Path, format: str, suffix: str) -> None:
    first, second = colours(), Image.new("P", (5, 4))
    options = {"lossless": True} if format == "WEBP" else {}
    path = images / f"train/cat/9.{suffix}"
    first.convert("RGB" if format in ("WEBP", "TIFF") else "P").save(
        path, format, save_all=True, append_images=[second.convert("RGB")], **options
    )
    with Image.open(path) as saved:
        assert saved.n_frames == 2  # type: ignore[attr-defined]
    for loaded in both(images):
        assert np.array_equal(loaded.train_images[2], np.asarray(first.convert("RGB")))
        assert loaded.warnings == (f"of 1 image the first frame alone is read: train/cat/9.{suffix}",)


def test_a_gif_of_one_frame_gives_its_palettes_colours_without_a_warning(images: Path) -> None:
    put(images, "0.gif", colours())
    for loaded in both(images):
        assert np.array_equal(loaded.train_images[0], np.asarray(colours().convert("RGB")))
        assert loaded.warnings == ()


def test_a_damaged_later_frame_is_none_that_is_read(images: Path) -> None:
    file = io.BytesIO()
    colours().save(file, "GIF", save_all=True, append_images=[Image.fromarray(random_pixels(1)).quantize(8)])
    one = io.BytesIO()
    colours().save(one, "GIF")
    put(images, "0.gif", file.getvalue()[: len(one.getvalue()) + 12])
    assert np.array_equal(load(images).train_images[0], np.asarray(colours().convert("RGB")))


def as_torchvision(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    from torchvision.datasets.folder import pil_loader

    return np.asarray(pil_loader(str(path)))


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_an_exif_rotation_is_applied_where_torchvision_does_and_counted_elsewhere(
    images: Path, suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = images / f"train/cat/9.{suffix}"
    # Pillow turns a TIFF itself as it opens it.
    turned = suffix == "tif" and orientation == 6
    Image.fromarray(random_pixels(9)).transpose(
        Image.Transpose.ROTATE_90 if turned else Image.Transpose.ROTATE_180
    ).save(path, exif=exif)
    for loaded in both(images):
        assert np.array_equal(loaded.train_images[2], as_torchvision(path))
        told = (f"1 image with an EXIF rotation, which is not applied: train/cat/9.{suffix}",)
        assert loaded.warnings == (() if suffix == "tif" else told)


MODES = {
    "grey levels": ("L", "png"),
    "bits": ("1", "png"),
    "palette": ("P", "png"),
    "grey and alpha": ("LA", "png"),
    "alpha": ("RGBA", "webp"),
    "CMYK": ("CMYK", "jpg"),
    "CMYK without loss": ("CMYK", "tif"),
    "YCbCr": ("YCbCr", "tif"),
    "Lab": ("LAB", "tif"),
    "16 bits": ("I;16", "png"),
    "16 bits in a TIFF": ("I;16", "tif"),
    "32 bits": ("I", "tif"),
    "floating point": ("F", "tif"),
}


def in_mode(mode: str) -> Image.Image:
    pixels = random_pixels(9)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", pixels.shape[1::-1], pixels.tobytes())
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("name", MODES)
def test_each_mode_gives_the_pixels_of_torchvision(images: Path, name: str) -> None:
    mode, suffix = MODES[name]
    path = images / f"train/cat/9.{suffix}"
    in_mode(mode).save(path)
    for loaded in both(images):
        assert np.array_equal(loaded.train_images[2], as_torchvision(path))
        told = (f"1 image with more than 8 bits a channel, which Pillow converted: train/cat/9.{suffix}",)
        assert loaded.warnings == (told if mode in ("I;16", "I", "F") else ())


def test_a_palette_with_a_transparent_colour_gives_the_pixels_of_torchvision(images: Path) -> None:
    path = images / "train/cat/9.png"
    colours().save(path, transparency=bytes(range(0, 80, 10)))
    assert np.array_equal(load(images).train_images[2], as_torchvision(path))


def test_damaged_exif_does_not_keep_an_image_from_being_read(images: Path) -> None:
    path = images / "train/cat/9.jpg"
    Image.fromarray(random_pixels(9)).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff\1\0")
    assert np.array_equal(load(images).train_images[2], as_torchvision(path))


ANY_SIZE = Preparation(preprocessing=Preprocessing(resize=(6,), crop=(6, 6)))


@pytest.fixture
def of_any_size(images: Path) -> Path:
    for number, path in enumerate(sorted(images.rglob("*.png"))):
        random = np.random.default_rng(number)
        Image.fromarray(random.integers(0, 256, (6 + number, 9 - number // 2, 3), np.uint8)).save(path)
    return images


def test_images_of_any_size_are_brought_to_one_as_torchvision_does(of_any_size: Path) -> None:
    from torchvision.transforms import v2

    transform = v2.Compose([v2.Resize(6), v2.CenterCrop(6)])
    for path in (of_any_size, zipped(of_any_size)):
        loaded = load(path, ANY_SIZE)
        assert loaded.preprocessing == ANY_SIZE.preprocessing and loaded.warnings == ()
        for split in ("train", "test"):
            for name, image in zip(getattr(loaded, f"{split}_names"), getattr(loaded, f"{split}_images"), strict=True):
                expected = transform(Image.open(of_any_size / name).convert("RGB"))
                assert np.array_equal(image, np.asarray(expected)), name


def test_an_image_that_is_smaller_than_the_crop_is_refused_before_it_is_decoded(of_any_size: Path) -> None:
    broken = of_any_size / "train/cat/0.png"
    Image.new("RGB", (4, 30)).save(broken)
    broken.write_bytes(broken.read_bytes()[:45])
    with pytest.raises(
        DataError, match=r"1 of 6 images are smaller than the crop: train/cat/0.png is 4×30; give a larger --resize"
    ):
        load(of_any_size, Preparation(preprocessing=Preprocessing(crop=(6, 6)), skip_broken=True))


def test_a_resize_that_makes_an_image_huge_is_refused(of_any_size: Path) -> None:
    Image.new("RGB", (1, 5000)).save(of_any_size / "train/cat/0.png")
    with pytest.raises(DataError, match=r"train/cat/0.png is 1×5,000, and 224×1,120,000 when it is resized; at most"):
        load(of_any_size, Preparation(preprocessing=Preprocessing(resize=(224,), crop=(224, 224))))


def test_images_that_cannot_be_read_can_be_left_out_and_are_counted(of_any_size: Path) -> None:
    for name in ("train/cat/0.png", "train/dog/7.png"):
        (of_any_size / name).write_bytes(b"")
    (of_any_size / "test/cat/7.png").write_bytes(b"no image")
    whole = Preparation(preprocessing=ANY_SIZE.preprocessing, skip_broken=True)
    for path in (of_any_size, zipped(of_any_size)):
        loaded = load(path, whole)
        assert loaded.train_names == ("train/cat/1.png", "train/dog/0.png", "train/dog/1.png")
        assert loaded.train_labels.tolist() == [0, 1, 1] and loaded.test_labels.tolist() == [0, 1]
        assert loaded.warnings == (
            "left out, as they cannot be read: 3 images (train/cat/0.png, train/dog/7.png is not a readable image: it is "
            "empty, and other reasons)",
        )
        for name in ("train/cat/0.png", "train/dog/7.png"):
            (of_any_size / name).unlink(missing_ok=True)
    (of_any_size / "test/cat/7.png").unlink()
    alone = load(of_any_size, ANY_SIZE)
    assert np.array_equal(alone.train_images, loaded.train_images)
    assert np.array_equal(alone.test_images, loaded.test_images)


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(of_any_size: Path) -> None:
    (of_any_size / "train/dog/none.png").symlink_to("nowhere.png")
    identify(of_any_size)
    with pytest.raises(DataError, match=r"train/dog/none\.png .*No such file.*; mend, .*--skip-broken"):
        load(of_any_size, ANY_SIZE)
    loaded = load(of_any_size, Preparation(preprocessing=ANY_SIZE.preprocessing, skip_broken=True))
    assert "train/dog/none.png" not in loaded.train_names and "left out" in str(loaded.warnings)


def test_a_class_of_which_no_image_can_be_read_is_refused(images: Path) -> None:
    (images / "test/dog/0.png").write_bytes(b"")
    with pytest.raises(DataError, match="no image of test/dog/ can be read; add some, or remove the folder"):
        load(images, Preparation(skip_broken=True))


RGB_5_6_5 = np.array([[0xF800, 0x07E0, 0x001F, 0xFFFF, 0]] * 4, "<u2")


def test_a_bmp_of_16_bits_a_pixel_has_five_or_six_a_channel(images: Path) -> None:
    rows = b"".join(row.tobytes() + bytes(2) for row in RGB_5_6_5)
    header = struct.pack("<IiiHHIIiiII", 40, 5, 4, 1, 16, 3, len(rows), 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    start = 14 + len(header) + len(masks)
    put(images, "0.bmp", struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + header + masks + rows)
    expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]
    assert load(images).train_images[0].tolist() == [expected] * 4


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("0.ppm", b"P6 5 4 1023\n" + bytes(5 * 4 * 3 * 2)),
        ("0.ppm", b"P3 5 4 1023\n" + b"0 " * (5 * 4 * 3)),
        ("0.pgm", b"P5 5 4 65535\n" + bytes(5 * 4 * 2)),
        ("0.png", png(5, 4, 16, 2, (b"\0" + bytes(30)) * 4)),
        ("0.png", png(5, 4, 16, 0, (b"\0" + bytes(10)) * 4)),
        (
            "0.tif",
            tiff(
                {
                    **{256: (3, 1, 5), 257: (3, 1, 4), 258: (3, 3, 0), 259: (3, 1, 1)},
                    **{262: (3, 1, 2), 277: (3, 1, 3), 278: (3, 1, 4)},
                },
                bytes(5 * 4 * 3 * 2),
                struct.pack("<HHH", 16, 16, 16),
            ),
        ),
        (
            "0.tif",
            tiff(
                {
                    **{256: (3, 1, 5), 257: (3, 1, 4), 258: (3, 1, 16), 259: (3, 1, 1)},
                    **{262: (3, 1, 1), 277: (3, 1, 1), 278: (3, 1, 4)},
                },
                bytes(5 * 4 * 2),
            ),
        ),
    ],
)
def test_more_than_8_bits_a_channel_are_counted_in_each_format(images: Path, name: str, content: bytes) -> None:
    put(images, name, content)
    assert load(images).warnings == (
        f"1 image with more than 8 bits a channel, which Pillow converted: train/cat/{name}",
    )


def test_a_ppm_of_fewer_levels_is_read(images: Path) -> None:
    put(images, "0.ppm", b"P6 5 4 3\n" + bytes([0, 1, 3] * 20))
    assert load(images).train_images[0].tolist() == [[[0, 85, 255]] * 5] * 4


def a_truncated_png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(random_pixels(1)).save(file, "PNG")
    return file.getvalue()[:60]


UNREADABLE = {
    "empty": (b"", "it is empty"),
    "text": (b"I am no image", "none of PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM"),
    "truncated": (a_truncated_png(), "truncated"),
    "a bomb": (png(20_000, 20_000, 8, 2, b""), "more than the 16,777,216 pixels"),
    "too large": (png(5000, 5000, 8, 2, b""), "is 5,000×5,000, and at most 16,777,216 pixels"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n", "none of PNG"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_image_that_cannot_be_read_is_named_with_the_reason(images: Path, kind: str) -> None:
    content, reason = UNREADABLE[kind]
    put(images, "0.png", content)
    for path in (images, zipped(images)):
        message = refused(path, "train/cat/0.png ")
        assert reason in message and message.endswith("; mend, convert or remove it, or leave it out by --skip-broken")
        assert "0x" not in message and "object" not in message


def test_all_images_that_cannot_be_read_are_counted_and_some_named(images: Path) -> None:
    for number, (content, _) in enumerate(UNREADABLE.values()):
        (images / f"train/dog/bad{number}.png").write_bytes(content)
    for number in range(12):
        (images / f"test/cat/bad{number}.png").write_bytes(b"")
    for path in (images, zipped(images)):
        message = refused(path, "18 of 24 images cannot be read: ")
        assert (
            "train/dog/bad0.png, test/cat/bad0.png, test/cat/bad1.png and 10 more (is not a readable image: it is empty)"
            in message
        )
        assert "and other reasons; mend, convert or remove them, or leave them out by --skip-broken" in message
        assert "0x" not in message and "object" not in message
        line = one_line(f"cifar-deploy: error: {message}")
        assert "18 of 24 images cannot be read" in line and "remove them" in line


def test_an_exceptions_words_have_no_address() -> None:
    error = OSError(f"cannot identify {io.BytesIO()!r}")
    assert _words(error) == "cannot identify it"
    assert _words(ValueError()) == "ValueError"


def test_the_images_of_another_size_are_counted_against_the_usual_one(images: Path) -> None:
    for number in range(2):
        Image.new("RGB", (8, 6)).save(images / f"train/cat/{number}.png")
    refused(
        images,
        r"2 of 6 images have another size: train/cat/0.png is 8×6, train/cat/1.png is 8×6, but train/dog/0.png is 5×4; "
        "bring all images to one size by --size",
    )


def test_an_encrypted_zip_is_refused_with_that_reason(images: Path) -> None:
    path = zipped(images)
    with zipfile.ZipFile(path) as archive:
        headers = [info.header_offset for info in archive.infolist()]
    content = bytearray(path.read_bytes())
    for header in headers:
        content[header + 6] |= 1
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 8] |= 1
        place = content.find(b"PK\x01\x02", place + 1)
    path.write_bytes(content)
    refused(path, r"6 of 6 images cannot be read: .* and 3 more \(is encrypted\)")
