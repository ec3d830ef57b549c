"""What one types: examples of every command, for its help and for docs/cli.md."""

from semseg_cli.settings.methods import METHODS

Example = tuple[str, str]  # what follows `semseg-cli`, and what it does

MINE = "--preset clip-in1k --imgs-root ADE20K"
OF_METHODS: dict[str, tuple[Example, ...]] = {
    "auto-feat": (
        ("auto-feat", "the demo world"),
        ("auto-feat --select causal --scale -1 --scale -2", ""),
        (f"auto-feat {MINE} --seg-ckpt head.pt", ""),
        ("auto-feat --control random", "the same on a null SAE"),
    ),
    "rand-vec": (
        ("rand-vec --match norm --select causal", "as long as the edit"),
        ("rand-vec --match norm --draws 20", "interval over draws"),
    ),
    "rand-feat": (
        ("rand-feat --select causal", "as long as the edit"),
        ("rand-feat --match frequency", "one that fires as often"),
    ),
    "mean-diff": (
        ("mean-diff --select causal", "as far as that edit"),
        ("mean-diff --match project", "take it out, no scale"),
        ("mean-diff --direction lda", ""),
    ),
    "ablate": (("ablate", "necessity"),),
    "insert": (("insert", "sufficiency"),),
}
EXAMPLES: dict[str, tuple[Example, ...]] = {
    "": (
        ("auto-feat", "the demo world"),
        ("suite --quick", "is it real?"),
        (f"doctor {MINE}", "do the parts fit?"),
    ),
    "lookup": (
        ("lookup", "the best F1 of each class"),
        ("lookup --select cause --class sky", "by what its edit does"),
    ),
    **{
        kind.command: (
            *OF_METHODS.get(kind.command, ((kind.command, "the demo world"),)),
            (f"{kind.command} --lookup semseg-runs/MINE", "latents of that run"),
        )
        for kind in METHODS
    },
    "suite": (
        ("suite --quick", "a first look, in minutes"),
        (f"suite {MINE} --seg-ckpt head.pt", ""),
    ),
    "doctor": (
        ("doctor", "the demo world"),
        (f"doctor {MINE}", "do the parts fit?"),
    ),
    "stats": (
        (f"stats {MINE} --save s.safetensors", ""),
        ("auto-feat --stats s.safetensors", "what they are for"),
    ),
    "train-head": (
        (f"train-head {MINE} --save head.pt", ""),
        ("train-head --vit-ckpt dinov2_vitb14 --imgs-root ADE20K --lr 0.001", ""),
    ),
    "compare": (
        ("compare", "the newest of each kind"),
        ("compare --per-class --top 10", "rows are classes"),
        ('compare "auto-feat x-2" semseg-runs/MINE', "by name, by folder"),
        ("compare --last 20 --sort macro_other --output runs.csv", ""),
    ),
    "ui": (("ui", "every run, in the browser"), ("ui --no-browser --port 5001", "on a server")),
    "upload": (
        ("upload semseg-runs/MINE", "to the store that the run was meant for"),
        ('upload "auto-feat x-2" --tracking-uri sqlite:///mlflow.db', ""),
    ),
    "env": (("env", "to paste into a bug report"), ("env --format json", "")),
    "demo": (("demo export my-demo", "its models, scenes and settings as files"),),
    "demo export": (
        ("demo export my-demo", ""),
        ("auto-feat --config my-demo/demo.toml", "run what was exported"),
    ),
    "demo build": (("demo build my-demo --seed 7", "another world"),),
    "cache": (("cache list", "what takes room"), ("cache clear", "all of it")),
    "cache list": (("cache list", ""), ("cache list --format json", "")),
    "cache clear": (("cache clear", "all entries"), ("cache clear 3f2a", "one, by its id")),
    "presets": (("presets list", ""), ("presets show dinov2-in1k > mine.toml", "")),
    "presets list": (("presets list", ""), ("presets list --format json", "")),
    "presets show": (("presets show dinov2-in1k > mine.toml", "to change it"),),
}


def example_lines(command: str) -> list[str]:
    """The examples of a command as they are typed, each with what it does."""
    typed = [(f"semseg-cli {words}", does) for words, does in EXAMPLES.get(command, ())]
    width = max((len(words) for words, does in typed if does), default=0)
    return [f"{words:<{width}}  # {does}" if does else words for words, does in typed]
