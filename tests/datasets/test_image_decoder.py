"""Each format gives its own pixels, and what cannot be decoded is counted and named."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_deploy.core.errors import one_line
from cifar_deploy.datasets.image_decoder import _words
from cifar_deploy.datasets.image_folder import load
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


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_an_image_that_says_how_it_is_turned_is_turned_once(images: Path, suffix: str) -> None:
    half = np.zeros((5, 4, 3), np.uint8)
    half[:2] = 255  # the upper two of five rows; turned by 90° clockwise, the right two of five columns
    exif = Image.Exif()
    exif[0x0112] = 6
    path = images / f"train/cat/9.{suffix}"
    Image.fromarray(half).save(path, exif=exif, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    image = load(images).train_images[2].astype(int)
    assert (image[:, 3:] > 200).all() and (image[:, :3] < 50).all()


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
def test_more_than_8_bits_a_channel_are_refused_in_each_format(images: Path, name: str, content: bytes) -> None:
    put(images, name, content)
    refused(images, f"train/cat/{name} has more than 8 bits a channel")


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
    "16 bits": (png(5, 4, 16, 2, (b"\0" + bytes(30)) * 4), "has more than 8 bits a channel"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_image_that_cannot_be_read_is_named_with_the_reason(images: Path, kind: str) -> None:
    content, reason = UNREADABLE[kind]
    put(images, "0.png", content)
    for path in (images, zipped(images)):
        message = refused(path, "train/cat/0.png ")
        assert reason in message and message.endswith("; mend, convert or remove it")
        assert "0x" not in message and "object" not in message


def test_all_images_that_cannot_be_read_are_counted_and_some_named(images: Path) -> None:
    for number, (content, _) in enumerate(UNREADABLE.values()):
        (images / f"train/dog/bad{number}.png").write_bytes(content)
    for number in range(12):
        (images / f"test/cat/bad{number}.png").write_bytes(b"")
    for path in (images, zipped(images)):
        message = refused(path, "19 of 25 images cannot be read: ")
        assert (
            "train/dog/bad0.png, test/cat/bad0.png, test/cat/bad1.png and 10 more (is not a readable image: it is empty)"
            in message
        )
        assert message.endswith("and other reasons; mend, convert or remove them")
        assert "0x" not in message and "object" not in message
        line = one_line(f"cifar-deploy: error: {message}")
        assert "19 of 25 images cannot be read" in line and "remove them" in line


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
        "bring all images to one size",
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
