"""What `python -m metrics` measures: a folder of generated images, their references, their captions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from metrics.captions import read_captions
from metrics.errors import InputError
from metrics.folders import ImageFolder, left_out, unreadable_line

if TYPE_CHECKING:
    from metrics.references import References

_COMPARE_PAIRS = ("lpips", "psnr", "ssim")
_READ_PROMPTS = ("clip_score",)


@dataclass(frozen=True)
class Inputs:
    """Folders whose images can be read, and captions.

    Attributes:
        generated: The images to evaluate.
        references: What they are compared with, if anything.
        prompts: The caption of each generated image, None for one without; None where there is no table of them.
        notes: What was not read, in lines.
    """

    generated: ImageFolder
    references: ImageFolder | None
    prompts: list[str | None] | None
    notes: list[str]

    def compared_with(self, chosen: Sequence[str]) -> "References | None":
        """The references as a set, and paired with the generated images by name.

        Args:
            chosen: The metrics that were asked for by name.

        Raises:
            InputError: an image has no reference, or no caption, and a metric that needs it was asked for.
        """
        # Imported late: it loads torch.
        from metrics.references import References

        if self.prompts and None in self.prompts:
            image = self.generated.folder / self.generated.names[self.prompts.index(None)]
            _refuse(chosen, _READ_PROMPTS, f"{image}: no caption", "its caption")
        if self.references is None:
            return None
        known = {*self.references.names}
        unpaired = next((name for name in self.generated.names if name not in known), None)
        if unpaired is None:
            return References(self.references, ImageFolder(self.references.folder, self.generated.names))
        reason = f"{self.references.folder / unpaired}: no such reference"
        _refuse(chosen, _COMPARE_PAIRS, reason, "the reference of its name")
        return References(self.references, None, reason)


def read_inputs(
    generated: ImageFolder, references: ImageFolder | None, prompts: str | None, skip_bad_images: bool = False
) -> Inputs:
    """Read the captions, and decode each image to see whether that can be done.

    Args:
        generated: The generated images.
        references: The references.
        prompts: The table of captions.
        skip_bad_images: Whether images that cannot be read are left out; a reference takes the generated image of its
            name with it, so that the others still make pairs.

    Raises:
        InputError: images that cannot be read, or see `read_captions`.
    """
    # First, for it takes no time.
    captions, unmatched = (None, None) if prompts is None else read_captions(prompts, generated)
    folders = [generated] if references is None else [generated, references]
    with tqdm(total=sum(map(len, folders)), desc="reading", unit="image", leave=False, disable=None) as bar:
        reasons = [folder.unreadable(bar.update) for folder in folders]
    # One folder may be given as both.
    bad = dict.fromkeys(
        unreadable_line(one.folder, len(one), why) for one, why in zip(folders, reasons, strict=True) if why
    )
    if bad and not skip_bad_images:
        raise InputError(f"{'; '.join(bad)}; --skip-bad-images leaves them out")
    notes = [f"{line}; left out" for line in bad]
    used = [] if prompts is None else [Path(prompts)]
    for folder in folders:
        if others := left_out([folder.folder / name for name in folder.names], folder.others, used):
            notes.append(f"{folder.folder}: left out: {others}")
    notes = [*dict.fromkeys(notes)]

    images, *compared = [_without(folder, why) for folder, why in zip(folders, reasons, strict=True)]
    if lost := [name for name in images.names if compared and name in reasons[1]]:
        images = _without(images, lost)
        notes.append(f"{generated.folder}: {len(lost):,} more left out, whose references cannot be read")
    if captions is not None:
        caption_of = dict(zip(generated.names, captions, strict=True))
        captions = [caption_of[name] for name in images.names]
    return Inputs(images, compared[0] if compared else None, captions, [*notes, *([unmatched] if unmatched else [])])


def _without(folder: ImageFolder, names: Collection[str]) -> ImageFolder:
    kept = [name for name in folder.names if name not in names]
    if not kept:
        raise InputError(f"{folder.folder}: none of its {len(folder):,} images can be used: all are left out")
    return ImageFolder(folder.folder, kept)


def _refuse(chosen: Sequence[str], metrics: Sequence[str], reason: str, other: str) -> None:
    for metric in chosen:
        if metric in metrics:
            raise InputError(f"{reason}, and {metric} compares each image with {other}")
