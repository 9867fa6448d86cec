"""The bytes on disk, as ``docs/format.md`` states them; knows neither crystals nor torch."""
