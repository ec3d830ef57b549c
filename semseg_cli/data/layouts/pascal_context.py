"""Pascal Context with 59 classes: VOC 2010 with SegmentationClassContext/ and its lists."""

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.voc2012 import voc_layout

CLASS_NAMES = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle",
    "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow",
    "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse",
    "keyboard", "light", "motorbike", "mountain", "mouse", "person", "plate", "platform",
    "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa",
    "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)  # fmt: skip

LAYOUT = voc_layout(
    "pascal-context",
    "SegmentationClassContext",
    "ImageSets/SegmentationContext",
    LabelMap(CLASS_NAMES, ignored=(0, 255), source="Pascal Context, 59 classes and 0"),
)
