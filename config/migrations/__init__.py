"""The schema's versions: plain SQL files, `versions/NNNN_name.up.sql` and `.down.sql`, run in order by `runner`."""
