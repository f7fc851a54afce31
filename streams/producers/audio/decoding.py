"""Samples of a recording, one channel at a network's rate, a block at a time: a recording of any length in bounded memory."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.producers.extras import import_extra
from streams.producers.items import UnreadableFileError

Samples = npt.NDArray[np.float32]

# Samples of a block before resampling, of each channel.
_BLOCK: Final = 4 * 48_000
_BYTES: Final = 4 * _BLOCK
# What a recording's container may lead ffmpeg to, beside the file itself: nothing.
_FFMPEG: Final = ("-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe")


class UnreadableRecordingError(UnreadableFileError):
    """A file that holds no sound, or none that can be decoded here."""


def samples_of(path: Path, rate: int) -> Iterator[Samples]:
    """Yield the samples of a recording, float32 (s,), the mean of its channels: by libsndfile, or else by ffmpeg.

    Args:
        path: The recording.
        rate: Samples a second that are wanted.

    Raises:
        UnreadableRecordingError: it cannot be decoded; the message says why, and what is missing.
        SourceError: the extra `audio` is not installed.
    """
    soundfile: Any = import_extra("soundfile", "recordings", "audio")
    try:
        opened = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = _sentence(getattr(error, "error_string", None) or error)
        if reason.startswith("File does not exist") and path.is_file():
            reason = "it is too short to be of any format"  # what libsndfile makes of a few bytes
        yield from _by_ffmpeg(path, rate, reason)
        return
    with opened:
        try:
            yield from _resampled(
                opened.blocks(_BLOCK, dtype="float32", always_2d=True), opened.samplerate, rate
            )
        except soundfile.LibsndfileError as error:
            raise UnreadableRecordingError(f"it is damaged: {_sentence(error.error_string)}") from error


def _resampled(blocks: Iterator[Samples], given: int, wanted: int) -> Iterator[Samples]:
    if given == wanted:
        for block in blocks:
            yield block.mean(axis=1)
        return
    soxr: Any = import_extra("soxr", "recordings", "audio")
    stream = soxr.ResampleStream(given, wanted, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block.mean(axis=1))
    yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)


def _by_ffmpeg(path: Path, rate: int, reason: str) -> Iterator[Samples]:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise UnreadableRecordingError(
            f"libsndfile cannot read it ({reason}), and there is no ffmpeg that might"
        )
    wanted = ("-map", "0:a:0", "-ac", "1", "-ar", str(rate), "-f", "f32le", "-")
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603 -- ffmpeg, on a file that its user names
            [ffmpeg, *_FFMPEG, "-i", f"file:{path}", *wanted], stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read(_BYTES):
                yield np.frombuffer(chunk[: len(chunk) // 4 * 4], dtype="<f4").astype(np.float32)
            process.wait()
        finally:
            process.kill()  # nobody may want the rest
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            raise UnreadableRecordingError(
                f"neither libsndfile ({reason}) nor ffmpeg ({lines[-1] if lines else 'it failed'}) can read it"
            )


def _sentence(error: object) -> str:
    return str(error).strip().rstrip(".")
