"""The axis of the channels of images: before height and width, or after them."""

from typing import Literal

Channels = Literal["first", "last"]
CHANNELS = ("first", "last")
# The numbers of channels of gray, color, and color with opacity.
USUAL = (1, 3, 4)


def find_channels(
    shape: tuple[int, ...], channels: Channels | None = None, *, unclear: Channels | None = None
) -> Channels | None:
    """Where the channels of images of a shape are.

    Three sizes are taken for (channels, height, width) if only the first of them is 1, 3 or 4, and for
    (height, width, channels) if only the last of them is.

    Args:
        shape: the shape of an image.
        channels: "first" or "last", which settles it; None to detect it.
        unclear: the answer if the shape can be read in both ways or in neither, which is an error by default.

    Returns:
        "first", "last", or None for images without an axis of channels.

    Raises:
        ValueError: if `channels` is another word, is given for images without such an axis, or is needed.
    """
    if channels is not None and channels not in CHANNELS:
        raise ValueError(f'channels must be "first" or "last", but is {channels!r}.')
    if len(shape) != 3:
        if channels is not None:
            raise ValueError(
                f"channels={channels!r} needs images with three axes, but an image has shape {tuple(shape)}."
            )
        return None
    if channels is not None:
        return channels
    first, last = shape[0] in USUAL, shape[2] in USUAL
    if first == last and unclear is not None:
        return unclear
    if first == last:
        both = "both the first and the last" if first else "neither the first nor the last"
        raise ValueError(
            f"images of shape {tuple(shape)} may be (channels, height, width) or (height, width, channels), because "
            f'{both} of these sizes is 1, 3 or 4: give channels="first" or channels="last".'
        )
    return "first" if first else "last"
