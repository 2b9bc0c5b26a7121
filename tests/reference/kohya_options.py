"""The options under which kohya's tagger was run, by the name of the file that holds what it wrote."""

# Without it kohya's script stops at the first character; see tests/golden/tag_kohya/README.md.
NO_CHARACTERS = ("--character_threshold", "1.1")

OPTIONS: dict[str, tuple[str, ...]] = {
    "default": NO_CHARACTERS,
    "characters": (),
    "remove_underscore": ("--remove_underscore",),
    "thresh": ("--thresh", "0.5", *NO_CHARACTERS),
    "general_threshold": ("--general_threshold", "0.7"),
    "character_threshold": ("--character_threshold", "0.6"),
    "use_rating_tags": ("--use_rating_tags", *NO_CHARACTERS),
    "use_rating_tags_as_last_tag": ("--use_rating_tags_as_last_tag",),
    "undesired_tags": ("--undesired_tags", "solo, shiro,long_hair"),
    "always_first_tags": ("--always_first_tags", "smile", *NO_CHARACTERS),
    "two_always_first_tags": ("--always_first_tags", "smile,scarf", *NO_CHARACTERS),
    "character_tags_first": ("--character_tags_first",),
    "character_tag_expand": ("--character_tag_expand",),
    "caption_separator": ("--caption_separator", "; ", "--undesired_tags", "solo;hat", *NO_CHARACTERS),
    "append_tags": ("--append_tags",),
    "batch_size": ("--batch_size", "4", "--max_data_loader_n_workers", "2", *NO_CHARACTERS),
}
# What kohya's script wrote before the run that appends.
BEFORE_APPENDING = ("--thresh", "0.8", *NO_CHARACTERS)
